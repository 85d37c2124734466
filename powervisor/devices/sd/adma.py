"""ADMA2: descriptors in memory that say where a transfer's bytes are (SD Host Controller Specification 2.00)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from powervisor.memory.space import BusError, Dma

DESCRIPTOR = 8
_VALID, _END = 1 << 0, 1 << 1
_ACTION, _RESERVED, _TRANSFER, _LINK = 3 << 4, 1 << 4, 2 << 4, 3 << 4
_MOST_DESCRIPTORS = 4096
"""So many are looked at in a row; a table that leads round and round without any bytes ends there."""
_MOST_PIECES = 512
"""Pieces of one system call, below the host's IOV_MAX."""

FETCH, TRANSFER = 1, 3
LENGTH_MISMATCH = 1 << 2
"""Error states, as ADMAES tells them."""


class AdmaError(Exception):
    """The descriptor at `table` cannot be followed; `state` is for ADMAES."""

    def __init__(self, state: int, table: int) -> None:
        super().__init__(state, table)
        self.state, self.table = state, table


class Cursor(NamedTuple):
    """How far a transfer has come: the next descriptor, what is left of the current one, whether it is the last."""

    table: int
    address: int = 0
    left: int = 0
    ended: bool = False


def gather(dma: Dma, cursor: Cursor, most: int) -> tuple[list[memoryview], list[tuple[int, int]], Cursor]:
    """Up to `most` bytes of guest RAM from the cursor on, at least one: views, their physical addresses and lengths.

    And the cursor after them. Raises AdmaError.
    """
    views: list[memoryview] = []
    pieces: list[tuple[int, int]] = []
    for _ in range(_MOST_DESCRIPTORS):
        if cursor.left:
            length = min(cursor.left, most)
            try:
                found = dma.pieces(cursor.address, length, True)
                views += [dma.view(pa, n, True) for pa, n in found]
            except BusError:
                raise AdmaError(TRANSFER, cursor.table) from None
            pieces += found
            cursor = cursor._replace(address=cursor.address + length, left=cursor.left - length)
            most -= length
        if not most or len(views) >= _MOST_PIECES or (cursor.ended and pieces):
            return views, pieces, cursor
        cursor = _next(dma, cursor)
    if not pieces:
        raise AdmaError(FETCH, cursor.table)
    return views, pieces, cursor


def _next(dma: Dma, cursor: Cursor) -> Cursor:
    """The cursor at the bytes of the next descriptor; `left` stays 0 where it has none."""
    if cursor.ended:
        raise AdmaError(LENGTH_MISMATCH | TRANSFER, cursor.table)
    try:
        raw = b"".join(dma.views(cursor.table, DESCRIPTOR, False))
    except BusError:
        raise AdmaError(FETCH, cursor.table) from None
    flags, length, address = struct.unpack("<HHI", raw)
    action = flags & _ACTION
    if not flags & _VALID or action == _RESERVED:
        raise AdmaError(FETCH, cursor.table)
    table = address if action == _LINK else cursor.table + DESCRIPTOR & 0xFFFF_FFFF
    if action == _TRANSFER:
        return Cursor(table, address, length or 1 << 16, bool(flags & _END))
    return Cursor(table, ended=bool(flags & _END) and action != _LINK)
