"""Interrupts: delivery, return, and the choice among pending ones (Book III-E, chapter 7; E.HV rules).

`deliver` saves state, sets MSR and PC as the interrupt class says, and abandons the instruction.
"""

from __future__ import annotations

from ..isa.registers import DBCR0, DBSR, EPCR, ESR, IVOR, MSR, MSRP, SPR, TCR
from ..native.ints import u32, u64
from ..native.lang import Abort, atomic_or, field_addr, native
from .modes import undebugged, update_mode
from .state import GUEST_TAKES, ExitReason, Request, Vcpu
from .timers import freeze_timers
from .trace import Trace, trace_interrupt


@native(inline=True)
def ivor_spr(number: u32) -> u32:
    """SPR number of IVORn."""
    if number < 16:
        return SPR.IVOR0 + number
    if number < 38:
        return SPR.IVOR32 + number - 32
    return SPR.IVOR38 + number - 38


@native(inline=True)
def is_critical(number: u32) -> bool:
    """Interrupts of the critical class: CSRR0/1."""
    return (
        number == IVOR.CRITICAL
        or number == IVOR.WATCHDOG
        or number == IVOR.CRITICAL_DOORBELL
        or number == IVOR.GUEST_CRITICAL_DOORBELL
    )


@native
def record(cpu: Vcpu, event: u32, msr: u32) -> None:
    """Set a debug event in DBSR, with IDE while MSR[DE] keeps the interrupt away."""
    cpu.spr[SPR.DBSR] = cpu.spr[SPR.DBSR] | u64(event if msr & MSR.DE else event | DBSR.IDE)
    freeze_timers(cpu)


@native
def interrupt_event(cpu: Vcpu, number: u32, before: u32) -> None:
    """Interrupt taken debug events, with the MSR from before the interrupt; the interrupt comes at the vector."""
    control = u32(cpu.spr[SPR.DBCR0])
    if control & DBCR0.IDM == 0 or undebugged(cpu, before):
        return
    event = u32(0)
    if is_critical(number):
        event = u32(DBSR.CIRPT) if control & DBCR0.CIRPT else u32(0)
    elif number != IVOR.DEBUG and number != IVOR.MACHINE_CHECK:
        event = u32(DBSR.IRPT) if control & DBCR0.IRPT else u32(0)
    if event:
        record(cpu, event, before)
        atomic_or(u32, field_addr(cpu, "requests"), u32(Request.LINES))


@native(inline=True)
def tell_hook(cpu: Vcpu, number: u32) -> None:
    """Leave native code at the vector of an interrupt that somebody hooked."""
    if cpu.vm.hooked_interrupts >> u64(number) & 1 and cpu.exit_reason == 0:
        cpu.exit_reason = u32(ExitReason.INTERRUPT)
        cpu.exit_detail = number


