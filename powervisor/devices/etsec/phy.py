"""What answers on the management bus: the ten-bit interface, the PHY inside the controller, at the address in TBIPA."""

from __future__ import annotations

REGISTERS = 32
NOBODY = 0xFFFF
"""What an address without a PHY reads as."""
_CONTROL, _STATUS, _ADVERTISE, _PARTNER, _TBI_CONTROL = 0, 1, 4, 5, 17
_RESET, _RESTART = 1 << 15, 1 << 9
_ABILITIES, _DONE, _LINK = 0x0149, 0x0020, 0x0004
_FULL_DUPLEX = 0x4020
"""What the other side advertises: it acknowledges, and speaks full duplex."""
_WRITABLE = {_ADVERTISE, _TBI_CONTROL}


def initial() -> list[int]:
    """Registers after a reset."""
    registers = [0] * REGISTERS
    registers[_CONTROL], registers[_ADVERTISE], registers[_TBI_CONTROL] = 0x1140, 0x01A0, 0x8000
    return registers


def read(registers: list[int], number: int, link: bool) -> int:
    """What the driver reads."""
    if number == _STATUS:
        return _ABILITIES | (_DONE | _LINK if link else 0)
    if number == _PARTNER:
        return _FULL_DUPLEX if link else 0
    return registers[number]


def write(registers: list[int], number: int, value: int) -> None:
    """What the driver writes."""
    if number == _CONTROL and value & _RESET:
        registers[:] = initial()
    elif number == _CONTROL:
        registers[_CONTROL] = value & ~_RESTART
    elif number in _WRITABLE:
        registers[number] = value
