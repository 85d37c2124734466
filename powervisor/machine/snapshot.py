"""A machine at one moment: taken, kept in memory, put back."""

from __future__ import annotations

import difflib
import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..boot.loader import BootPlan
from ..errors import PowervisorError, UserError, argument
from ..hv.saved import restore_vcpus, save_vcpus
from ..memory.contents import Contents
from ..memory.ram import describe_size
from .standstill import standstill
from .timing import Timing

if TYPE_CHECKING:
    from ..block.drives import Moment
    from ..devices.device import Device
    from .machine import Machine

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Snapshot:
    """What `Machine.snapshot` returned: it can be restored any number of times, and is gone when nobody holds it."""

    options: dict[str, Any]
    """Keywords of `Machine` that say what the machine is."""
    state: dict[str, Any]
    """vCPUs, devices and time, in plain values."""
    memory: Contents
    plan: BootPlan
    """What a reset loads."""
    disks: dict[str, Moment]
    """Drives by name."""
    taken: float
    """When it was taken, in seconds since 1970."""

    def fork(self, **options: Any) -> Machine:
        """A machine that goes on from here; see `Machine.load`."""
        from .machine import Machine

        return Machine.load(self, **options)

    def save(self, path: Path, progress: Callable[[str], None] | None = None) -> None:
        """Write it to a file, which is there as a whole or not at all. Raises UserError where that cannot be."""
        from .stored import save

        save(self, path, progress)

    @classmethod
    def load(cls, path: Path, progress: Callable[[str], None] | None = None) -> Snapshot:
        """Read a file that `save` wrote. Raises UserError for one that is damaged or of another version."""
        from .stored import load

        return load(path, progress)


def take(machine: Machine) -> Snapshot:
    """As `Machine.snapshot`."""
    if machine.ended:
        raise PowervisorError("the machine has ended: there is nothing to go on from")
    with standstill(machine):
        for device in machine.built.everything():
            if why := device.unsaved():
                raise PowervisorError(f"{device.name}: {why}")
        state = {
            "guest-ns": machine.vm.elapsed_ns,
            "vcpus": save_vcpus(machine.vcpus),
            **_save_devices(machine),
        }
        disks = _keep_disks(machine)
        return Snapshot(machine.options, state, machine.ram.keep(), machine.plan, disks, time.time())


def check_fork(machine: Machine) -> None:
    """Raise UserError for a machine whose disks another one cannot have too."""
    for drive in machine.drives:
        if not drive.keep().safe:
            raise UserError(f"{drive.where}: a fork would write to the same image; add snapshot=on or readonly=on")


def _devices(machine: Machine) -> list[Device]:
    """All but the interrupt controller, which comes after those that drive its pins."""
    return [device for device in machine.built.everything() if device is not machine.mpic]


IDENTITY = ("board", "cpu", "cores", "threads", "memory")
"""Options that have to be alike where a snapshot is restored."""
WITH_SNAPSHOT = ("kernel", "bios", "initrd", "append", "dtb", "loaders")
"""Those that say what is in memory at the beginning."""


def _shown(name: str, value: Any) -> str:
    """An option's value for people."""
    return describe_size(value) if name == "memory" else str(value)


