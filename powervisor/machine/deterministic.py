"""What a machine is asked for to be deterministic, and what such a machine cannot have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ..errors import UserError, argument
from ..hv.exits import Exit
from ..hv.vcpu import Vcpu
from .lockstep import Lockstep
from .timing import Timing

if TYPE_CHECKING:
    from .machine import Machine
    from .recording import Path, Recording


def lockstep_of(
    machine: Machine, deterministic: bool | Timing, record: Path | None, replay: Path | None,
    answer: Callable[[Vcpu, Exit], bool], drain: Callable[[], None], warn: Callable[[str], None] | None,
) -> Lockstep | None:  # fmt: skip
    """The turns of a machine that is to be deterministic, for what is recorded or replayed is. Raises UserError."""
    if not deterministic and record is None and replay is None:
        return None
    from ..devices.services import warn_by_log

    if replay is None:
        return _lockstep(machine, deterministic, record, None, answer, drain, warn or warn_by_log)
    from .recording import load

    recording = load(replay)
    try:
        timing = _recorded_timing(recording, deterministic)
        return _lockstep(machine, timing, record, recording, answer, drain, warn or warn_by_log)
    except BaseException:
        recording.close()
        raise


def _lockstep(
    machine: Machine, wanted: bool | Timing, record: Path | None, recording: Recording | None,
    answer: Callable[[Vcpu, Exit], bool], drain: Callable[[], None], warn: Callable[[str], None],
) -> Lockstep:  # fmt: skip
    timing = wanted if isinstance(wanted, Timing) else Timing()
    if timing.sleep is None:  # a guest's clock that runs ahead of the others' in a network is of no use there
        timing = replace(timing, sleep=bool(machine.options["netdevs"]))
    machine.options["deterministic"] = asdict(timing)
    lockstep = Lockstep(machine, timing, answer, drain, warn)
    if recording is not None:
        lockstep.cables.recorded = recording.identity.networks
    if recording is not None or record is not None:
        from .tape import Tape

        lockstep.tape = Tape(machine, lockstep, recording, record)
    machine.counted.more.append(lambda told: told.update(deterministic=lockstep.statistics()))
    return lockstep


def _recorded_timing(recording: Recording, wanted: bool | Timing) -> Timing:
    there = recording.identity.timing
    if isinstance(wanted, Timing) and replace(wanted, sleep=there.sleep) != there:
        leave = f"leave {argument('deterministic')} out"
        raise UserError(f"{recording.where}: was recorded with {there.describe()}; {leave}")
    return there


def refuse_undetermined(fsdevs: Sequence[str], virtfs: Sequence[str]) -> None:
    """Refuse what a deterministic machine cannot have. Raises UserError."""
    for name, words in (("fsdevs", fsdevs), ("virtfs", virtfs)):
        for word in words:
            raise UserError(
                f"{argument(name)} {word}: what comes from there is not the same twice; leave it or "
                f"{argument('deterministic')} out"
            )
