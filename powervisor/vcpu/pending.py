"""Asynchronous interrupts: which is deliverable, and taking it (Book III-E 7.9.1; enabling rules of category E.HV)."""

from __future__ import annotations

from ..isa.registers import DBCR0, DBSR, EPCR, HID0, IVOR, MCSR, MSR, SPR, TCR, TSR
from ..native.ints import u32, u64
from ..native.lang import Abort, atomic_and, atomic_load, call_host, field_addr, native
from .debug import EVENTS
from .interrupts import record, take, to_guest
from .modes import undebugged
from .ops import address
from .state import Doorbell, Line, Vcpu
from .timers import host_ns
from .timing import Latency, delivered, raised

NONE = 0xFFFF_FFFF
"""No interrupt is deliverable."""
IDLE = 2
"""`Vcpu.waiting` in a hypercall that ends when an interrupt is pending, even one that MSR holds off."""
TIMER_EVENTS = TSR.WIS | TSR.DIS | TSR.FIS


@native(inline=True)
def quiet(cpu: Vcpu) -> bool:
    """Whether no source of an asynchronous interrupt is active, enabled or not."""
    return (cpu.lines | cpu.doorbells | u32(cpu.spr[SPR.TSR]) & TIMER_EVENTS | u32(cpu.spr[SPR.DBSR]) & EVENTS) == 0


@native
def highest(cpu: Vcpu) -> u32:
    """Number of the deliverable interrupt with the highest priority, or NONE."""
    msr, lines, doorbells = cpu.msr, atomic_load(u32, field_addr(cpu, "lines")), cpu.doorbells
    guest = msr & MSR.GS != 0
    if lines & Line.NMI:
        return IVOR.MACHINE_CHECK
    if lines & Line.MACHINE_CHECK and u32(cpu.spr[SPR.HID0]) & HID0.EMCP and msr & (MSR.ME | MSR.GS):
        return IVOR.MACHINE_CHECK
    if doorbells & Doorbell.GUEST_MACHINE_CHECK and guest and msr & MSR.ME:
        return IVOR.GUEST_CRITICAL_DOORBELL
    if u32(cpu.spr[SPR.DBSR]) & EVENTS and msr & MSR.DE and u32(cpu.spr[SPR.DBCR0]) & DBCR0.IDM:
        if not undebugged(cpu, msr):
            return IVOR.DEBUG
    tsr, tcr = u32(cpu.spr[SPR.TSR]), u32(cpu.spr[SPR.TCR])
    if msr & (MSR.CE | MSR.GS):
        if lines & Line.CRITICAL:
            return IVOR.CRITICAL
        if tsr & TSR.WIS and tcr & TCR.WIE:
            return IVOR.WATCHDOG
        if doorbells & Doorbell.CRITICAL:
            return IVOR.CRITICAL_DOORBELL
        if doorbells & Doorbell.GUEST_CRITICAL and guest and msr & MSR.CE:
            return IVOR.GUEST_CRITICAL_DOORBELL
    if lines & Line.EXTERNAL:
        if u32(cpu.spr[SPR.EPCR]) & EPCR.EXTGS:
            if guest and msr & MSR.EE:
                return IVOR.EXTERNAL
        elif msr & (MSR.EE | MSR.GS):
            return IVOR.EXTERNAL
    if msr & (MSR.EE | MSR.GS):
        if tsr & TSR.FIS and tcr & TCR.FIE:
            return IVOR.FIT
        if tsr & TSR.DIS and tcr & TCR.DIE:
            return IVOR.DECREMENTER
        if doorbells & Doorbell.DBELL:
            return IVOR.DOORBELL
        if doorbells & Doorbell.GUEST and guest and msr & MSR.EE:
            return IVOR.GUEST_DOORBELL
    return NONE


@native
def deliverable(cpu: Vcpu) -> bool:
    """Whether an asynchronous interrupt would be taken now."""
    return not quiet(cpu) and highest(cpu) != NONE


@native
def idle_ends(cpu: Vcpu) -> bool:
    """Whether something is pending that MSR alone may hold off."""
    if quiet(cpu):
        return False
    msr = cpu.msr
    cpu.msr = msr | MSR.EE | MSR.CE | MSR.ME | MSR.DE
    found = highest(cpu) != NONE
    cpu.msr = msr
    return found


