"""Which translated code and which soft TLB are current: both follow from MSR, PID, LPIDR and FPSCR."""

from __future__ import annotations

from ..isa.registers import DBCR0, EPCR, MSR, MSRP, SPR
from ..native.ints import u8, u32, u64
from ..native.lang import address_of, at, copy, field_addr, fill, native
from .state import (
    CONTEXTS,
    SOFT_CHUNK,
    SOFT_CHUNKS,
    SOFT_CODE_ENTRIES,
    SOFT_DATA_ENTRIES,
    Context,
    Mode,
    SoftCode,
    SoftData,
    Stat,
    Vcpu,
)
from .trace import Trace, TraceEvent, emit

FPSCR_SLOW = 0x80 | 0x40 | 0x20 | 0x10 | 0x08 | 0x03
"""FPSCR[VE OE UE ZE XE RN]: while any is set the host FPU is not used."""

STEP_EVENTS = (
    DBCR0.ICMP | DBCR0.BRT | DBCR0.IAC1 | DBCR0.IAC2 | DBCR0.IAC3 | DBCR0.IAC4 | DBCR0.IAC5 | DBCR0.IAC6 | DBCR0.IAC7
    | DBCR0.IAC8 | DBCR0.DAC1R | DBCR0.DAC1W | DBCR0.DAC2R | DBCR0.DAC2W
)  # fmt: skip
"""Debug events that are found by executing one instruction at a time."""

NO_TAG = 0xFFFF_FFFF_FFFF_FFFF
CHUNK_BYTES, CODE_BYTES = SoftData.size * SOFT_CHUNK, SoftCode.size * SOFT_CODE_ENTRIES
LOW_BYTES = 8 * SOFT_CHUNK


KEY_GS, KEY_PID, KEY_LPID_AT = 8, 0x3FFF << 8, 32
KEY_LPID = 0xFF << KEY_LPID_AT
"""MSR[GS], PID and LPIDR in a context's key."""


@native
def context_key(cpu: Vcpu) -> u64:
    """Everything a translation depends on besides the address; never 0."""
    msr = cpu.msr
    spaces = (msr >> 4 & 3) | (msr >> 12 & 4) | (msr >> 25 & 8) | 16  # IS, DS, PR, GS
    return u64(spaces) | (cpu.spr[SPR.PID] & 0x3FFF) << 8 | (cpu.spr[SPR.LPIDR] & 0xFF) << KEY_LPID_AT


@native(inline=True)
def key_pid(key: u64) -> u32:
    """The PID in a context key."""
    return u32(key >> 8) & 0x3FFF


@native(inline=True)
def key_guest(key: u64) -> u32:
    """MSR[GS] in a context key."""
    return u32(key) >> 3 & 1


@native(inline=True)
def key_lpid(key: u64) -> u32:
    """The LPID in a context key."""
    return u32(key >> 32)


@native
def clear_chunks(context: Context, first: u64, last: u64, owned: bool) -> None:
    """Empty what is used, or what is a process's own, of a run of chunks of the data translations."""
    chunk = first
    while chunk < last:
        word, bit = chunk >> 6, u64(1) << (chunk & 63)
        found = (context.owned[word] if owned else context.used[word]) & ~(bit - 1)
        if found == 0:
            chunk = (chunk | 63) + 1
        else:
            if found & bit:
                fill(field_addr(context, "data", chunk * SOFT_CHUNK), u8(0xFF), u64(CHUNK_BYTES))
                fill(field_addr(context, "low_read", chunk * SOFT_CHUNK), u8(0), u64(LOW_BYTES))
                fill(field_addr(context, "low_write", chunk * SOFT_CHUNK), u8(0), u64(LOW_BYTES))
                context.used[word] = context.used[word] & ~bit
                context.owned[word] = context.owned[word] & ~bit
            chunk += 1


