"""A machine at one moment: taken, kept in memory, put back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import PowervisorError, UserError
from ..hv.saved import restore_vcpus, save_vcpus
from ..memory.contents import Contents
from .standstill import standstill

if TYPE_CHECKING:
    from .machine import Machine


@dataclass(frozen=True)
class Snapshot:
    """What `Machine.snapshot` returned: it can be restored any number of times, and is gone when nobody holds it."""

    machine: dict[str, Any]
    """What the machine is: board, core, vCPUs, memory in bytes."""
    state: dict[str, Any]
    """vCPUs, devices and time, in plain values."""
    memory: Contents
    taken: float
    """When it was taken, in seconds since 1970."""


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
            "clock-ns": machine.clock.now_ns(),
            "devices": [(d.name, type(d).__name__, d.save()) for d in machine.built.everything()],
            "mpic": machine.mpic.save(),
            "vcpus": save_vcpus(machine.vcpus),
        }
        return Snapshot(identity(machine), state, machine.ram.keep(), time.time())


def identity(machine: Machine) -> dict[str, Any]:
    """What has to be alike where a snapshot is restored, by the names users know."""
    cpus = machine.topology
    return {
        "board": machine.board.name, "cpu": cpus.core, "cores": cpus.cores, "threads": cpus.threads,
        "memory": machine.ram.size,
    }  # fmt: skip


def put_back(machine: Machine, snapshot: Snapshot) -> None:
    """As `Machine.restore`."""
    check(machine, snapshot)
    with standstill(machine):
        machine.revive()
        state = snapshot.state
        machine.vm.elapsed_ns = state["guest-ns"]
        machine.clock.set(state["clock-ns"])
        machine.vm.memory_replaced(machine.ram.restore(snapshot.memory))
        devices = machine.built.everything()
        for device, (_, _, saved) in zip(devices, state["devices"], strict=True):
            device.restore(saved)
        machine.mpic.restore(state["mpic"])
        for device in devices:
            for pin in device.irqs().values():
                pin.tell()  # what follows from the host is as it is now
        restore_vcpus(machine.vm, state["vcpus"])
        machine.power.drive_interrupts()


def check(machine: Machine, snapshot: Snapshot) -> None:
    """Raise UserError, saying what differs, unless the snapshot is of a machine like this one."""
    here = identity(machine)
    for name, value in snapshot.machine.items():
        if here[name] != value:
            raise UserError(f"snapshot: {name} {value}, the machine has {here[name]}; make the machine alike")
    there = [(name, kind) for name, kind, _ in snapshot.state["devices"]]
    own = [(device.name, type(device).__name__) for device in machine.built.everything()]
    if there != own:
        missing = ", ".join(name for name, _ in there if name not in dict(own))
        more = ", ".join(name for name, _ in own if name not in dict(there))
        what = " and ".join(
            part for part in (f"without {missing}" * bool(missing), f"with {more} besides" * bool(more)) if part
        )
        raise UserError(f"snapshot: the machine is {what or 'one with other devices'}; make the machine alike")
