"""Deterministic machines: all vCPUs in turns on one thread, and time made of the instructions they execute.

A *round* gives every vCPU one turn of so many instructions. Time stands still within a round, and nothing comes from
outside: interrupts are taken where a turn begins, after a device answered, and by instructions that let them in.
Between two rounds time passes, a nanosecond or more for each instruction, timers and devices have their appointments,
and what came from outside is let in. A round ends where the next appointment is due; when every vCPU waits, time goes
there at once. None of this knows whether code was translated, compiled or executed one at a time.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..boards.board import SERIAL
from ..devices.clock import ManualClock
from ..devices.worker import Bell
from ..hv.exits import Debug, Exit, Hcall, Kick, Mmio, Watched
from ..hv.vcpu import Vcpu
from .cables import Cables
from .digest import digest
from .inputs import POWER, RESET, TIME, Button, Channel, Inputs
from .timing import Position, Randomness, Timing

if TYPE_CHECKING:
    from ..console.chardev import Chardev, PortChardev
    from ..devices.services import Services
    from .machine import Machine
    from .tape import Tape

BILLION = 1_000_000_000
_LOOK_AGAIN = 0.05
"""Seconds a machine whose vCPUs all wait for ever looks away from what else may be wanted of it."""
_SAVED = ("round", "_turn", "_begun", "_length", "_left", "_longest", "_starved")
"""What `save` keeps as it is."""


class _Inline:
    """A device's worker without a thread: its work is done when the access that asked for it is over."""

    def __init__(self, work: Callable[[], None], rung: deque[_Inline]) -> None:
        self.work, self._rung = work, rung
        self.waits = False

    def ring(self) -> None:
        if not self.waits:
            self.waits = True
            self._rung.append(self)

    def close(self) -> None:
        """Nothing is on its way."""


