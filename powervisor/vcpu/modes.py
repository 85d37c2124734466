"""Which translated code and which soft TLB are current: both follow from MSR, PID, LPIDR and FPSCR."""

from __future__ import annotations

from ..isa.registers import DBCR0, EPCR, MSR, MSRP, SPR
from ..native.ints import u8, u32, u64
from ..native.lang import address_of, at, field_addr, fill, native
from .state import CONTEXTS, SOFT_CODE_ENTRIES, SOFT_DATA_ENTRIES, Context, Mode, SoftCode, SoftData, Stat, Vcpu

FPSCR_SLOW = 0x80 | 0x40 | 0x20 | 0x10 | 0x08 | 0x03
"""FPSCR[VE OE UE ZE XE RN]: while any is set the host FPU is not used."""

STEP_EVENTS = (
    DBCR0.ICMP | DBCR0.BRT | DBCR0.IAC1 | DBCR0.IAC2 | DBCR0.DAC1R | DBCR0.DAC1W | DBCR0.DAC2R | DBCR0.DAC2W
)  # fmt: skip
"""Debug events that are found by executing one instruction at a time."""

NO_TAG = 0xFFFF_FFFF_FFFF_FFFF
SOFT_TABLES = SoftData.size * SOFT_DATA_ENTRIES + SoftCode.size * SOFT_CODE_ENTRIES


@native
def context_key(cpu: Vcpu) -> u64:
    """Everything a translation depends on besides the address; never 0."""
    msr = cpu.msr
    spaces = (msr >> 4 & 3) | (msr >> 12 & 4) | (msr >> 25 & 8) | 16  # IS, DS, PR, GS
    return u64(spaces) | (cpu.spr[SPR.PID] & 0x3FFF) << 8 | (cpu.spr[SPR.LPIDR] & 0xFF) << 32


@native(inline=True)
def key_pid(key: u64) -> u32:
    """The PID in a context key."""
    return u32(key >> 8) & 0x3FFF


@native
def clear_context(context: Context) -> None:
    """Forget every cached translation of a context."""
    fill(field_addr(context, "data", 0), u8(0xFF), u64(SOFT_TABLES))


@native
def switch_context(cpu: Vcpu, key: u64) -> None:
    """Make the context with a key current; the least recently used one is given up when none has it."""
    cpu.stats[Stat.CONTEXT_SWITCHES] = cpu.stats[Stat.CONTEXT_SWITCHES] + 1
    cpu.context_clock += 1
    oldest = cpu.contexts
    oldest_use = u64(NO_TAG)
    for n in range(u64(CONTEXTS)):
        where = cpu.contexts + n * Context.size
        context = at(Context, where)
        if context.key == key:
            context.used = cpu.context_clock
            cpu.context = where
            return
        if context.used < oldest_use:
            oldest_use = context.used
            oldest = where
    context = at(Context, oldest)
    clear_context(context)
    context.key = key
    context.used = cpu.context_clock
    cpu.context = address_of(context)


@native
def step_events(cpu: Vcpu) -> u32:
    """Enabled debug events that need one-at-a-time execution: without MSR[DE] only address compares are noticed."""
    control = u32(cpu.spr[SPR.DBCR0])
    if control & DBCR0.IDM == 0 or (cpu.msr & MSR.GS == 0 and u32(cpu.spr[SPR.EPCR]) & EPCR.DUVD):
        return u32(0)
    if cpu.msr & MSR.DE:
        return control & STEP_EVENTS
    return control & STEP_EVENTS & ~u32(DBCR0.ICMP | DBCR0.BRT)


@native
def update_mode(cpu: Vcpu) -> None:
    """Recompute `mode` and the current context after MSR, PID, LPIDR, FPSCR or a debug register changed."""
    msr = cpu.msr
    mode = (msr >> 31) | (msr >> 13 & 2) | (msr >> 26 & 4)
    if msr & MSR.FP:
        mode |= Mode.FP
        if cpu.fpscr & FPSCR_SLOW:
            mode |= Mode.FPX
    if msr & MSR.VEC:
        mode |= Mode.VEC
    cpu.mode = mode
    key = context_key(cpu)
    if at(Context, cpu.context).key != key:
        switch_context(cpu, key)
    events = step_events(cpu)
    if events != 0 and cpu.debug_events == 0:
        for n in range(u64(CONTEXTS)):  # data accesses must come past `debug_data`
            clear_context(at(Context, cpu.contexts + n * Context.size))
    cpu.debug_events = events


MSR_BITS = (
    MSR.GS | MSR.UCLE | MSR.CE | MSR.EE | MSR.PR | MSR.FP | MSR.ME | MSR.FE0 | MSR.DE | MSR.FE1 | MSR.IS | MSR.DS
    | MSR.PMM | MSR.RI
)  # fmt: skip
"""MSR bits of every core; CM and VEC depend on the model."""


@native
def set_msr(cpu: Vcpu, value: u32) -> None:
    """Write MSR as mtmsr and rfi do: a guest cannot leave GS, nor change what MSRP protects (Book III-E 4.2.1)."""
    writable = u32(MSR_BITS)
    if cpu.core.is64:
        writable |= MSR.CM
    if cpu.core.has_altivec:
        writable |= MSR.VEC
    if cpu.msr & MSR.GS:
        protected = u32(cpu.spr[SPR.MSRP]) & (MSRP.UCLEP | MSRP.DEP | MSRP.PMMP)  # at the bits they protect
        writable = writable & ~(protected | MSR.GS)
    cpu.msr = (cpu.msr & ~writable) | (value & writable)
    update_mode(cpu)
