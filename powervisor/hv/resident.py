"""How much of a range of the host's address space is in memory."""

from __future__ import annotations

import ctypes
import mmap
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def resident_bytes(address: int, size: int) -> int:
    """Bytes of the pages between `address` and `address + size` that have been touched. Raises OSError."""
    first = address & -mmap.PAGESIZE
    length = address + size - first
    pages = (ctypes.c_char * -(-length // mmap.PAGESIZE))()
    if _libc.mincore(first, length, pages):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pages.raw.count(1) * mmap.PAGESIZE