@native(cold=True)
def enter(cpu: Vcpu, number: u32, return_pc: u64) -> None:
    """Take an interrupt to the hypervisor state (GS=0): save, new MSR, PC at the vector.

    New MSR (Book III-E 7.6, category E.ED; EREF): ME and RI stay but for machine checks, DE for base and critical
    class, CE for base class; CM becomes EPCR[ICM]; everything else is cleared.
    """
    msr = cpu.msr
    keep = u32(MSR.RI | MSR.ME | MSR.CE | MSR.DE)
    if number == IVOR.MACHINE_CHECK:
        cpu.spr[SPR.MCSRR0] = return_pc
        cpu.spr[SPR.MCSRR1] = u64(msr)
        keep = u32(0)
    elif number == IVOR.DEBUG:
        cpu.spr[SPR.DSRR0] = return_pc
        cpu.spr[SPR.DSRR1] = u64(msr)
        keep = u32(MSR.RI | MSR.ME)
    elif is_critical(number):
        cpu.spr[SPR.CSRR0] = return_pc
        cpu.spr[SPR.CSRR1] = u64(msr)
        keep = u32(MSR.RI | MSR.ME | MSR.DE)
    elif number == IVOR.GUEST_DOORBELL:
        cpu.spr[SPR.GSRR0] = return_pc
        cpu.spr[SPR.GSRR1] = u64(msr)
    else:
        cpu.spr[SPR.SRR0] = return_pc
        cpu.spr[SPR.SRR1] = u64(msr)
    new = msr & keep
    if cpu.spr[SPR.EPCR] & EPCR.ICM:
        new |= MSR.CM
    vector = (cpu.spr[SPR.IVPR] & 0xFFFF_FFFF_FFFF_0000) | (cpu.spr[ivor_spr(number)] & 0xFFF0)
    if new & MSR.CM == 0:
        vector = vector & 0xFFFF_FFFF
    if (
        vector == return_pc
        and msr & MSR.GS == 0  # a guest's vector may have the address of the hypervisor's
        and u32(cpu.spr[SPR.TCR]) & TCR.WRC == 0
        and (number == IVOR.PROGRAM or number == IVOR.INSTRUCTION_STORAGE or number == IVOR.INSTRUCTION_TLB)
    ):
        # It would be taken for ever, and no watchdog will reset the guest out of it: the user is told instead.
        cpu.exit_reason = u32(ExitReason.CHECKSTOP)
        cpu.exit_detail = u32(1)
    cpu.msr = new
    cpu.pc = vector
    cpu.waiting = 0
    cpu.interrupts[number] = cpu.interrupts[number] + 1
    if cpu.trace & (Trace.IRQ | Trace.SYSCALL):
        trace_interrupt(cpu, number, return_pc, msr)
    if u32(cpu.spr[SPR.DBCR0]) & (DBCR0.IRPT | DBCR0.CIRPT):
        interrupt_event(cpu, number, msr)
    tell_hook(cpu, number)
    update_mode(cpu)


@native(inline=True)
def givor_spr(number: u32) -> u32:
    """SPR number of GIVORn, 0 where the interrupt has no guest vector."""
    if number == IVOR.DATA_STORAGE:
        return u32(SPR.GIVOR2)
    if number == IVOR.INSTRUCTION_STORAGE:
        return u32(SPR.GIVOR3)
    if number == IVOR.EXTERNAL:
        return u32(SPR.GIVOR4)
    if number == IVOR.SYSTEM_CALL:
        return u32(SPR.GIVOR8)
    if number == IVOR.DATA_TLB:
        return u32(SPR.GIVOR13)
    if number == IVOR.INSTRUCTION_TLB:
        return u32(SPR.GIVOR14)
    return u32(0)


@native(inline=True)
def to_guest(cpu: Vcpu, number: u32) -> bool:
    """Whether an interrupt taken while GS=1 is directed to the guest (EPCR; sc 0 always)."""
    if cpu.msr & MSR.GS == 0:
        return False
    epcr = u32(cpu.spr[SPR.EPCR])
    if number == IVOR.SYSTEM_CALL:
        return True
    if number == IVOR.DATA_STORAGE:
        return epcr & EPCR.DSIGS != 0
    if number == IVOR.INSTRUCTION_STORAGE:
        return epcr & EPCR.ISIGS != 0
    if number == IVOR.EXTERNAL:
        return epcr & EPCR.EXTGS != 0
    if number == IVOR.DATA_TLB:
        return epcr & EPCR.DTLBGS != 0
    if number == IVOR.INSTRUCTION_TLB:
        return epcr & EPCR.ITLBGS != 0
    return False


