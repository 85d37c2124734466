"""A deterministic machine between two of its turns, to go back to: unlike a snapshot it continues exactly as it did.

A snapshot is for other machines and processes, and may lose what the architecture lets it lose. A checkpoint belongs to
one machine, which does after it what it did: reservations, the order of appointments and the rest of a turn are kept.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..devices.clock import Appointments
from ..devices.mpic_state import MpicState
from ..devices.ns16550 import Ns16550
from ..devices.ns16550_native import Transmitter
from ..errors import PowervisorError
from ..hv.saved import restore_vcpus, save_vcpus
from ..memory.contents import Contents
from .timing import Position

if TYPE_CHECKING:
    from ..block.drives import Moment
    from .lockstep import Lockstep
    from .machine import Machine

_RESERVATION = ("reserve_valid", "reserve_size", "reserve_address", "reserve_value")
"""Fields of a vCPU that a snapshot leaves out."""


@dataclass(frozen=True)
class Checkpoint:
    """What `take` found."""

    position: Position
    turns: dict[str, Any]
    timebase_start: int
    """When time bases were 0, in nanoseconds."""
    appointments: Appointments
    vcpus: list[dict[str, Any]]
    reservations: list[tuple[int, ...]]
    mpic: bytes
    transmitters: list[bytes]
    devices: list[dict[str, Any]]
    disks: list[Moment]
    memory: Contents


def take(machine: Machine, lockstep: Lockstep) -> Checkpoint:
    """Where a machine is now; nobody takes turns. Raises PowervisorError where it has what cannot be kept."""
    with ExitStack() as stack:
        stack.enter_context(machine.lock)
        devices = machine.built.everything()
        for device in devices:
            if why := device.unsaved():
                raise PowervisorError(f"{device.name}: {why}")
            stack.enter_context(device.still())
        for drive in machine.drives:
            if not drive.restorable:
                raise PowervisorError(f"{drive.where}: what the guest writes cannot be taken back; add snapshot=on")
        return Checkpoint(
            lockstep.position,
            lockstep.save(),
            int(machine.vm.state.timebase_start),
            lockstep.clock.appointments(),
            save_vcpus(machine.vcpus),
            [tuple(int(getattr(vcpu.state, name)) for name in _RESERVATION) for vcpu in machine.vcpus],
            ctypes.string_at(machine.mpic.state_address, MpicState.size),
            [ctypes.string_at(uart.transmitter.address, Transmitter.size) for uart in _uarts(machine)],
            [device.save() for device in devices],
            [drive.keep() for drive in machine.drives],
            machine.ram.keep(),
        )


def put_back(machine: Machine, lockstep: Lockstep, checkpoint: Checkpoint) -> None:
    """Be where `take` was; nobody takes turns."""
    with ExitStack() as stack:
        stack.enter_context(machine.lock)
        devices = machine.built.everything()
        for device in devices:
            stack.enter_context(device.still())
        machine.vm.state.timebase_start = checkpoint.timebase_start
        lockstep.clock.set(checkpoint.appointments.now)
        lockstep.restore(checkpoint.turns)
        machine.vm.memory_replaced(machine.ram.restore(checkpoint.memory))
        for drive, moment in zip(machine.drives, checkpoint.disks, strict=True):
            drive.restore(moment)
        for device, saved in zip(devices, checkpoint.devices, strict=True):
            device.restore(saved)
        machine.mpic.count()
        # Last, for devices that were restored told others of it: what those had made of it comes with their own state.
        ctypes.memmove(machine.mpic.state_address, checkpoint.mpic, MpicState.size)
        for uart, data in zip(_uarts(machine), checkpoint.transmitters, strict=True):
            ctypes.memmove(uart.transmitter.address, data, Transmitter.size)
        restore_vcpus(machine.vm, checkpoint.vcpus)
        for vcpu, values in zip(machine.vcpus, checkpoint.reservations, strict=True):
            for name, value in zip(_RESERVATION, values, strict=True):
                setattr(vcpu.state, name, value)
        lockstep.clock.reappoint(checkpoint.appointments)
        lockstep.forget_work()


def _uarts(machine: Machine) -> list[Ns16550]:
    return [device for device in machine.built.everything() if isinstance(device, Ns16550)]
