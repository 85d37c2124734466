"""Which translated code and which soft TLB are current: both follow from MSR, PID, LPIDR and FPSCR."""

from __future__ import annotations

from ..isa.registers import DBCR0, MSR, SPR
from ..native.ints import u8, u32, u64
from ..native.lang import address_of, at, field_addr, fill, native
from .state import CONTEXTS, SOFT_CODE_ENTRIES, SOFT_DATA_ENTRIES, Context, Mode, SoftCode, SoftData, Stat, Vcpu

FPSCR_SLOW = 0x80 | 0x40 | 0x20 | 0x10 | 0x08 | 0x03
"""FPSCR[VE OE UE ZE XE RN]: while any is set the host FPU is not used."""

NO_TAG = 0xFFFF_FFFF_FFFF_FFFF
SOFT_TABLES = SoftData.size * SOFT_DATA_ENTRIES + SoftCode.size * SOFT_CODE_ENTRIES


@native
def context_key(cpu: Vcpu) -> u64:
    """Everything a translation depends on besides the address; never 0."""
    msr = cpu.msr
    spaces = (msr >> 4 & 3) | (msr >> 12 & 4) | (msr >> 25 & 8) | 16  # IS, DS, PR, GS
    return u64(spaces) | (cpu.spr[SPR.PID] & 0x3FFF) << 8 | (cpu.spr[SPR.LPIDR] & 0xFF) << 32


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
    if msr & MSR.DE and u32(cpu.spr[SPR.DBCR0]) & DBCR0.IDM:
        events = u32(cpu.spr[SPR.DBCR0]) & 0x0FFF_8041
        cpu.debug_events = events
    else:
        cpu.debug_events = u32(0)
