"""Stopping a machine and letting it go on, one instruction or for good; its memory as a program on it sees it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import NamedTuple

from ..hv.exits import Debug, Kick, Watched
from ..hv.vcpu import Vcpu
from ..machine import Machine
from .history import History, history_of

QUANTUM = 1000
"""Instructions that other vCPUs execute while one executes a single one."""


class Stop(NamedTuple):
    """Why the machine stopped: where `vcpu` is, and what it met there (None: it was asked to, or made its step)."""

    vcpu: Vcpu
    why: Debug | Watched | None


class Control:
    """What a debugger does to a machine. One thread uses it; `on_stop` is called on threads of vCPUs.

    Of several debuggers each lets the machine go on for itself: it runs when none of them holds it.
    """

    def __init__(self, machine: Machine, on_stop: Callable[[], None], name: str = "a debugger") -> None:
        self.machine, self.name = machine, name
        self._stopper = machine.stops.open(self._stopped, name=name)
        self.breakpoints, self.watchpoints = self._stopper.breakpoints, self._stopper.watchpoints
        self._stops: queue.SimpleQueue[Stop] = queue.SimpleQueue()
        self._met: dict[Vcpu, int] = {}  # where vCPUs stopped since the last `go`
        self._on_stop = on_stop
        machine.on_end.append(on_stop)
        self.history: History | None = None
        """The past of a deterministic machine, since `keep_history`."""

    def keep_history(self) -> None:
        """Be able to go back to here from now on, if the machine can; it is held."""
        self.history = history_of(self.machine)

    def changed(self) -> None:
        """A debugger changed registers or memory: what the machine did is not what it would do again."""
        self.machine.changed()

    def close(self) -> None:
        """Leave no trace: nothing stops any more, and the machine goes on unless somebody else holds it."""
        if self.history is not None:
            self.history.close()
        self._stopper.close()
        self.machine.on_end.remove(self._on_stop)

    @property
    def vcpus(self) -> list[Vcpu]:
        """The machine's vCPUs."""
        return self.machine.vcpus

    # ---- stop and go -----------------------------------------------------------------------------------------------

    def _stopped(self, vcpu: Vcpu, exit_: Debug | Watched) -> None:
        self._met[vcpu] = int(vcpu.state.pc)
        self._stops.put(Stop(vcpu, exit_))
        self._on_stop()

    def stopped(self) -> Stop | None:
        """What stopped the machine since `go`; None when nothing did. Who came later meets it again."""
        try:
            stop = self._stops.get_nowait()
        except queue.Empty:
            return None
        self.hold()
        return stop

    def hold(self) -> None:
        """Stop every vCPU between two instructions; time stands still."""
        self._stopper.hold()
        if self.machine.lockstep is not None:
            self.machine.lockstep.rest()

    def go(self) -> None:
        """Let all vCPUs go on until one meets a breakpoint or watchpoint."""
        self._prepare()
        self._stopper.release()

    def _prepare(self) -> None:
        self._stopper.apply()
        if self.history is not None:
            self.history.leave()
        while not self._stops.empty():
            self._stops.get_nowait()
        self._met.clear()

    def leave(self) -> None:
        """As `go`, but what `Machine.hold` holds stays held, as it would have been without this debugger."""
        self._prepare()
        self._stopper.leave()

    def detach(self) -> None:
        """Let the machine go on, which nothing stops any more."""
        self.breakpoints.clear()
        self.watchpoints.clear()
        self.go()

    def go_past(self) -> None:
        """As `go`; what stopped vCPUs where they are now does not stop them there again."""
        for vcpu, pc in list(self._met.items()):
            if int(vcpu.state.pc) == pc:
                vcpu.pass_stop()
        self.go()

    def apply(self) -> None:
        """Make a change of breakpoints and watchpoints true before the next `go`."""
        self._stopper.apply()

    @property
    def holding(self) -> bool:
        """Whether this debugger holds the machine."""
        return self._stopper.holding

    @property
    def others_holding(self) -> list[str]:
        """Names of other debuggers that hold the machine."""
        return self._stopper.others_holding

    def step(self, vcpu: Vcpu, others: bool = False) -> Stop:
        """Execute one instruction, interrupts waiting; with `others`, other vCPUs execute some meanwhile.

        In a deterministic machine all go on as they would, and interrupts come when they would.
        """
        if self.machine.lockstep is not None:
            self.hold()
            who, why = self.machine.lockstep.step(vcpu)
            self.machine.life.settle()
            return Stop(who, why)
        if others:
            self._stopper.apply()
            for other in self.vcpus:
                if other is not vcpu and not other.halted and not int(other.state.waiting):
                    if (stop := self._execute(other, QUANTUM)) is not None:
                        return stop
        if not int(vcpu.state.waiting):
            vcpu.pass_stop()
        return self._execute(vcpu, 1) or Stop(vcpu, None)

    def _execute(self, vcpu: Vcpu, count: int) -> Stop | None:
        """Execute so many instructions on this thread, or until something stops it."""
        end = vcpu.instructions + count
        while (left := end - vcpu.instructions) > 0:
            exit_ = self.machine.run_held(vcpu, left)
            if isinstance(exit_, Debug | Watched):
                return Stop(vcpu, exit_)
            if self.machine.ended or vcpu.halted or isinstance(exit_, Kick) and int(vcpu.state.waiting):
                break
        return None

    def step_back(self, vcpu: Vcpu) -> Stop | None:
        """Undo one instruction of a vCPU; None at the beginning of history. Needs `history`."""
        assert self.history is not None
        return Stop(vcpu, None) if self.history.step(vcpu) else None

    def go_back(self, unwanted: Callable[[], bool] = lambda: False) -> Stop | None:
        """Go back to the last breakpoint or watchpoint; None at the beginning of history. Needs `history`.

        Raises Interrupted, on the way there, when `unwanted` says True.
        """
        assert self.history is not None
        met = self.history.continue_(unwanted)
        return None if met is None else Stop(*met)

    # ---- memory ----------------------------------------------------------------------------------------------------

    def read(self, vcpu: Vcpu, ea: int, length: int) -> bytes:
        """Memory as a vCPU sees it; less than asked for where it ends. Raises Unmapped when there is none."""
        return self.machine.cpus[vcpu.index].memory.read(ea, length)

    def write(self, vcpu: Vcpu, ea: int, data: bytes) -> None:
        """Change memory as a vCPU sees it, permissions aside. Raises Unmapped, having written nothing."""
        self.machine.cpus[vcpu.index].memory.write(ea, data)

    def read_physical(self, pa: int, length: int) -> bytes:
        """Physical memory, or a device's registers. Raises Unmapped."""
        return self.machine.memory.read(pa, length)

    def write_physical(self, pa: int, data: bytes) -> None:
        """Change physical memory, or a device's registers. Raises Unmapped."""
        self.machine.memory.write(pa, data)
