"""A deterministic machine and its recording: what comes in is written down, or what was written comes in again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .digest import digest
from .outcome import REPLAYED, STOPPED, Outcome
from .recording import End, Identity, Path, Recording, Writer

if TYPE_CHECKING:
    from .lockstep import Lockstep
    from .machine import Machine

_APART = ("deterministic", "programs", "objects", "snapshot")
"""Options that are compared otherwise, by the timing and by what is in memory, and what no guest sees: captures, and
where its disks keep what it writes."""
_ALONE = "nobody is at the other end of its networks, which a replay does not open: what the guest sends is lost"


class Tape:
    """Of one machine, which may be replayed and recorded at a time."""

    def __init__(self, machine: Machine, lockstep: Lockstep, recording: Recording | None, record: Path | None) -> None:
        """Raises UserError where the file cannot be written."""
        self._machine, self._lockstep, self._recording = machine, lockstep, recording
        if recording is not None and record is not None:
            recording.refuse_overwriting(record)
        self._writer = None if record is None else Writer(record)
        if self._writer is not None:
            lockstep.inputs.on_take = self._writer.input
        self._end: End | None = None
        self._begun = self._alone = False
        if recording is not None:
            self._end = recording.end
            lockstep.inputs.closed = recording.end is not None
            lockstep.inputs.repeat(recording.inputs())
            if recording.note:
                lockstep.warn(recording.note)

    def begin(self) -> None:
        """The machine was switched on. Raises UserError when it is another one than was recorded."""
        machine, lockstep = self._machine, self._lockstep
        options = {name: value for name, value in machine.options.items() if value and name not in _APART}
        identity = Identity(options, lockstep.timing, digest(machine), lockstep.cables.hosts)
        if self._recording is not None:
            self._recording.check(identity)
            self._check_inputs(self._recording)
            if self._end is None:
                self._tell_alone()
        if self._writer is not None:
            self._writer.begin(identity)
        self._begun = True

    def _check_inputs(self, recording: Recording) -> None:
        """Raise UserError for input that this machine cannot have."""
        sources = self._lockstep.inputs.sources
        for input_ in recording.inputs():
            if (source := sources.get(input_.source)) is None:
                raise UserError(f"{recording.where}: it has input for {input_.source}, which is not there")
            if why := source.refuses(input_.data):
                raise UserError(f"{recording.where}: {input_.source} cannot have {why}; record again, or use a copy")

    def _tell_alone(self) -> None:
        """Tell, once, of a replay that goes on by itself."""
        if self._recording is not None and self._lockstep.cables.hosts and not self._alone:
            self._alone = True
            self._lockstep.warn(f"{self._recording.where}: {_ALONE}")

    def finish(self, outcome: str) -> None:
        """The machine has stopped."""
        if self._writer is not None:
            lockstep = self._lockstep
            if self._begun:  # else it was never switched on
                outcome = STOPPED if outcome == REPLAYED else outcome  # a replay of this ends here, too
                self._writer.end(End(lockstep.position, lockstep.executed, digest(self._machine), outcome))
            self._stop_writing()
        if self._recording is not None:
            self._recording.close()

    def changed(self) -> None:
        """Somebody changed the machine: what was recorded of it would not do that again."""
        self._tell_alone()
        self._forget_end()
        if self._writer is not None:
            self._stop_writing()
            self._lockstep.warn("the recording ends here, for the machine was changed from outside")

    def _forget_end(self) -> None:
        self._end, self._lockstep.inputs.closed = None, False

    def _stop_writing(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._lockstep.inputs.on_take = lambda input_: None

    @property
    def reached(self) -> bool:
        """Whether the machine is where the recorded one ended."""
        return self._end is not None and self._lockstep.position >= self._end.position

    def ends_here(self) -> bool:
        """Whether somebody ended the recorded machine here: they are compared, and nothing more is executed."""
        return self._end is not None and self.reached and self._compare(self._end)

    def limit(self, most: int | None) -> int | None:
        """How many instructions may be executed before the recorded machine ended."""
        if self._end is None:
            return most
        here, there = self._lockstep.position, self._end.position
        if (here.round, here.turn) != (there.round, there.turn):
            return most
        left = there.executed - here.executed
        return left if most is None else min(most, left)

    def _compare(self, end: End) -> bool:
        assert self._recording is not None
        self._forget_end()
        self._recording.check_end(self._lockstep.executed, digest(self._machine))
        if end.outcome != STOPPED:
            return False  # the next instruction will end it
        if self._machine.stops.held_by_somebody:
            self._lockstep.warn("the recording ends here; what comes in from now on is new")
            self._tell_alone()
            self._machine.hold()
        else:
            self._machine.end(Outcome(REPLAYED))
        return True
