"""Hardware threads of an e6500 core, category E.EM: enabling, disabling, and their next instruction and MSR."""

from __future__ import annotations

from ..isa.registers import MSR, TMR
from ..native.ints import u32, u64
from ..native.lang import address_of, at, atomic_cas, atomic_store, field_addr, native
from .locks import wake
from .modes import set_msr
from .state import ExitReason, Request, ThreadState, Vcpu


@native
def thread_of(cpu: Vcpu, thread: u32) -> u64:
    """Address of the Vcpu of a thread of this core, 0 when there is no such thread."""
    if thread == cpu.thread:
        return address_of(cpu)
    return cpu.sibling if thread < cpu.core.threads else u64(0)


@native
def enabled_threads(cpu: Vcpu) -> u64:
    """TENSR: a bit for each enabled thread, thread 0 in the least significant."""
    mask = u64(0)
    for n in range(cpu.core.threads):
        where = thread_of(cpu, n)
        if where != 0 and at(Vcpu, where).disabled != ThreadState.STOPPED:
            mask |= u64(1) << n
    return mask


@native
def enable_threads(cpu: Vcpu, mask: u64) -> None:
    """TENS: the threads go on at their next instruction address."""
    for n in range(cpu.core.threads):
        where = thread_of(cpu, n)
        if where != 0 and mask >> n & 1:
            other = at(Vcpu, where)
            if other.disabled:
                atomic_store(u32, field_addr(other, "disabled"), u32(ThreadState.ENABLED))
                wake(other, u32(Request.KICK))


@native
def disable_threads(cpu: Vcpu, mask: u64) -> None:
    """TENC: the threads stop between two instructions, TENSR tells when; this one leaves native code by THREADS."""
    for n in range(cpu.core.threads):
        where = thread_of(cpu, n)
        if where != 0 and mask >> n & 1:
            other = at(Vcpu, where)
            atomic_cas(u32, field_addr(other, "disabled"), u32(ThreadState.ENABLED), u32(ThreadState.STOPPING))
            if n == cpu.thread:
                cpu.exit_reason = u32(ExitReason.THREADS)
            else:
                wake(other, u32(Request.KICK))


@native
def tmr_exists(n: u32) -> bool:
    """Whether a thread management register is implemented."""
    return n == TMR.TMCFG0 or n == TMR.IMSR0 or n == TMR.IMSR1 or n == TMR.INIA0 or n == TMR.INIA1


@native
def read_tmr(cpu: Vcpu, n: u32) -> u64:
    """TMCFG0[NTHRD, NATHRD]; INIAn and IMSRn as last written."""
    if n == TMR.TMCFG0:
        return u64(cpu.core.threads) | u64(cpu.core.threads) << 8
    return cpu.tmr[n]


@native
def write_tmr(cpu: Vcpu, n: u32, value: u64) -> None:
    """INIAn and IMSRn are the next instruction address and MSR of a thread while it is disabled."""
    if n == TMR.TMCFG0:
        return
    cpu.tmr[n] = value
    where = thread_of(cpu, n & 1)
    if where == 0:
        return
    other = at(Vcpu, where)
    if other.disabled == ThreadState.STOPPED:  # before that its own host thread may be using what changes here
        if n == TMR.IMSR0 or n == TMR.IMSR1:
            other.msr = other.msr & ~u32(MSR.GS)  # the hypervisor writes it: a guest that was stopped protects nothing
            set_msr(other, u32(value))
        else:
            other.pc = value & ~u64(3)
            other.waiting = u32(0)
