"""Waking and sleeping of virtual processors, and the lock of a core's TLBs."""

from __future__ import annotations

from ..native.ints import i64, u32, u64
from ..native.lang import atomic_cas, atomic_load, atomic_or, atomic_store, field_addr, native
from ..native.locks import acquire, futex_wait, futex_wake, release
from .state import ThreadState, Vcpu

FOREVER = 0xFFFF_FFFF_FFFF_FFFF
"""Timeout that never passes."""
BILLION = 1_000_000_000


@native
def wake(cpu: Vcpu, requests: u32) -> None:
    """Ask something of a vCPU (Request bits) and wake its host thread if it sleeps."""
    atomic_or(u32, field_addr(cpu, "requests"), requests)
    if atomic_load(u32, field_addr(cpu, "asleep")) != 0:
        futex_wake(field_addr(cpu, "requests"), cpu.vm.futex)


@native
def stop_thread(cpu: Vcpu) -> None:
    """A thread that TENC stops has stopped when it has nothing to execute."""
    atomic_cas(u32, field_addr(cpu, "disabled"), u32(ThreadState.STOPPING), u32(ThreadState.STOPPED))


@native
def sleep(cpu: Vcpu, timeout_ns: u64) -> None:
    """Sleep until something is requested of this vCPU, the time has passed, or a signal comes.

    `asleep` is stored before `requests` is looked at, and wakers do the opposite: no wake-up is lost.
    """
    stop_thread(cpu)
    atomic_store(u32, field_addr(cpu, "asleep"), u32(1))
    if atomic_load(u32, field_addr(cpu, "requests")) == 0:
        limit = u64(0)
        if timeout_ns != FOREVER:
            cpu.sleep_time[0] = i64(timeout_ns // BILLION)
            cpu.sleep_time[1] = i64(timeout_ns % BILLION)
            limit = field_addr(cpu, "sleep_time", 0)
        futex_wait(field_addr(cpu, "requests"), u32(0), limit, cpu.vm.futex)
    atomic_store(u32, field_addr(cpu, "asleep"), u32(0))


@native
def lock_tlb(cpu: Vcpu) -> None:
    """Take the lock of the core's TLBs: other threads of the core, and tlbivax of other cores, change them too."""
    acquire(field_addr(cpu.tlb, "lock"), cpu.vm.futex)


@native
def unlock_tlb(cpu: Vcpu) -> None:
    """Release it."""
    release(field_addr(cpu.tlb, "lock"))
