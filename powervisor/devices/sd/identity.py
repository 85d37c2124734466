"""What an SD memory card says of itself: CID, CSD, SCR, SD status (SD Physical Layer Simplified Specification 3.01)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BLOCK = 512
HIGH_CAPACITY = 2 << 30
"""Cards above this size are SDHC or SDXC, and addressed in blocks."""
_HIGH_CAPACITY_UNIT = 19
MOST_BYTES = 1 << _HIGH_CAPACITY_UNIT + 22
_COMMAND_CLASSES = 0x535  # basic, block read, block write, erase, application specific, switch
_MOST_UNITS, _UNITS, _LENGTHS = 1 << 12, range(2, 10), range(9, 12)  # what C_SIZE, C_SIZE_MULT, READ_BL_LEN can say
_MAXIMUM_SPEED = {False: 0x32, True: 0x5A}  # TRAN_SPEED: 25 and 50 Mbit/s


class Geometry(NamedTuple):
    """How a CSD of version 1 states a size: (`c_size` + 1) units of 2**`unit` blocks of 2**`block` bytes."""

    c_size: int
    unit: int
    block: int


def geometry(size: int) -> Geometry | None:
    """`size` as a card of up to 2 GiB states it; None for sizes that no such card can have."""
    for block in _LENGTHS:
        for unit in _UNITS:
            units, rest = divmod(size, 1 << unit + block)
            if not rest and 0 < units <= _MOST_UNITS:
                return Geometry(units - 1, unit, block)
    return None


def next_size(size: int) -> int:
    """The smallest size a card can have that is not below `size`."""
    if size > HIGH_CAPACITY:
        shift = _HIGH_CAPACITY_UNIT
    else:
        shift = max(_LENGTHS[0] + _UNITS[0], (size - 1).bit_length() - _MOST_UNITS.bit_length() + 1)
    return -(-size >> shift) << shift


def _pack(*fields: tuple[int, int]) -> bytes:
    """Bits from the most significant: (value, width) each; the widths make whole bytes."""
    value = width = 0
    for bits, n in fields:
        value, width = value << n | bits, width + n
    return value.to_bytes(width // 8, "big")


def crc7(data: bytes) -> int:
    """The checksum of commands and registers."""
    crc = 0
    for byte in data:
        for bit in range(7, -1, -1):
            high = crc >> 6 ^ byte >> bit & 1
            crc = (crc << 1 & 0x7F) ^ (0x09 if high else 0)
    return crc


def _sealed(data: bytes) -> bytes:
    return data + bytes([crc7(data) << 1 | 1])


def cid() -> bytes:
    """Manufacturer 0x50, "PV", product "PVISR" 1.0, made in January 2026."""
    return _sealed(_pack((0x50, 8)) + b"PVPVISR" + _pack((0x10, 8), (1, 32), (0, 4), (26, 8), (1, 4)))


def csd(size: int, fast: bool, read_only: bool) -> bytes:
    """Size and abilities; `fast` in high speed mode."""
    begin = (0x0E, 8), (0, 8), (_MAXIMUM_SPEED[fast], 8), (_COMMAND_CLASSES, 12)
    protected = (0, 1), (0, 1), (0, 1), (int(read_only), 1), (0, 2), (0, 2)
    if size > HIGH_CAPACITY:
        return _sealed(_pack(
            (1, 2), (0, 6), *begin, (9, 4), (0, 4), (0, 6), ((size >> _HIGH_CAPACITY_UNIT) - 1, 22), (0, 1),
            (1, 1), (0x7F, 7), (0, 7), (0, 1), (0, 2), (2, 3), (9, 4), (0, 1), (0, 5), *protected,
        ))  # fmt: skip
    shape = geometry(size)
    assert shape is not None
    return _sealed(_pack(
        (0, 2), (0, 6), *begin, (shape.block, 4), (1, 1), (0, 3), (0, 2), (shape.c_size, 12),
        (6, 3), (6, 3), (6, 3), (6, 3), (shape.unit - 2, 3), (1, 1), (0x1F, 7), (0, 7), (0, 1), (0, 2),
        (2, 3), (shape.block, 4), (1, 1), (0, 5), *protected,
    ))  # fmt: skip


def scr() -> bytes:
    """Version 3.0x, 1 and 4 data lines, CMD23."""
    return _pack((0, 4), (2, 4), (0, 1), (0, 3), (5, 4), (1, 1), (0, 4), (0, 9), (2, 2), (0, 32))


def sd_status(wide: bool, high_capacity: bool) -> bytes:
    """The SD status: bus width and, of SDHC, allocation units of 4 MiB."""
    unit = 9 if high_capacity else 0
    return _pack((2 if wide else 0, 2), (0, 14), (0, 16), (0, 32), (0, 8), (0, 8), (unit, 4), (0, 4)) + bytes(53)


def switch_status(functions: Sequence[int]) -> bytes:
    """The answer to CMD6: of groups 6 to 1 the function that is, or would be, chosen; 15 for one that is not there.

    Groups have their default only, but the access mode, group 1, which has high speed as function 1 too.
    """
    supported = _pack(*[(0x8001, 16)] * 5, (0x8003, 16))
    return _pack((50, 16)) + supported + _pack(*((function, 4) for function in functions)) + bytes(47)