@native(inline=True)
def answer(cpu: Vcpu, bit: u32) -> None:
    """A doorbell message is used up when its interrupt is taken."""
    atomic_and(u32, field_addr(cpu, "doorbells"), ~bit)


@native(cold=True)
def time_delivery(cpu: Vcpu, number: u32) -> None:
    """An interrupt is taken, and somebody wants to know how late."""
    now = u64(host_ns(cpu))
    if number == IVOR.EXTERNAL and cpu.vm.irqchip_taken != 0:
        waited = call_host(u64, cpu.vm.irqchip_taken, cpu.vm.irqchip, cpu.index)
        if waited < now:
            raised(cpu, u32(Latency.EXTERNAL), now - waited)
            delivered(cpu, u32(Latency.EXTERNAL), now)
    elif number == IVOR.DOORBELL:
        delivered(cpu, u32(Latency.DOORBELL), now)
    elif number >= IVOR.DECREMENTER and number <= IVOR.WATCHDOG:
        delivered(cpu, number - u32(IVOR.DECREMENTER - Latency.DECREMENTER), now)


@native
def acknowledge(cpu: Vcpu, number: u32) -> None:
    """What taking an interrupt does to its source."""
    if cpu.timing != 0:
        time_delivery(cpu, number)
    if number == IVOR.EXTERNAL:
        vm = cpu.vm
        if vm.irqchip_proxy != 0 and call_host(u32, vm.irqchip_proxy, vm.irqchip) != 0:
            vector = u64(call_host(u32, vm.irqchip_ack, vm.irqchip, cpu.index))
            if to_guest(cpu, number):
                cpu.spr[SPR.GEPR] = vector
            else:
                cpu.spr[SPR.EPR] = vector
    elif number == IVOR.MACHINE_CHECK:
        if atomic_and(u32, field_addr(cpu, "lines"), ~u32(Line.NMI)) & Line.NMI:
            cpu.spr[SPR.MCSR] = cpu.spr[SPR.MCSR] | MCSR.NMI
        else:
            cpu.spr[SPR.MCSR] = cpu.spr[SPR.MCSR] | MCSR.MCP
    elif number == IVOR.DOORBELL:
        answer(cpu, Doorbell.DBELL)
    elif number == IVOR.CRITICAL_DOORBELL:
        answer(cpu, Doorbell.CRITICAL)
    elif number == IVOR.GUEST_DOORBELL:
        answer(cpu, Doorbell.GUEST)
    elif number == IVOR.GUEST_CRITICAL_DOORBELL:
        if cpu.doorbells & Doorbell.GUEST_MACHINE_CHECK and cpu.msr & MSR.ME:
            answer(cpu, Doorbell.GUEST_MACHINE_CHECK)
        else:
            answer(cpu, Doorbell.GUEST_CRITICAL)


@native
def take_pending(cpu: Vcpu) -> None:
    """Take every deliverable interrupt; PC is at the next instruction. One that is taken may enable another."""
    if atomic_load(u32, field_addr(cpu, "lines")) & Line.DEBUG_UNCONDITIONAL:
        atomic_and(u32, field_addr(cpu, "lines"), ~u32(Line.DEBUG_UNCONDITIONAL))
        record(cpu, DBSR.UDE, cpu.msr)
    while not quiet(cpu):
        number = highest(cpu)
        if number == NONE:
            return
        acknowledge(cpu, number)
        take(cpu, number, cpu.pc)
        if cpu.exit_reason:  # a hook sees this one before another is taken
            return


@native(inline=True)
def following(cpu: Vcpu) -> u64:
    """Address of the instruction after this one."""
    return address(cpu, cpu.pc + 4)


@native
def check_pending(cpu: Vcpu, next_pc: u64) -> None:
    """After an instruction that may have enabled an interrupt, as its last act: take it, with PC at `next_pc`."""
    if deliverable(cpu):
        finish(cpu, next_pc)


@native(cold=True)
def finish(cpu: Vcpu, next_pc: u64) -> None:
    """The instruction is complete: go on at `next_pc`, after whatever is pending or an exit."""
    cpu.pc = next_pc
    if not cpu.passing or cpu.vm.lockstep:  # who is stepped through in lockstep goes the way of all
        take_pending(cpu)
    raise Abort
