"""Locks and sleeping between host threads that run native code: a spinlock word, and the kernel's futex.

Every function takes the address of libc's `syscall`, which `host_syscall` finds: compiled code has no imports.
Numbers are x86-64 Linux's, the only host code is generated for.
"""

from __future__ import annotations

import ctypes
from functools import cache

from .ints import i64, u32, u64
from .lang import atomic_load, atomic_store, atomic_xchg, call_host, native, relax

SYS_SCHED_YIELD = 24
SYS_FUTEX = 202
FUTEX_WAIT_PRIVATE = 128
FUTEX_WAKE_PRIVATE = 129

SPINS_BEFORE_YIELD = 64


@cache
def host_syscall() -> int:
    """Address of libc's `syscall`."""
    address = ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value
    assert address is not None
    return address


@native(inline=True)
def give_way(syscall: u64) -> None:
    """Let another thread have this host processor, if one wants it."""
    call_host(i64, syscall, u64(SYS_SCHED_YIELD))


@native
def acquire(word: u64, syscall: u64) -> None:
    """Take the spinlock at an address; give the processor away while its holder seems not to run."""
    while atomic_xchg(u32, word, u32(1)) != 0:
        spins = u32(0)
        while atomic_load(u32, word) != 0:
            relax()
            spins += 1
            if spins >= SPINS_BEFORE_YIELD:
                give_way(syscall)
                spins = u32(0)


@native(inline=True)
def release(word: u64) -> None:
    """Give the spinlock back."""
    atomic_store(u32, word, u32(0))


@native
def futex_wait(address: u64, expected: u32, timeout: u64, syscall: u64) -> i64:
    """Sleep while the word at an address has a value; `timeout` is the address of a timespec, or 0 for ever.

    Returns 0 when woken, -1 when the word differed, the time passed or a signal came: look at the word again.
    """
    return call_host(i64, syscall, u64(SYS_FUTEX), address, u64(FUTEX_WAIT_PRIVATE), u64(expected), timeout)


@native
def futex_wake(address: u64, syscall: u64) -> None:
    """Wake every thread of this process that sleeps on the word at an address."""
    call_host(i64, syscall, u64(SYS_FUTEX), address, u64(FUTEX_WAKE_PRIVATE), u64(0x7FFF_FFFF))
