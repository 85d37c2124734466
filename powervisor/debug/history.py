"""The past of a deterministic machine: going back by checkpoints, and forward from there to where it is wanted.

Nothing is recorded of what the machine executes. It is checkpointed now and then while it runs under a debugger, and
goes from a checkpoint exactly where it went before, for its input is kept (`machine.inputs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import PowervisorError
from ..hv.exits import Debug, Watched
from ..hv.vcpu import Vcpu
from ..machine import Machine
from ..machine.checkpoint import Checkpoint, put_back, take
from ..machine.lockstep import Lockstep
from ..machine.timing import Position

PAUSE = 0.5
"""Seconds of running between two checkpoints: about what going back costs."""
NEAR = 8
"""Rounds that are worth a checkpoint of their own, for whoever goes back goes back again."""
MOST_NEAR = 8
ASKED = 0.02
"""Seconds between two questions whether whoever goes back still wants to."""
MOST_BYTES = 1 << 30
"""Memory that the past may take; the oldest is forgotten."""

Met = tuple[Vcpu, Debug | Watched]
"""Who met a breakpoint or watchpoint."""


class Interrupted(Exception):
    """Whoever went back wants to be where the machine is now: nothing was met from where it was to there."""


class History:
    """From when a debugger comes to a machine that is held; everything here is done while it is held."""

    def __init__(self, machine: Machine, lockstep: Lockstep) -> None:
        """Raises PowervisorError where the machine has something that cannot be kept."""
        self._machine, self._lockstep = machine, lockstep
        self._kept: list[Checkpoint] = []
        self._near: list[Checkpoint] = []
        with lockstep.lock:
            self.begin_anew()
            lockstep.on_round, lockstep.on_changed = self._remember, self.begin_anew

    def close(self) -> None:
        """Nothing is kept any more; the machine goes on from where it is."""
        with self._lockstep.lock:
            self._lockstep.on_round = self._lockstep.on_changed = lambda: None
            self._lockstep.inputs.keep(None)
            self._kept.clear()
            self._near.clear()

    def begin_anew(self) -> None:
        """Here is the beginning."""
        with self._lockstep.lock:
            self._kept, self._near = [self._take()], []
            self._lockstep.inputs.keep(self._kept[0].turns["inputs"])
            self._last = time.monotonic()

    def leave(self) -> None:
        """The machine is about to go on."""
        self._near.clear()

    # ---- what is kept ----------------------------------------------------------------------------------------------

    def _take(self) -> Checkpoint:
        return take(self._machine, self._lockstep)

    def _remember(self) -> None:
        """A round begins."""
        now = time.monotonic()
        if now - self._last < PAUSE or self._lockstep.position <= self._kept[-1].position:
            return
        self._kept.append(self._take())
        inputs = self._lockstep.inputs
        while len(self._kept) > 2 and sum(one.memory.kept_bytes for one in self._kept) + inputs.kept_bytes > MOST_BYTES:
            del self._kept[0]
            inputs.keep(self._kept[0].turns["inputs"])
        self._last = time.monotonic()

    def _before(self, is_before: Callable[[Checkpoint], bool]) -> Checkpoint | None:
        """The last checkpoint before something."""
        self._lockstep.tell_changes()
        found = [one for one in (*self._kept, *self._near) if is_before(one)]
        return max(found, key=lambda one: one.position, default=None)

    def _put_back(self, checkpoint: Checkpoint) -> None:
        put_back(self._machine, self._lockstep, checkpoint)
        self._last = time.monotonic()

    def _return(self, position: Position) -> None:
        """Be at a position of the past, or before the present one."""
        checkpoint = self._before(lambda one: one.position <= position)
        assert checkpoint is not None, "positions are looked for from a checkpoint on"
        self._put_back(checkpoint)
        self._approach(position)
        self._lockstep.go_to(position)

    def _approach(self, position: Position) -> None:
        """Keep a moment a little before a position, if the way there is long."""
        before = Position(position.round - 1, 0, 0, False)
        if before.round - self._lockstep.round > NEAR:
            self._lockstep.go_to(before)
            self._near = [*self._near[1 - MOST_NEAR :], self._take()]

    # ---- going back ------------------------------------------------------------------------------------------------

    def step(self, vcpu: Vcpu) -> bool:
        """Go back to before the last instruction of a vCPU; False at the beginning, where nothing is done."""
        lockstep, index = self._lockstep, vcpu.index
        with lockstep.lock:
            self._machine.stops.lift()
            position, executed = lockstep.position, lockstep.executed[index]
            checkpoint = self._before(lambda one: one.position < position and one.turns["executed"][index] < executed)
            if checkpoint is None:
                return False
            self._put_back(checkpoint)
            self._approach(position)
            if lockstep.executed[index] >= executed:  # it has waited since
                self._put_back(checkpoint)
            lockstep.go_before(vcpu, executed)
            return True

    def continue_(self, unwanted: Callable[[], bool] = lambda: False) -> Met | None:
        """Go back to the last breakpoint or watchpoint that was met; None when there was none, at the beginning then.

        Of a breakpoint the machine is before the instruction, of a watchpoint after it: the debugger steps back over
        the access to see what it changed. Raises Interrupted when `unwanted`, which is asked now and then, says True.
        """
        lockstep, stops = self._lockstep, self._machine.stops
        with lockstep.lock:
            end = lockstep.position
            stops.apply()
            while (checkpoint := self._before(lambda one, end=end: one.position < end)) is not None:  # type: ignore[misc]
                self._put_back(checkpoint)
                try:
                    met = self._last_met(end, unwanted)
                except Interrupted:
                    stops.lift()
                    self._return(end)
                    raise
                if met is not None:
                    position, vcpu, exit_ = met
                    stops.lift()
                    self._return(position)
                    if isinstance(exit_, Watched):
                        lockstep.go_to(position._replace(executed=position.executed + 1))
                    return vcpu, exit_
                end = checkpoint.position
            stops.lift()
            self._put_back(self._kept[0])
        return None

    def _last_met(self, end: Position, unwanted: Callable[[], bool]) -> tuple[Position, Vcpu, Debug | Watched] | None:
        """The last stop between where the machine is and `end`, to where it goes. Raises Interrupted."""
        lockstep, found = self._lockstep, None
        asked = time.monotonic()
        while lockstep.position < end:
            if (now := time.monotonic()) - asked > ASKED:
                asked = now
                if unwanted():
                    raise Interrupted
            vcpu = lockstep.next
            exit_ = lockstep.advance_towards(end)
            if exit_ is not None and lockstep.position < end:
                found = lockstep.position, vcpu, exit_
                vcpu.pass_stop()
        return found


def history_of(machine: Machine) -> History | None:
    """Of a deterministic machine that is held; None for others, and for one that cannot be kept: the user is told."""
    if machine.lockstep is None:
        return None
    try:
        return History(machine, machine.lockstep)
    except PowervisorError as error:
        machine.lockstep.warn(f"a debugger cannot go back: {error}")
        return None
