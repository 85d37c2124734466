"""Executable memory in the low 2 GiB of the host's address space, so that 32-bit relocations always reach."""

from __future__ import annotations

import ctypes
import mmap
import platform

from ..errors import UserError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x2 | 0x20 | 0x4000
_MAP_FIXED_NOREPLACE = 0x100000
_LOW, _HIGH, _STEP = 0x1000_0000, 0x7F00_0000, 0x20_0000


def check_host() -> None:
    """Refuse hosts without a code generator of ours."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise UserError(f"host {platform.machine()}: translated code exists for x86-64 hosts only; use such a host")


class CodeSpace:
    """A reserved range, filled from the bottom with `take`; pages cost memory when touched.

    `base` asks for one address; without it the highest free one is taken: below, at an address that changes from start
    to start, is the heap of programs that are not position-independent, as Debian's Python.
    """

    def __init__(self, size: int, base: int | None = None) -> None:
        check_host()
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        for wanted in range(_HIGH - size, _LOW - 1, -_STEP) if base is None else (base,):
            flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED_NOREPLACE
            address = _libc.mmap(wanted, size, protection, flags, -1, 0)
            if address == wanted:
                break
            if address not in (None, 2**64 - 1):
                _libc.munmap(address, size)
        else:
            raise UserError(
                f"no {size >> 20} MiB of executable memory in the low 2 GiB: too many machines in one process, "
                "or the host forbids writable code (SELinux execmem)"
            )
        self.base, self.size, self.used = wanted, size, 0

    def take(self, size: int, align: int = 16) -> int:
        """Address of `size` fresh bytes."""
        start = (self.used + align - 1) & -align
        if start + size > self.size:
            raise MemoryError("code space is full")
        self.used = start + size
        return self.base + start

    def give_back(self, start: int) -> None:
        """Let the host have the memory from the page after so many bytes on; it is zero when it is used again."""
        start = (start + mmap.PAGESIZE - 1) & -mmap.PAGESIZE
        _libc.madvise(self.base + start, self.size - start, mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the range back; nothing in it may run or be read any more."""
        if self.base:
            _libc.munmap(self.base, self.size)
            self.base = 0