def keywords(source: Snapshot | Path, options: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `Machine` that make one go on from a snapshot. Raises UserError for options against it."""
    _check_known(options)
    snapshot = source if isinstance(source, Snapshot) else Snapshot.load(source, options.get("progress"))
    for name, value in options.items():
        if name in IDENTITY and value is not None and value != snapshot.options[name]:
            given, have = _shown(name, value), _shown(name, snapshot.options[name])
            raise UserError(f"{argument(name)} {given}: the snapshot is of a machine with {have}; leave the option out")
        if name in WITH_SNAPSHOT and value:
            raise UserError(f"{argument(name)}: what the machine loads comes with the snapshot; leave the option out")
    chosen = {name: value for name, value in options.items() if value not in (None, []) and name not in WITH_SNAPSHOT}
    kept = dict(snapshot.options)
    timing, _ = kept.pop("deterministic", None), kept.pop("programs", None)
    if timing and options.get("replay") is None:  # a recording brings its own
        kept["deterministic"] = Timing(**timing)
    return {**kept, **chosen, "moment": snapshot}


def _check_known(options: dict[str, Any]) -> None:
    """Raise UserError for what is no keyword of `Machine`."""
    from .machine import Machine

    known = inspect.signature(Machine).parameters
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 2)
            remedy = f"did you mean {' or '.join(near)}?" if near else "leave it out"
            raise UserError(f"{name}: a machine has no such option; {remedy}")


def put_back(machine: Machine, source: Snapshot | Path) -> None:
    """As `Machine.restore`. Where it fails the machine is as it was."""
    snapshot = source if isinstance(source, Snapshot) else Snapshot.load(source)
    check(machine, snapshot)
    with standstill(machine):
        for drive in machine.drives:
            drive.check(snapshot.disks[drive.name])
        machine.revive()
        before = _save_devices(machine), _keep_disks(machine)
        try:
            _restore_devices(machine, snapshot.state, snapshot.disks)
        except (ValueError, OSError) as error:
            _restore_devices(machine, *before)
            raise UserError(f"snapshot: {error}; make the machine alike") from None
        machine.vm.elapsed_ns = snapshot.state["guest-ns"]
        machine.vm.memory_replaced(machine.ram.restore(snapshot.memory))
        restore_vcpus(machine.vm, snapshot.state["vcpus"])
        machine.power.drive_interrupts()
        machine.power.let_go_of_buttons()
        if machine.lockstep is not None:
            machine.lockstep.moved()


def _save_devices(machine: Machine) -> dict[str, Any]:
    """The devices' part of a state; while nothing moves."""
    return {
        "clock-ns": machine.clock.now_ns(),
        "devices": [(device.name, type(device).__name__, device.save()) for device in _devices(machine)],
        "mpic": machine.mpic.save(),
    }


def _restore_devices(machine: Machine, state: dict[str, Any], disks: dict[str, Moment]) -> None:
    for drive in machine.drives:
        drive.restore(disks[drive.name])
    machine.clock.set(state["clock-ns"])
    devices = _devices(machine)
    for device, (_, _, saved) in zip(devices, state["devices"], strict=True):
        device.restore(saved)
    machine.mpic.restore(state["mpic"])
    for device in devices:
        for pin in device.irqs().values():
            pin.tell()  # what follows from the host is as it is now
        device.resumed()


def _keep_disks(machine: Machine) -> dict[str, Moment]:
    return {drive.name: drive.keep() for drive in machine.drives}


def check(machine: Machine, snapshot: Snapshot) -> None:
    """Raise UserError, saying what differs, unless the snapshot is of a machine like this one."""
    for name in IDENTITY:
        theirs, ours = (_shown(name, options[name]) for options in (snapshot.options, machine.options))
        if theirs != ours:
            raise UserError(f"snapshot: {name} {theirs}, the machine has {ours}; make the machine alike")
    own_drives = [drive.name for drive in machine.drives]
    if own_drives != [*snapshot.disks]:
        have, had = (", ".join(names) or "none" for names in (own_drives, snapshot.disks))
        raise UserError(f"snapshot: it is of a machine with the drives {had}, this one has {have}; name the same")
    saved = [(name, kind) for name, kind, _ in snapshot.state["devices"]]
    own = [(device.name, type(device).__name__) for device in _devices(machine)]
    if saved != own:
        lacks = dict.fromkeys(name for name, _ in saved if name not in dict(own))
        more = dict.fromkeys(name for name, _ in own if name not in dict(saved))
        what = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"has {', '.join(more)} besides"] * bool(more)
        raise UserError(f"snapshot: the machine {' and '.join(what) or 'has other devices'}; make the machine alike")
