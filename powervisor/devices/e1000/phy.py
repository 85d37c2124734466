"""The PHY inside the 82540EM, a Marvell 88E1011: always at 1000 Mb/s full duplex when there is a link."""

from __future__ import annotations

CONTROL, STATUS, ID1, ID2, ADVERTISE, PARTNER, EXPANSION = range(7)
GIGABIT_CONTROL, GIGABIT_STATUS, EXTENDED_STATUS, SPECIFIC_CONTROL, SPECIFIC_STATUS = 9, 10, 15, 16, 17
REGISTERS = 32
ADDRESS = 1

_RESET, _RESTART = 1 << 15, 1 << 9
INITIAL = {
    CONTROL: 0x1140,
    ID1: 0x0141,
    ID2: 0x0C20,
    ADVERTISE: 0x0DE1,
    EXPANSION: 0x0001,
    GIGABIT_CONTROL: 0x0E00,
    EXTENDED_STATUS: 0x3000,
    SPECIFIC_CONTROL: 0x0360,
    20: 0x0D60,
}
_READ_ONLY = {STATUS, ID1, ID2, PARTNER, EXPANSION, GIGABIT_STATUS, EXTENDED_STATUS, SPECIFIC_STATUS}
_ABILITIES, _NEGOTIATED, _LINK = 0x7949, 0x0020, 0x0004
_WITH_LINK = {
    STATUS: _ABILITIES | _NEGOTIATED | _LINK,
    PARTNER: 0x45E1,
    GIGABIT_STATUS: 0x3C00,
    SPECIFIC_STATUS: 0xAC00,
}
_WITHOUT = {STATUS: _ABILITIES, PARTNER: 0, GIGABIT_STATUS: 0, SPECIFIC_STATUS: 0}


def initial() -> list[int]:
    """Registers after a reset."""
    return [INITIAL.get(number, 0) for number in range(REGISTERS)]


def read(registers: list[int], number: int, link: bool) -> int:
    """What the driver reads."""
    found = (_WITH_LINK if link else _WITHOUT).get(number)
    return registers[number] if found is None else found


def write(registers: list[int], number: int, value: int) -> bool:
    """What the driver writes; whether the link is negotiated anew."""
    if number in _READ_ONLY:
        return False
    if number != CONTROL:
        registers[number] = value
        return False
    if value & _RESET:
        registers[:] = initial()
    else:
        registers[CONTROL] = value & ~_RESTART
    return bool(value & (_RESET | _RESTART))