@native
def clear_owned_code(context: Context) -> None:
    """Forget the code translations that are a process's own."""
    for word in range(u64(SOFT_CODE_ENTRIES // 64)):
        owned = context.code_owned[word]
        slot = word << 6
        while owned != 0:
            if owned & 1:
                context.code[slot].tag = u64(NO_TAG)
            owned = owned >> 1
            slot += 1
        context.code_owned[word] = u64(0)


@native
def clear_context(context: Context) -> None:
    """Forget every cached translation of a context."""
    clear_chunks(context, u64(0), u64(SOFT_CHUNKS), False)
    fill(field_addr(context, "code", 0), u8(0xFF), u64(CODE_BYTES))
    fill(field_addr(context, "code_owned", 0), u8(0), u64(SOFT_CODE_ENTRIES // 8))


@native
def clear_owned(context: Context) -> None:
    """Forget the translations of a context that are its process's own: those of every process stay."""
    clear_chunks(context, u64(0), u64(SOFT_CHUNKS), True)
    clear_owned_code(context)


@native
def inherit_code(context: Context, source: Context) -> None:
    """Give an empty context the code translations of every process that another one has."""
    copy(field_addr(context, "code", 0), field_addr(source, "code", 0), u64(CODE_BYTES))
    copy(field_addr(context, "code_owned", 0), field_addr(source, "code_owned", 0), u64(SOFT_CODE_ENTRIES // 8))
    clear_owned_code(context)


@native
def reset_contexts(cpu: Vcpu) -> None:
    """Make every context empty and unused."""
    for n in range(u64(CONTEXTS)):
        context = at(Context, cpu.contexts + n * Context.size)
        clear_context(context)
        # Zero is the tag of the last page, which accesses meet that begin in the last two.
        for slot in range(u64(SOFT_DATA_ENTRIES - 2), u64(SOFT_DATA_ENTRIES)):
            last = context.data[slot]
            last.read = u64(NO_TAG)
            last.write = u64(NO_TAG)
            last.zero = u64(NO_TAG)
        cpu.context_keys[n] = u64(0)
        cpu.context_used[n] = u64(0)
    cpu.context_key = u64(0)
    cpu.context = cpu.contexts


@native
def switch_context(cpu: Vcpu, key: u64) -> None:
    """Make the context with a key current; the least recently used one is given up when none has it."""
    cpu.stats[Stat.CONTEXT_SWITCHES] = cpu.stats[Stat.CONTEXT_SWITCHES] + 1
    cpu.context_clock += 1
    if cpu.trace & Trace.MMU:
        emit(cpu, u32(TraceEvent.CONTEXT), u32(0), cpu.pc, key, u64(0), u64(0), u64(0), u64(0))
    chosen = u64(0)
    while chosen < CONTEXTS and cpu.context_keys[chosen] != key:
        chosen += 1
    if chosen == CONTEXTS:
        chosen = u64(0)
        for n in range(u64(1), u64(CONTEXTS)):
            if cpu.context_used[n] < cpu.context_used[chosen]:
                chosen = n
        context = at(Context, cpu.contexts + chosen * Context.size)
        clear_context(context)
        if (cpu.context_key ^ key) & ~u64(KEY_PID) == 0 and address_of(context) != cpu.context:
            inherit_code(context, at(Context, cpu.context))
        cpu.context_keys[chosen] = key
    cpu.context_used[chosen] = cpu.context_clock
    cpu.context_key = key
    cpu.context = cpu.contexts + chosen * Context.size


@native(inline=True)
def undebugged(cpu: Vcpu, msr: u32) -> bool:
    """Whether EPCR[DUVD] keeps debug events away: in hypervisor state (GS=0, PR=0) as an MSR has it."""
    return msr & (MSR.GS | MSR.PR) == 0 and u32(cpu.spr[SPR.EPCR]) & EPCR.DUVD != 0


@native
def step_events(cpu: Vcpu) -> u32:
    """Enabled debug events that need one-at-a-time execution: without MSR[DE] only address compares are noticed."""
    control = u32(cpu.spr[SPR.DBCR0])
    if control & DBCR0.IDM == 0 or undebugged(cpu, cpu.msr):
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
    if cpu.context_key != key:
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
    """Write MSR as mtmsr and rfi do: a guest cannot leave GS, nor change what MSRP protects (Book III-E 4.2.1).

    Without category E.HV there is no GS.
    """
    writable = u32(MSR_BITS)
    if cpu.core.is64:
        writable |= MSR.CM
    if cpu.core.has_altivec:
        writable |= MSR.VEC
    if cpu.core.virtual:
        writable = writable & ~u32(MSR.GS)
    if cpu.msr & MSR.GS:
        protected = u32(cpu.spr[SPR.MSRP]) & (MSRP.UCLEP | MSRP.DEP | MSRP.PMMP)  # at the bits they protect
        writable = writable & ~(protected | MSR.GS)
    cpu.msr = (cpu.msr & ~writable) | (value & writable)
    update_mode(cpu)
