"""The devices of a machine by name, and their registers by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..devices.device import Device
from ..devices.registers import NamedRegister
from ..devices.silent import Silent
from ..errors import UserError
from .places import Places

if TYPE_CHECKING:
    from .looking import Looking

_BYTE_REGISTERS = 0x1000
"""Windows up to this size may have registers of a byte, at any address."""


class Devices(Mapping[str, Device]):
    """Every device by name, those that are plugged in too: `devices["serial0"].lcr.dlab`. UserError for others."""

    def __init__(self, machine: Looking) -> None:
        self._machine = machine

    def _all(self) -> dict[str, Device]:
        found = {self._machine.mpic.name: self._machine.mpic, **self._machine.built.devices}
        for device in self._machine.built.everything():
            found.setdefault(device.name, device)
        return found

    def __getitem__(self, name: str) -> Device:
        found = self._all()
        if name not in found:
            raise UserError(f"no device {name}: {_hint(name, list(found))}")
        return found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def windows_of(machine: Looking, name: str) -> list[range]:
    """The physical addresses at which a device answers. Raises UserError for one without any."""
    device = machine.devices[name]
    found = [range(w.base, w.end) for w in machine.space.windows if w.target is device]
    if not found:
        targets = [w.target for w in machine.space.windows if isinstance(w.target, Device)]
        have = ", ".join(dict.fromkeys(target.name for target in targets if not isinstance(target, Silent)))
        raise UserError(f"{name} has no registers at a physical address of its own; these have: {have}")
    return found


def register_ranges(machine: Looking, name: str, register: str) -> list[range]:
    """The physical addresses of a device's register, of each of an array's. Raises UserError."""
    base = windows_of(machine, name)[0].start
    registers = list(_registers(machine.devices[name]))
    wanted = register.lower()
    found = [range(base + r.offset, base + r.offset + r.bytes) for r in registers if wanted in _spellings(r.name)]
    if not found:
        names = dict.fromkeys(r.name.split("[")[0] for r in registers)
        raise UserError(f"{name} has no register {register}: {_hint(register, list(names))}")
    return found


def _hint(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none with a name'}"


def _registers(device: Device) -> Iterator[NamedRegister]:
    """All registers of a device."""
    offset, stride = 0, 4 if device.size > _BYTE_REGISTERS else 1
    while offset < device.size:
        register = device.register_at(offset)
        if register is not None:
            yield register
        offset = register.offset + register.bytes if register is not None else offset + stride


def _spellings(label: str) -> set[str]:
    """What may be written for a register: an array's element, the whole array, one register of each CPU."""
    return {label.lower(), label.lower().split("[")[0], label.lower().rsplit(" ")[-1]}


def named(machine: Looking, pa: int) -> tuple[str, str | None, int]:
    """What is at a physical address: its name, its register's if it has one there, and the offset in the window."""
    place = Places(machine.space).find(pa, 1)
    if place is None:
        return "nothing", None, 0
    return place.device, place.register.name if place.register else None, place.offset
