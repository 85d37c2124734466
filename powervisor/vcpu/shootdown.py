"""Waiting until other vCPUs have dropped the translations they cached.

An invalidation asks others by Request.FLUSH, which they notice at their next branch. What follows it (another use of
the page) must not come before that: tlbilx, tlbwe and MMUCSR0 wait for the core's other thread, tlbsync for everybody.
A vCPU outside native code, or asleep, uses nothing cached before it looks at its requests.
"""

from __future__ import annotations

from ..native.ints import i64, u32
from ..native.lang import address_of, at, atomic_and, atomic_load, field_addr, native, relax
from ..native.locks import futex_wait
from .mmu import forget_all
from .state import Request, Vcpu

SPINS = 256
PAUSE_NS = 50_000
"""A vCPU that does not answer has lost its host processor: sleep that long, then look again."""


@native
def must_answer(other: Vcpu) -> u32:
    """The requests of a vCPU that has a flush to do before it stops using what it cached; 0 when it has not."""
    requests = atomic_load(u32, field_addr(other, "requests"))
    if requests & Request.FLUSH == 0 or atomic_load(u32, field_addr(other, "inside")) == 0:
        return u32(0)
    return u32(0) if atomic_load(u32, field_addr(other, "asleep")) != 0 else requests


@native(cold=True)
def await_flush(cpu: Vcpu, other: Vcpu) -> None:
    """Wait for one vCPU; it may be waiting for this one."""
    spins = u32(0)
    requests = must_answer(other)
    while requests != 0:
        if atomic_load(u32, field_addr(cpu, "requests")) & Request.FLUSH:
            atomic_and(u32, field_addr(cpu, "requests"), ~u32(Request.FLUSH))
            forget_all(cpu)
        spins += 1
        if spins < SPINS:
            relax()
        else:
            cpu.sleep_time[0] = i64(0)
            cpu.sleep_time[1] = i64(PAUSE_NS)
            futex_wait(field_addr(other, "requests"), requests, field_addr(cpu, "sleep_time", 0), cpu.vm.futex)
        requests = must_answer(other)


@native
def await_sibling(cpu: Vcpu) -> None:
    """Wait for the core's other thread."""
    if cpu.sibling:
        await_flush(cpu, at(Vcpu, cpu.sibling))


@native(cold=True)
def await_all(cpu: Vcpu) -> None:
    """Wait for every other vCPU of the machine."""
    for n in range(cpu.vm.vcpu_count):
        other = cpu.vm.vcpus[n]
        if other != address_of(cpu):
            await_flush(cpu, at(Vcpu, other))
