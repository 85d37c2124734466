"""Which pages of a private mapping are a process's own by now: Linux tells in /proc/self/pagemap."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator

Run = tuple[int, int]
"""Offset and length, in bytes."""

_PAGEMAP = "/proc/self/pagemap"
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
_ENTRY = 8
_AT_A_TIME = 1 << 17  # entries

_IOCTL = 0xC000_0000 | 96 << 16 | ord("f") << 8 | 16  # PAGEMAP_SCAN, Linux 6.7
_SCAN_FILE, _SCAN_PRESENT, _SCAN_SWAPPED = 1 << 2, 1 << 3, 1 << 4
_REGIONS = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)


class _Scan(ctypes.Structure):
    """struct pm_scan_arg."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages", "category_inverted",
            "category_mask", "category_anyof_mask", "return_mask",
        )
    ]  # fmt: skip


class _Region(ctypes.Structure):
    """struct page_region."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("start", "end", "categories")]


def available() -> bool:
    """Whether this host tells."""
    return os.access(_PAGEMAP, os.R_OK)


def own_pages(address: int, size: int) -> list[Run]:
    """Runs of pages of a private file mapping that were written since it was made, in order. Raises OSError."""
    pagemap = os.open(_PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = _scanned(pagemap, address, size)
        return _read(pagemap, address, size) if found is None else found
    finally:
        os.close(pagemap)


def _scanned(pagemap: int, address: int, size: int) -> list[Run] | None:
    """By ioctl, which looks only where page tables are; None where the kernel has none."""
    regions = (_Region * _REGIONS)()
    scan = _Scan(
        ctypes.sizeof(_Scan), 0, address, address + size, 0, ctypes.addressof(regions), _REGIONS, 0, _SCAN_FILE,
        _SCAN_FILE, _SCAN_PRESENT | _SCAN_SWAPPED, _SCAN_PRESENT,
    )  # fmt: skip
    runs: list[Run] = []
    while scan.start < scan.end:
        count = _libc.ioctl(pagemap, _IOCTL, ctypes.addressof(scan))
        if count < 0:
            return None
        runs += ((region.start - address, region.end - region.start) for region in regions[:count])
        scan.start = scan.walk_end
    return joined(runs)


def _read(pagemap: int, address: int, size: int) -> list[Run]:
    """By reading an entry for every page."""
    page = mmap.PAGESIZE
    runs: list[Run] = []
    for first in range(0, size // page, _AT_A_TIME):
        count = min(_AT_A_TIME, size // page - first)
        entries = memoryview(os.pread(pagemap, count * _ENTRY, (address // page + first) * _ENTRY)).cast("Q")
        there = _PRESENT | _SWAPPED
        runs += ((n * page, page) for n, e in enumerate(entries, first) if e & there and not e & _OF_FILE)
    return joined(runs)


def joined(runs: Iterable[Run]) -> list[Run]:
    """Runs in order, those that touch or overlap as one."""
    found: list[Run] = []
    for offset, length in runs:
        if found and offset <= sum(found[-1]):
            found[-1] = found[-1][0], max(sum(found[-1]), offset + length) - found[-1][0]
        else:
            found.append((offset, length))
    return found


def data_runs(fd: int, start: int, end: int) -> Iterator[Run]:
    """Runs of a part of a file where it has pages; everything else reads as 0."""
    while start < end:
        try:
            first = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # ENXIO: holes up to the end
            return
        if first >= end:
            return
        start = min(os.lseek(fd, first, os.SEEK_HOLE), end)
        yield first, start - first
