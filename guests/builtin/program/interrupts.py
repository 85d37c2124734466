"""Interrupts: what each means, and the MPIC that sends the external ones (version 4.2, mixed mode)."""

from __future__ import annotations

from ....devices.mpic_registers import IPIS, TIMERS_PER_GROUP, Gcr, Ivpr, Offset, Tbcr
from ....isa.registers import IVOR, MSR, TSR
from ....native.ints import u32, u64
from ....native.lang import at, native, static
from ..words import peek, poke, routine, say, symbol, text, the
from . import layout
from .console import on_uart
from .cpu import this
from .state import Board, Frame

VECTOR_IPI, VECTOR_TIMER = 0x100, 0x110
SPURIOUS = 0xFFFF
PRIORITY = 8
INTERRUPT_NAMES = tuple((n, name.lower().replace("_", " ")) for name, n in vars(IVOR).items() if name.isupper())


# ---- the controller ------------------------------------------------------------------------------------------------


@native(inline=True)
def mpic(offset: u32) -> u32:
    """Address of a register of the MPIC."""
    return u32(layout.CCSR) + the(Board).mpic + offset


@native
def source_word(vector: u32) -> u32:
    """A source's vector and priority register, unmasked."""
    return vector | u32(PRIORITY) << u32(Ivpr.priority.lo)


@native
def start_mpic() -> None:
    """Reset it; IPIs and the serial line's interrupt get vectors, the line goes to CPU 0."""
    poke(u32, mpic(Offset.GCR), u32(Gcr.reset.mask))
    while peek(u32, mpic(Offset.GCR)) & Gcr.reset.mask:
        routine(None, "relax")
    poke(u32, mpic(Offset.GCR), u32(Gcr.mixed.mask))
    poke(u32, mpic(Offset.SPVE), u32(SPURIOUS))
    for n in range(IPIS):
        poke(u32, mpic(Offset.IPIVPR + 0x10 * n), source_word(VECTOR_IPI + n))
    source = the(Board).uart_source
    if source != 0:
        where = mpic(Offset.SOURCE + Offset.SOURCE_STRIDE * source)
        poke(u32, where + Offset.IDR, u32(1))
        poke(u32, where + Offset.IVPR, source_word(source))


@native
def admit(priority: u32) -> None:
    """CTPR: the running CPU takes interrupts above a priority."""
    poke(u32, mpic(Offset.CTPR), priority)


@native
def send_ipi(which: u32, cpus: u32) -> None:
    """Interrupt the CPUs of a mask."""
    poke(u32, mpic(Offset.IPIDR + 0x10 * which), cpus)


@native
def start_timer(n: u32, count: u32) -> None:
    """Let a timer interrupt CPU 0 every `count` of its ticks; 0 stops it."""
    where = mpic(Offset.GROUP + Offset.TIMER + Offset.TIMER_STRIDE * n)
    poke(u32, where + Offset.TBCR, u32(Tbcr.inhibit.mask))
    if count == 0:
        poke(u32, where + Offset.TVPR, u32(Ivpr.mask.mask))
        return
    poke(u32, where + Offset.TDR, u32(1))
    poke(u32, where + Offset.TVPR, source_word(VECTOR_TIMER + n))
    poke(u32, where + Offset.TBCR, count)


@native
def on_external() -> None:
    """Acknowledge, act, end."""
    cpu = this()
    vector = peek(u32, mpic(Offset.IACK))
    if vector == SPURIOUS:
        cpu.spurious += 1
        return
    if vector >= VECTOR_IPI and vector < VECTOR_IPI + IPIS:
        cpu.ipis[vector - VECTOR_IPI] += 1
    elif vector >= VECTOR_TIMER and vector < VECTOR_TIMER + TIMERS_PER_GROUP:
        cpu.timer += 1
    elif vector == the(Board).uart_source:
        if on_uart():
            cpu.uart += 1
    poke(u32, mpic(Offset.EOI), u32(0))


# ---- all interrupts ------------------------------------------------------------------------------------------------


@native
def on_interrupt(number: u32, where: u32) -> None:
    """What entry.s calls with the IVOR number and the frame's address."""
    cpu = this()
    frame = at(Frame, u64(where))
    if number == IVOR.EXTERNAL:
        on_external()
    elif number == IVOR.DECREMENTER:
        routine(None, "set_tsr", u32(TSR.DIS))
        cpu.ticks += 1
    elif number == IVOR.DOORBELL:
        cpu.doorbells += 1
    elif number == IVOR.SYSTEM_CALL:
        cpu.system_calls += 1
    elif number == IVOR.FP_UNAVAILABLE:
        cpu.unavailable += 1
        frame.msr |= u32(MSR.FP)
    elif number == IVOR.ALTIVEC_UNAVAILABLE:
        cpu.unavailable += 1
        frame.msr |= u32(MSR.VEC)
    elif cpu.recover != 0:
        cpu.fault = number + 1
        cpu.fault_address = frame.dear
        cpu.fault_syndrome = frame.esr
        frame.pc = cpu.recover
        frame.gpr[1] = cpu.recover_sp
        if number == IVOR.MACHINE_CHECK:
            routine(None, "set_mcsr", routine(u32, "get_mcsr"))
    else:
        report(number, where)
        routine(None, "halt")
    # The interrupt came between the look at a word and the `wait` for its change: go on after the `wait`.
    if frame.pc >= symbol("idle") and frame.pc < symbol("idle_end"):
        frame.pc = symbol("idle_end")


@native
def report(number: u32, where: u32) -> None:
    """An interrupt nobody expected: show where it came from."""
    frame = at(Frame, u64(where))
    say("\n*** CPU {}: unexpected {:s} interrupt\n", this().number, interrupt_name(number))
    say("PC {:08x}  MSR {:08x}  LR {:08x}  CTR {:08x}\n", frame.pc, frame.msr, frame.lr, frame.ctr)
    say("CR {:08x}  XER {:08x}  ESR {:08x}  DEAR {:08x}\n", frame.cr, frame.xer, frame.esr, frame.dear)
    for n in range(32):
        say("r{:<3}{:08x}{:s}", n, frame.gpr[n], text("\n") if n % 4 == 3 else text("  "))


@native
def interrupt_name(number: u32) -> u32:
    """The name of IVOR<number>, a string."""
    for known, name in static(INTERRUPT_NAMES):
        if number == known:
            return text(name)
    return text("unknown")
