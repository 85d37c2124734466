"""Contexts from outside: what they hold of data translations, and emptying them, at the speed tests need."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from ..vcpu.modes import CHUNK_BYTES, CODE_BYTES, LOW_BYTES
from ..vcpu.state import SOFT_CHUNKS, SOFT_CODE_ENTRIES, Context

_USED, _OWNED = Context.offset("used"), Context.offset("owned")
_CODE, _CODE_OWNED = Context.offset("code"), Context.offset("code_owned")
_BITS = SOFT_CHUNKS // 8
_TABLES = (
    (Context.offset("data"), CHUNK_BYTES, 0xFF),
    (Context.offset("low_read"), LOW_BYTES, 0),
    (Context.offset("low_write"), LOW_BYTES, 0),
)
"""Where a context keeps data translations, the bytes of a chunk there, and what they are when it is empty."""


def _chunks(context: int) -> Iterator[int]:
    """Numbers of the chunks in use of the context at an address."""
    used = int.from_bytes(ctypes.string_at(context + _USED, _BITS), "little")
    while used:
        yield (used & -used).bit_length() - 1
        used &= used - 1


def data_translations(context: int) -> dict[int, tuple[bytes, ...]]:
    """The chunks in use of the context at an address, of each table."""
    return {
        chunk: tuple(ctypes.string_at(context + offset + chunk * size, size) for offset, size, _ in _TABLES)
        for chunk in _chunks(context)
    }


def put_data_translations(context: int, chunks: dict[int, tuple[bytes, ...]]) -> None:
    """Give an empty context what `data_translations` found in another, as if it were its process's own."""
    used = sum(1 << chunk for chunk in chunks).to_bytes(_BITS, "little")
    for bits in (_USED, _OWNED):
        ctypes.memmove(context + bits, used, _BITS)
    for chunk, parts in chunks.items():
        for (offset, size, _), data in zip(_TABLES, parts, strict=True):
            ctypes.memmove(context + offset + chunk * size, data, size)


def empty(context: int) -> None:
    """Drop everything that the context at an address holds."""
    for chunk in _chunks(context):
        for offset, size, nothing in _TABLES:
            ctypes.memset(context + offset + chunk * size, nothing, size)
    ctypes.memset(context + _USED, 0, _BITS)
    ctypes.memset(context + _OWNED, 0, _BITS)
    ctypes.memset(context + _CODE, 0xFF, CODE_BYTES)
    ctypes.memset(context + _CODE_OWNED, 0, SOFT_CODE_ENTRIES // 8)