@native(cold=True)
def enter_guest(cpu: Vcpu, number: u32, return_pc: u64) -> None:
    """Take an interrupt in the guest state: GSRR0/1, GIVPR | GIVORn; MSRP protects UCLE, DE and PMM."""
    msr = cpu.msr
    cpu.spr[SPR.GSRR0] = return_pc
    cpu.spr[SPR.GSRR1] = u64(msr)
    new = msr & (MSR.RI | MSR.ME | MSR.CE | MSR.DE | MSR.GS)
    protect = u32(cpu.spr[SPR.MSRP])
    if protect & MSRP.UCLEP:
        new |= msr & MSR.UCLE
    if protect & MSRP.PMMP:
        new |= msr & MSR.PMM
    if cpu.spr[SPR.EPCR] & EPCR.GICM:
        new |= MSR.CM
    vector = (cpu.spr[SPR.GIVPR] & 0xFFFF_FFFF_FFFF_0000) | (cpu.spr[givor_spr(number)] & 0xFFF0)
    if new & MSR.CM == 0:
        vector = vector & 0xFFFF_FFFF
    cpu.msr = new
    cpu.pc = vector
    cpu.waiting = 0
    cpu.interrupts[number + GUEST_TAKES] = cpu.interrupts[number + GUEST_TAKES] + 1
    if cpu.trace & (Trace.IRQ | Trace.SYSCALL):
        trace_interrupt(cpu, number, return_pc, msr)
    if u32(cpu.spr[SPR.DBCR0]) & DBCR0.IRPT:
        interrupt_event(cpu, number, msr)
    tell_hook(cpu, number)
    update_mode(cpu)


@native(cold=True)
def take(cpu: Vcpu, number: u32, return_pc: u64) -> None:
    """Take an interrupt, to the guest or the hypervisor state as EPCR directs."""
    if to_guest(cpu, number):
        enter_guest(cpu, number, return_pc)
    else:
        enter(cpu, number, return_pc)


@native(cold=True)
def deliver(cpu: Vcpu, number: u32, return_pc: u64) -> None:
    """Take an interrupt and abandon the instruction being executed."""
    take(cpu, number, return_pc)
    raise Abort


@native(cold=True)
def deliver_data_fault(cpu: Vcpu, number: u32, ea: u64, esr: u32) -> None:
    """Data storage or data TLB error interrupt: address and syndrome in the registers of the state that takes it."""
    guest = to_guest(cpu, number)
    cpu.spr[u32(SPR.GDEAR) if guest else u32(SPR.DEAR)] = ea
    cpu.spr[u32(SPR.GESR) if guest else u32(SPR.ESR)] = u64(esr)
    deliver(cpu, number, cpu.pc)


@native(cold=True)
def deliver_fetch_fault(cpu: Vcpu, esr: u32) -> None:
    """Instruction storage interrupt, with the syndrome in the register of the state that takes it."""
    cpu.spr[u32(SPR.GESR) if to_guest(cpu, IVOR.INSTRUCTION_STORAGE) else u32(SPR.ESR)] = u64(esr)
    deliver(cpu, IVOR.INSTRUCTION_STORAGE, cpu.pc)


@native(cold=True)
def raise_program(cpu: Vcpu, esr: u32) -> None:
    """Program interrupt with a syndrome; PC at the instruction. A trap may be a debug event instead (8.4.3)."""
    if esr == ESR.PTR and u32(cpu.spr[SPR.DBCR0]) & (DBCR0.IDM | DBCR0.TRAP) == DBCR0.IDM | DBCR0.TRAP:
        if not undebugged(cpu, cpu.msr):
            record(cpu, DBSR.TRAP, cpu.msr)
            if cpu.msr & MSR.DE:
                deliver(cpu, IVOR.DEBUG, cpu.pc)
    cpu.spr[SPR.ESR] = u64(esr)
    deliver(cpu, IVOR.PROGRAM, cpu.pc)


@native(cold=True)
def raise_alignment(cpu: Vcpu, ea: u64, store: bool, esr: u32) -> None:
    """Alignment interrupt with DEAR and ESR: ST, and the bits the access adds (EPID)."""
    cpu.spr[SPR.DEAR] = ea
    cpu.spr[SPR.ESR] = u64(esr | ESR.ST) if store else u64(esr)
    deliver(cpu, IVOR.ALIGNMENT, cpu.pc)