class Lockstep:
    """The turns of a machine's vCPUs. One thread at a time takes them: the machine's own, or a debugger's."""

    def __init__(
        self, machine: Machine, timing: Timing, answer: Callable[[Vcpu, Exit], bool], drain: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`answer` is given exits; `drain` has what the guest printed passed on; `warn` is given lines for the user."""
        self.timing, self._answer_exit, self._drain, self.warn = timing, answer, drain, warn
        self.tape: Tape | None = None
        """Where input is recorded, or comes from."""
        self.clock = ManualClock()
        self.inputs = Inputs()
        self.inputs.sources |= {
            RESET: Button(lambda: machine.power.button()), POWER: Button(lambda: machine.power.push_power_button()),
        }  # fmt: skip
        self.random = Randomness(timing.seed)
        self.lock = threading.RLock()
        """Held while a turn is taken and its exit answered."""
        self.active = False
        """Whether `run` is what takes the turns."""
        self.round = 0
        self.executed = [0] * machine.topology.vcpus
        """Instructions of each vCPU since power-on, those before a reset included."""
        self.on_round: Callable[[], None] = lambda: None
        """Told before a round begins."""
        self.on_changed: Callable[[], None] = lambda: None
        """Told before the machine goes on after somebody `changed` it."""
        self._changed = False
        self._machine = machine
        self._turn, self._turns = 0, machine.topology.vcpus
        self._begun = False
        self._length = self._left = timing.quantum
        self._longest = 0
        self._starved = False
        self._asleep_since: float | None = None
        """When, by the host's clock, all vCPUs began to wait."""
        self._wakes_at = 0.0
        """When they go on, unless something comes from outside."""
        self._worked_at = 0.0
        """When `work` ended last; the gate may have been closed since."""
        self._goal: Position | None = None
        self._channels: list[Channel] = []
        self.due: deque[Callable[[], None]] = deque()
        self._rung: deque[_Inline] = deque()
        self.cables = Cables(self.inputs, self.hire)

    # ---- what the machine uses -------------------------------------------------------------------------------------

    def hire(self, name: str, work: Callable[[], None]) -> Bell:
        """A worker without a thread; see `devices.worker.Hire`."""
        return _Inline(work, self._rung)

    def seed(self) -> bytes:
        """32 bytes for the guest's random pool."""
        return hashlib.sha256(b"rng-seed/%d" % self.timing.seed).digest()

    def wall_clock(self) -> float:
        """Seconds since 1970."""
        return self.timing.start + self.clock.now_ns() / BILLION

    def wall_clock_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self.timing.start * BILLION + self.clock.now_ns()

    def serial_channels(self, chardevs: Sequence[Chardev | None]) -> list[Chardev | None]:
        """Serial lines with their input taken in between rounds."""
        return [
            None if chardev is None else self._channel(f"{SERIAL}{n}", chardev) for n, chardev in enumerate(chardevs)
        ]

    def lend(self, services: Services, chardevs: Mapping[str, PortChardev]) -> dict[str, PortChardev]:
        """Have devices work without threads and chance; their chardevs as `serial_channels`."""
        services.hire, services.random, services.concurrent = self.hire, self.random, False
        return {name: self._channel(f"chardev {name}", chardev) for name, chardev in chardevs.items()}

    def _channel(self, name: str, chardev: Chardev) -> Channel:
        self._channels.append(Channel(name, chardev, self.inputs))
        return self._channels[-1]

    def later(self, call: Callable[[], None]) -> bool:
        """Do something when the exit has been answered, or the round is over: True."""
        self.due.append(call)
        return True

    @property
    def position(self) -> Position:
        """Where the machine is; nobody takes turns."""
        return Position(self.round, self._turn, self._length - self._left if self._begun else 0, self._begun)

    @property
    def next(self) -> Vcpu:
        """Whose turn it is, or will be."""
        return self._machine.vcpus[self._turn % len(self._machine.vcpus)]

    def statistics(self) -> dict[str, Any]:
        """What is the same whenever the machine did the same; it is held, or has ended."""
        with self.lock:
            return {
                "rounds": self.round,
                "instructions": list(self.executed),
                "guest-ns": self.clock.now_ns(),
                "hash": digest(self._machine),
            }

    # ---- going back ------------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Where in its turns the machine is, and what it had from outside; see `checkpoint`."""
        kept: dict[str, Any] = {name: getattr(self, name) for name in _SAVED}
        kept["executed"] = list(self.executed)
        kept["random"], kept["inputs"] = self.random.position, self.inputs.position
        kept["sent"], kept["cables"] = [channel.sent for channel in self._channels], self.cables.save()
        return kept

    def restore(self, kept: dict[str, Any]) -> None:
        """Be where `save` was."""
        self.inputs.go_back(kept["inputs"], kept["round"])
        for name in _SAVED:
            setattr(self, name, kept[name])
        self.executed, self._asleep_since = list(kept["executed"]), None
        self.random.position = kept["random"]
        for channel, sent in zip(self._channels, kept["sent"], strict=True):
            channel.sent = sent
        self.cables.restore(kept["cables"])
        self._set_time()

    def begin(self) -> None:
        """The machine was switched on. Raises UserError when it is another one than was recorded."""
        self._set_time()
        if self.tape is not None:
            self.tape.begin()
        self._changed = False  # what was changed before is what it begins with

    def finish(self, outcome: str) -> None:
        """The machine has stopped."""
        self.tell_changes()
        if self.tape is not None:
            self.tape.finish(outcome)

    def moved(self) -> None:
        """The machine goes on from elsewhere, with a turn of the first vCPU; it is held."""
        with self.lock:
            elapsed = self._machine.vm.elapsed_ns
            self._set_time()
            self._machine.vm.elapsed_ns = elapsed
            self._turn = self._longest = 0
            self._begun = self._starved = False
            self._length = self._left = self.timing.quantum
            self.random.position, self._asleep_since = 0, None
            self.forget_work()
            self.cables.moved()
            self.changed()

    def changed(self) -> None:
        """Somebody changed the machine between two instructions: what comes after is not what came. Takes no lock."""
        self._changed = True

    def tell_changes(self) -> None:
        """Tell those who keep the past that it is no more, if the machine was changed; it does not run."""
        with self.lock:
            if self._changed:
                self._changed = False
                self.inputs.forget_future()
                for channel in self._channels:
                    channel.begin_anew()
                self.cables.begin_anew()
                if self.tape is not None:
                    self.tape.changed()
                self.on_changed()

    def forget_work(self) -> None:
        """Nothing is left to be done for what happened before `restore`."""
        self.due.clear()
        while self._rung:
            self._rung.pop().waits = False

    # ---- turns -----------------------------------------------------------------------------------------------------

    def work(self) -> bool:
        """Take one turn on the machine's thread; False at the end."""
        if self._asleep_since is not None:
            held = time.monotonic() - self._worked_at  # before the gate: no time passed for the guest
            self._asleep_since, self._wakes_at = self._asleep_since + held, self._wakes_at + held
            self.inputs.await_news(min(self._wakes_at - time.monotonic(), _LOOK_AGAIN))
        elif self._starved:
            self.inputs.await_news(_LOOK_AGAIN)
        with self.lock:
            if self._machine.vm.open:
                self.advance(held=False)
        self._machine.life.settle()
        self._worked_at = time.monotonic()
        return not self._machine.ended

    @property
    def at_rest(self) -> bool:
        """Whether the last turn is over, with all that came of it; the machine is held, or this may change."""
        free = self.lock.acquire(blocking=False)
        if free:
            self.lock.release()
        return free

    def rest(self) -> None:
        """Wait until it is `at_rest`. Not under locks of the machine."""
        with self.lock:
            pass

    def advance(self, most: int | None = None, held: bool = True, debugger: bool = False) -> Debug | Watched | None:
        """Go on with the turn that it is, for at most so many instructions, and with what comes after.

        `held` says that the machine is: the caller takes its turns. A `debugger` is told where it stops.
        """
        if self._changed:
            self.tell_changes()
        if self.tape is not None:
            if self.tape.ends_here():
                return None
            most = self.tape.limit(most)
        if self._round_is_over and not self._end_round(sleeps=not held):
            return None
        machine, vcpu = self._machine, self.next
        begun = self._begun
        if not begun:
            self._begun, self._left = True, self._length
            vcpu.let_interrupts()
        before = vcpu.instructions
        budget = self._left if most is None else min(most, self._left)
        if (bound := machine.vm.tracing.most_at_once) is not None:
            budget = min(budget, bound)
        if held:
            exit_ = machine.vm.run(vcpu, budget)
        else:
            admitted, exit_ = machine.vm.admit(vcpu, budget)
            if not admitted:
                self._begun = begun  # no interrupt was taken
                return None
        done = vcpu.instructions - before
        self._left -= done
        self.executed[self._turn] += done
        stop = self._answer(vcpu, exit_, debugger)
        if self._left <= 0 or type(exit_) is Kick:
            executed = self._length - self._left
            self._longest = max(self._longest, executed)
            if not vcpu.waits:  # a timer was set that is due sooner than the round would have ended
                self._length = max(executed, 1)
            self._turn, self._begun = self._turn + 1, False
            if self._round_is_over:
                self._end_round(sleeps=not held)
        return stop

    @property
    def _round_is_over(self) -> bool:
        """Whether all have had their turn."""
        return self._turn == self._turns

    def _answer(self, vcpu: Vcpu, exit_: Exit | None, debugger: bool) -> Debug | Watched | None:
        """Answer an exit, or leave it to the debugger."""
        if exit_ is None:
            return None
        if type(exit_) is Mmio or type(exit_) is Hcall:
            vcpu.let_interrupts()
        if debugger and isinstance(exit_, Debug | Watched):
            return exit_ if self._machine.stops.look(vcpu, exit_) else None
        self._answer_exit(vcpu, exit_)
        self._settle()
        return None

    def _settle(self) -> None:
        """Do what was left for later: resets, and the work of devices."""
        while self.due or self._rung:
            if self.due:
                self.due.popleft()()
            else:
                bell = self._rung.popleft()
                bell.waits = False
                bell.work()

    # ---- between two rounds ----------------------------------------------------------------------------------------

    def _end_round(self, sleeps: bool) -> bool:
        """Let time pass and the world in; False when nothing would ever happen unless something comes, or nothing yet.

        `sleeps` says that the host's time may pass, too, if the machine is one that sleeps.
        """
        machine = self._machine
        with machine.lock:
            if machine.mpic.events:
                machine.mpic.service()
            self._drain()
            over, passed = (True, self._longest * self.timing.ns) if self._longest else self._idle(sleeps)
            if not over:
                return False
            self._asleep_since = None
            if passed is not None:
                self.clock.advance(passed)
                self._set_time()
            came = self.inputs.deliver(self.executed)
            self._starved = passed is None and not came
            if self._starved:
                return False
        self._settle()
        self._next_round()
        return True

    def _idle(self, sleeps: bool) -> tuple[bool, int | None]:
        """All vCPUs wait: whether the round is over, and by how many nanoseconds; None where no event is to come."""
        event, inputs = self._until_event(), self.inputs
        if self.position == self._goal or (self.tape is not None and self.tape.reached):
            return False, None  # the machine waited on when it was here
        again = inputs.coming()
        if again is not None and again.source == TIME:
            slept = int.from_bytes(again.data, "big")
            return True, slept if event is None else min(slept, event)
        if not (sleeps and self.timing.sleep) or inputs.repeating or inputs.closed:
            return True, event
        now = time.monotonic()
        if self._asleep_since is None:
            self._asleep_since = now
        self._wakes_at = math.inf if event is None else self._asleep_since + event / BILLION
        if event is not None and now >= self._wakes_at:
            return True, event
        if not inputs.ready():
            return False, None
        slept = int((now - self._asleep_since) * BILLION)
        inputs.take_new(TIME, slept.to_bytes(8, "big"), list(self.executed))
        return True, slept

    def _next_round(self) -> None:
        self.round += 1
        self.inputs.round = self.round
        self._turn = self._longest = 0
        self._look_at_timers()
        event = self._until_event()
        quantum = self.timing.quantum
        self._length = quantum if event is None else max(min(quantum, -(-event // self.timing.ns)), 1)
        self._set_time()
        self.on_round()

    def _look_at_timers(self) -> None:
        now = self.clock.now_ns()
        for vcpu in self._machine.vcpus:
            deadline = vcpu.next_deadline
            if deadline is not None and deadline <= now and not vcpu.halted:
                exit_ = vcpu.look_at_timers()
                if exit_ is not None:
                    self._answer_exit(vcpu, exit_)
        self._settle()

    def _set_time(self) -> None:
        now = self.clock.now_ns()
        self._machine.vm.set_time(now, self._length * self.timing.ns)
        self._machine.mpic.state.now_ns = now

    def _until_event(self) -> int | None:
        """Nanoseconds to the next appointment of a device or timer of a vCPU, None when there is none."""
        now = self.clock.now_ns()
        appointment = self.clock.next_ns()
        nearest = None if appointment is None else max(appointment - now, 1)
        for vcpu in self._machine.vcpus:
            deadline = vcpu.next_deadline
            if deadline is not None and deadline > now and not vcpu.halted:
                nearest = deadline - now if nearest is None else min(nearest, deadline - now)
        return nearest

    # ---- so far and no further -------------------------------------------------------------------------------------

    def run(self, instructions: int) -> None:
        """Let all vCPUs run until the first has executed so many instructions, the machine ends, or nothing will ever
        happen without input; it is held."""
        machine = self._machine
        with self.lock:
            end = self.executed[0] + instructions
            self.active = True
            try:
                while (
                    not (machine.ended or machine.failed or machine.life.finished or machine.run_stopped)
                    and (left := end - self.executed[0]) > 0
                ):
                    self.advance(left if self._turn == 0 else None)
                    if self._starved:
                        break
            finally:
                self.active = False
        machine.life.settle()

    def advance_towards(self, position: Position) -> Debug | Watched | None:
        """As `advance` for a debugger, but not past a position."""
        here = self.position
        there = (here.round, here.turn) == (position.round, position.turn)
        self._goal = position
        try:
            return self.advance(position.executed - here.executed if there else None, debugger=True)
        finally:
            self._goal = None

    def go_to(self, position: Position) -> None:
        """Go on to a position; the machine is held, and nothing stops it."""
        while self.position < position and not self._machine.ended:
            if self.advance_towards(position) is not None:
                self.next.pass_stop()  # dnh

    def go_before(self, vcpu: Vcpu, executed: int) -> None:
        """Go on to where a vCPU is about to execute an instruction, by number; interrupts before it were taken."""
        index = vcpu.index
        while not self._machine.ended:
            if self._turn != index:
                self.advance()
                continue
            self.advance(0)
            left = executed - 1 - self.executed[index]
            if not left and not vcpu.waits:
                return
            self.advance(left or None)

    def step(self, vcpu: Vcpu) -> tuple[Vcpu, Debug | Watched | None]:
        """Let all vCPUs run until one has executed an instruction, or has had its turn waiting; who stopped then, and
        for what."""
        with self.lock:
            while not self._machine.ended and not self._starved:
                who = self.next
                if who is vcpu:
                    self.advance(0)
                    if not vcpu.waits:
                        vcpu.pass_stop()
                        return vcpu, self._execute_one(vcpu)
                stop = self.advance(debugger=True)
                if stop is not None or who is vcpu:
                    return who, stop
        return vcpu, None

    def _execute_one(self, vcpu: Vcpu) -> Debug | Watched | None:
        """Go on with a vCPU's turn by one instruction, with all that devices have to answer for it."""
        before, stop = self.executed[vcpu.index], None
        while self.executed[vcpu.index] == before and stop is None and not self._machine.ended:
            stop = self.advance(1, debugger=True)
        return stop

    def execute(self, vcpu: Vcpu, instructions: int) -> Debug | Watched | Kick | None:
        """Let all vCPUs run until one has executed so many or waits, or a debugger stops one; the machine is held."""
        index = self._machine.vcpus.index(vcpu)
        with self.lock:
            end = self.executed[index] + instructions
            while not self._machine.ended and (left := end - self.executed[index]) > 0 and not self._starved:
                own = self._turn == index
                if (stop := self.advance(left if own else None, debugger=True)) is not None:
                    return stop
                if own and self._turn != index and self.executed[index] < end:
                    return Kick()
        return None
