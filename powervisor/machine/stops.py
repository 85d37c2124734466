"""Who stops a machine where: debuggers, which hold it there, and hooks, which look and let it go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..hv.exits import Debug, Watched
from ..hv.stops import Breakpoint, Watchpoint
from ..hv.vcpu import Vcpu

if TYPE_CHECKING:
    from .machine import Machine


class Stopper:
    """Breakpoints and watchpoints of one who cares, `name` in messages; `apply` makes a change of them true.

    `on_stop` is told on the vCPU's thread which one was met there, the machine being held already if the stopper
    `holds`.
    """

    def __init__(
        self, stops: MachineStops, on_stop: Callable[[Vcpu, Debug | Watched], None], holds: bool, name: str
    ) -> None:
        self.breakpoints: set[Breakpoint] = set()
        self.watchpoints: set[Watchpoint] = set()
        self.on_stop, self.holds, self.name = on_stop, holds, name
        self._stops = stops

    def hold(self) -> None:
        """Hold the machine until `release`."""
        self._stops.hold(self)

    def release(self) -> None:
        """Let it go on, unless another stopper holds it too."""
        self._stops.release(self)

    def leave(self) -> None:
        """Hold it no more; it goes on unless somebody else holds it: another stopper, or `Machine.hold`."""
        self._stops.leave(self)

    @property
    def holding(self) -> bool:
        """Whether it holds the machine."""
        return self in self._stops.holding

    @property
    def others_holding(self) -> list[str]:
        """Names of other stoppers that hold the machine."""
        return [other.name for other in self._stops.holding if other is not self]

    def apply(self) -> None:
        """Let vCPUs stop at what is in the sets now."""
        self._stops.apply()

    def close(self) -> None:
        """Stop nobody any more, and `leave`."""
        self.breakpoints.clear()
        self.watchpoints.clear()
        self._stops.remove(self)

    def meant(self, vcpu: Vcpu, exit_: Debug | Watched) -> bool:
        """Whether it asked for this stop."""
        if isinstance(exit_, Watched):
            return any(watch.covers(exit_.address, exit_.write) for watch in self.watchpoints)
        pc, key = int(vcpu.state.pc), int(vcpu.state.context_key)
        return any(stop.address == pc and stop.concerns(key) for stop in self.breakpoints)


class MachineStops:
    """All stoppers of a machine. It runs when none of them holds it; `turn` is the machine's lock of holding.

    `Machine.hold`, and so -S, is undone by whoever asks for the machine to go on (`release`), not by who leaves.
    """

    def __init__(self, machine: Machine, turn: threading.RLock) -> None:
        self._machine, self._turn = machine, turn
        self.holding: tuple[Stopper, ...] = ()
        self.by_program = False
        """Whether `Machine.hold` holds it, besides them."""
        self._stoppers: tuple[Stopper, ...] = ()
        self._set: tuple[frozenset[Breakpoint], frozenset[Watchpoint]] = frozenset(), frozenset()

    def open(
        self, on_stop: Callable[[Vcpu, Debug | Watched], None], holds: bool = True, name: str = "a debugger"
    ) -> Stopper:
        """A new stopper, which stops nothing yet. `dnh` stops for all those that hold."""
        stopper = Stopper(self, on_stop, holds, name)
        with self._machine.lock:
            self._stoppers += (stopper,)
        return stopper

    def remove(self, stopper: Stopper) -> None:
        """It is gone, and what it asked for."""
        with self._machine.lock:
            self._stoppers = tuple(other for other in self._stoppers if other is not stopper)
        self.apply()
        self.leave(stopper)

    def hold(self, stopper: Stopper) -> None:
        """Hold the machine, for this stopper too; one that is gone meanwhile would never let it go on."""
        with self._turn:
            if stopper not in self._stoppers:
                return
            if stopper not in self.holding:
                self.holding += (stopper,)
            self._machine.stand()

    def release(self, stopper: Stopper) -> None:
        """This stopper lets the machine go on, which it does when no other holds it."""
        with self._turn:
            self.holding = tuple(other for other in self.holding if other is not stopper)
            self.by_program = False
            if not self.holding:
                self._machine.release()

    def leave(self, stopper: Stopper) -> None:
        """This stopper holds the machine no more, which goes on if nobody else does."""
        with self._turn:
            held = stopper in self.holding
            self.holding = tuple(other for other in self.holding if other is not stopper)
            if held and not (self.holding or self.by_program or self._machine.run_stopped):
                self._machine.release()

    def apply(self) -> None:
        """Let vCPUs stop at what is in the sets of all stoppers now."""
        breakpoints = frozenset[Breakpoint]().union(*(stopper.breakpoints for stopper in self._stoppers))
        watchpoints = frozenset[Watchpoint]().union(*(stopper.watchpoints for stopper in self._stoppers))
        if (breakpoints, watchpoints) != self._set:
            self._machine.vm.set_stops(breakpoints, watchpoints)
            self._set = breakpoints, watchpoints

    @property
    def held_by_somebody(self) -> bool:
        """Whether there is a stopper that holds the machine."""
        return any(stopper.holds for stopper in self._stoppers)

    def lift(self) -> None:
        """Let nobody be stopped until the next `apply`."""
        if any(self._set):
            self._machine.vm.set_stops((), ())
            self._set = frozenset(), frozenset()

    def met(self, vcpu: Vcpu, exit_: Debug | Watched) -> None:
        """A vCPU stopped, on its thread: tell whoever asked for it; nobody holds it, so it goes on."""
        for stopper in self.look(vcpu, exit_):
            self.hold(stopper)
            stopper.on_stop(vcpu, exit_)

    def look(self, vcpu: Vcpu, exit_: Debug | Watched) -> list[Stopper]:
        """Tell those of a stop that only look; who holds because of it. Without any, the vCPU will pass."""
        stoppers = self._stoppers
        meant = [stopper for stopper in stoppers if stopper.meant(vcpu, exit_)]
        pc = int(vcpu.state.pc)
        for stopper in meant:
            if not stopper.holds:
                stopper.on_stop(vcpu, exit_)
        holders = [stopper for stopper in meant or stoppers if stopper.holds]
        if not holders and int(vcpu.state.pc) == pc:
            vcpu.pass_stop()
        return holders
