"""TLB management instructions (Book III-E 6.11.4)."""

from __future__ import annotations

from ..isa.insn import insn
from ..isa.registers import EPCR, ESR, IVOR, MAS0, MSR, SPR
from ..native.ints import u32, u64
from ..native.lang import fence, native
from ..vcpu.interrupts import deliver, raise_program
from ..vcpu.lrat import read_lrat, write_lrat
from ..vcpu.mmu_ops import (
    ADDRESS,
    LPID,
    PID,
    guest_may_write,
    invalidate_broadcast,
    invalidate_local,
    read_entry,
    search,
    write_entry,
)
from ..vcpu.ops import address, require_hypervisor, require_supervisor
from ..vcpu.shootdown import await_all
from ..vcpu.state import Vcpu
from .strings import base


@native(inline=True)
def require_tlb_management(cpu: Vcpu) -> None:
    """Privileged, and hypervisor-privileged in a guest while EPCR[DGTMI]."""
    require_supervisor(cpu)
    if cpu.msr & MSR.GS and u32(cpu.spr[SPR.EPCR]) & EPCR.DGTMI:
        deliver(cpu, IVOR.HYPERVISOR_PRIVILEGE, cpu.pc)


@native(inline=True)
def effective(cpu: Vcpu, ra: u32, rb: u32) -> u64:
    """(RA|0) + (RB)."""
    return address(cpu, base(cpu, ra) + cpu.gpr[rb])


@insn("31 /:15 978:10 /:1", "tlbwe", ends=True)
def tlbwe(cpu: Vcpu) -> None:
    """TLB Write Entry"""
    require_tlb_management(cpu)
    if cpu.msr & MSR.GS:
        if not guest_may_write(cpu):
            deliver(cpu, IVOR.HYPERVISOR_PRIVILEGE, cpu.pc)
        write_entry(cpu)
    elif u32(cpu.spr[SPR.MAS0]) & MAS0.ATSEL:
        write_lrat(cpu)
    else:
        write_entry(cpu)


@insn("31 /:15 946:10 /:1", "tlbre")
def tlbre(cpu: Vcpu) -> None:
    """TLB Read Entry"""
    require_hypervisor(cpu)
    if u32(cpu.spr[SPR.MAS0]) & MAS0.ATSEL:
        read_lrat(cpu)
    else:
        read_entry(cpu)


@insn("31 /:5 ra:5 rb:5 914:10 /:1", "tlbsx ra0,rb")
def tlbsx(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """TLB Search Indexed"""
    require_hypervisor(cpu)
    search(cpu, effective(cpu, ra, rb))


@insn("31 /:3 t:2 ra:5 rb:5 18:10 /:1", "tlbilx t,ra0,rb", needs="tlbilx", ends=True)
def tlbilx(cpu: Vcpu, t: u32, ra: u32, rb: u32) -> None:
    """TLB Invalidate Local Indexed"""
    require_tlb_management(cpu)
    if t != LPID and t != PID and t != ADDRESS:
        raise_program(cpu, ESR.PIL)
    invalidate_local(cpu, t, effective(cpu, ra, rb))


@insn("31 /:5 ra:5 rb:5 786:10 /:1", "tlbivax ra0,rb", ends=True)
def tlbivax(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """TLB Invalidate Virtual Address Indexed"""
    require_hypervisor(cpu)
    invalidate_broadcast(cpu, effective(cpu, ra, rb))


@insn("31 /:15 566:10 /:1", "tlbsync")
def tlbsync(cpu: Vcpu) -> None:
    """TLB Synchronize"""
    require_hypervisor(cpu)
    fence()
    await_all(cpu)
