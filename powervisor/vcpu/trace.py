"""What a vCPU does, told to Python while somebody wants to know: records in a ring of its own.

`Vcpu.trace` says what is wanted. Native code looks at it on rare paths only (interrupts, TLB misses and writes, device
accesses, waiting), so that nothing is slower while it is 0. Traced instructions are executed one at a time: the page
they lie in gets no entry in the soft code TLB, as in `stops`, and all other code is as fast as ever.

The vCPU alone writes records and `head`, Python alone `tail`. A ring that is half full makes the vCPU leave at the next
place where it looks at requests; the other half is more than it can fill on the way there.
"""

from __future__ import annotations

from ..isa.registers import IVOR, MSR, SPR
from ..native.ints import u32, u64
from ..native.lang import at, atomic_load, atomic_or, atomic_store, field_addr, load, native, static, store
from ..native.struct import Array, Struct
from .state import ExitReason, Request, TlbEntry, Vcpu
from .timers import host_ns

PAGE_SHIFT = 12
VALUES = 4
"""Changed registers that one record holds."""
CR_NUMBER, XER_NUMBER, MSR_NUMBER, FPR_NUMBER, VR_NUMBER, SPR_NUMBER, MOVED_NUMBER = 32, 33, 34, 64, 96, 128, 254
"""How a record calls registers: GPRs by their numbers, then these. CR and XER are as `Vcpu` holds them, the halves of
a VR come one after another, SPRs count on in TRACED_SPRS; the last is what a mtspr moved."""
NO_NUMBER = 255
TRACED_SPRS = (
    SPR.LR, SPR.CTR, SPR.SRR0, SPR.SRR1, SPR.GSRR0, SPR.GSRR1, SPR.CSRR0, SPR.CSRR1, SPR.DSRR0, SPR.DSRR1, SPR.MCSRR0,
    SPR.MCSRR1, SPR.DEAR, SPR.ESR, SPR.GDEAR, SPR.GESR, SPR.MAS0, SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS5, SPR.MAS6,
    SPR.MAS7, SPR.MAS8,
)  # fmt: skip
"""SPRs that instructions other than mtspr change."""
SPRS_AT, FPRS_AT, VRS_AT, SHADOWED = 35, 64, 96, 160
STEPPED = 4096
MTSPR = 31 << 26 | 467 << 1
MTSPR_MASK = 0x3F << 26 | 0x3FF << 1
"""mtspr, without its operands."""


class Trace:
    """Bits of `Vcpu.trace`."""

    INSN = 1
    IRQ = 2
    SYSCALL = 4
    MMU = 8
    TLB = 16
    MMIO = 32
    HCALL = 64
    WAIT = 128


class TraceEvent:
    """Kinds of records, with what `detail` and `args` hold."""

    INSN = 1  # word; numbers of changed registers a byte each, then their values
    CHANGES = 2  # more of the INSN before
    INTERRUPT = 3  # IVOR number; vector, MSR before, ESR, DEAR, MSR after
    SYSCALL = 4  # -; r0, r3, r4, r5, r6
    MISS = 5  # kind of access; EA, ESR bits, space
    FAULT = 6  # kind of access; EA, ESR bits
    CONTEXT = 7  # -; key of the new context
    TLB_WRITE = 8  # MAS0; EA, PA, MAS1 << 32 | MAS2, MAS3 << 32 | MAS8, mask
    WALK = 9  # -; as above: the hardware loaded a page
    INVALIDATE = 10  # tlbilx T, or mmu_ops.IVAX, FLASH; EA, MAS5, MAS6
    MMIO = 11  # size; PA, value, whether a write: answered by native code
    HCALL = 12  # token; r3, r4, r5, r6: answered by native code
    WAIT = 13  # -; when it began, in ns
    BLOCK = 14  # bytes; PA: code is executed for the first time
    SAMPLE = 15  # -; LR, what the sampler said
    FRAME = 16  # -; `pc` is a return address of the SAMPLE before


class TraceRecord(Struct):
    """One event. `time` is the host's CLOCK_MONOTONIC in ns, `key` the context's (see modes)."""

    time: u64
    pc: u64
    key: u64
    kind: u32
    detail: u32
    args: Array[u64, 5]


class TraceRing(Struct):
    """Where a vCPU's events go; and of which instructions they are told, and what is remembered for that."""

    head: u64
    tail: u64
    lost: u64
    mask: u64  # how many records it holds, less one
    records: u64
    asked: u64  # what a sampler says with its request
    first: u64  # instructions at first .. last,
    last: u64
    space_mask: u64  # in contexts whose key has `space` under it
    space: u64
    began: u64  # of the instruction being executed
    pc: u64
    count: u64  # changed registers in `numbers` and `values` that wait for their record
    kind: u32
    word: u32
    numbers: u64
    values: Array[u64, VALUES]
    before: Array[u64, SHADOWED]
    stepped: Array[u64, STEPPED]  # instructions told as covered, by a hash


@native(cold=True)
def emit(
    cpu: Vcpu, kind: u32, detail: u32, pc: u64, one: u64, two: u64, three: u64, four: u64, five: u64
) -> None:  # fmt: skip
    """Tell of an event that happens now."""
    put(cpu, u64(host_ns(cpu)), kind, detail, pc, one, two, three, four, five)


@native(cold=True)
def put(
    cpu: Vcpu, time: u64, kind: u32, detail: u32, pc: u64, one: u64, two: u64, three: u64, four: u64, five: u64
) -> None:  # fmt: skip
    """Write a record; one that finds no room is counted."""
    if cpu.tracer == 0:
        return
    ring = at(TraceRing, cpu.tracer)
    head = ring.head
    waiting = head - atomic_load(u64, field_addr(ring, "tail"))
    if waiting > ring.mask:
        ring.lost = ring.lost + 1
        return
    record = at(TraceRecord, ring.records + (head & ring.mask) * TraceRecord.size)
    record.time = time
    record.pc = pc
    record.key = cpu.context_key
    record.kind = kind
    record.detail = detail
    record.args[0] = one
    record.args[1] = two
    record.args[2] = three
    record.args[3] = four
    record.args[4] = five
    atomic_store(u64, field_addr(ring, "head"), head + 1)
    if waiting > ring.mask >> 1:
        atomic_or(u32, field_addr(cpu, "requests"), u32(Request.KICK))


@native(cold=True)
def trace_interrupt(cpu: Vcpu, number: u32, return_pc: u64, before: u32) -> None:
    """An interrupt was taken: PC and MSR are those of its handler, syndrome and address are in their registers."""
    if number == IVOR.SYSTEM_CALL and cpu.trace & Trace.SYSCALL:
        emit(
            cpu, u32(TraceEvent.SYSCALL), u32(0), return_pc - 4, cpu.gpr[0], cpu.gpr[3], cpu.gpr[4], cpu.gpr[5],
            cpu.gpr[6],
        )  # fmt: skip
    if cpu.trace & Trace.IRQ:
        guest = cpu.msr & MSR.GS != 0
        syndrome = cpu.spr[u32(SPR.GESR) if guest else u32(SPR.ESR)]
        where = cpu.spr[u32(SPR.GDEAR) if guest else u32(SPR.DEAR)]
        emit(
            cpu, u32(TraceEvent.INTERRUPT), number, return_pc, cpu.pc, u64(before), syndrome, where, u64(cpu.msr)
        )  # fmt: skip


@native(cold=True)
def trace_entry(cpu: Vcpu, kind: u32, mas0: u32, entry: TlbEntry) -> None:
    """A TLB entry was written."""
    mas1 = u64(entry.mas1 & 0x7FFF_FFFF) | u64(entry.valid) << 31
    emit(
        cpu, kind, mas0, cpu.pc, entry.ea, entry.pa, mas1 << 32 | u64(entry.mas2),
        u64(entry.mas3) << 32 | u64(entry.mas8), entry.mask,
    )  # fmt: skip


# ---- instructions --------------------------------------------------------------------------------------------------


@native(cold=True)
def steps_here(cpu: Vcpu) -> bool:
    """Whether the page that PC is in has traced instructions, in the current context."""
    ring = at(TraceRing, cpu.tracer)
    page = cpu.pc >> PAGE_SHIFT
    inside = page >= ring.first >> PAGE_SHIFT and page <= ring.last >> PAGE_SHIFT
    return inside and cpu.context_key & ring.space_mask == ring.space


@native(cold=True)
def traces_here(cpu: Vcpu) -> bool:
    """Whether the instruction at PC is traced."""
    ring = at(TraceRing, cpu.tracer)
    return cpu.pc >= ring.first and cpu.pc <= ring.last and cpu.context_key & ring.space_mask == ring.space


@native(cold=True)
def before_instruction(cpu: Vcpu) -> None:
    """Remember the registers. What is executed again with a device's answer began when it asked for that."""
    ring = at(TraceRing, cpu.tracer)
    if cpu.mmio_done == 0:
        ring.began = u64(host_ns(cpu))
    ring.pc = cpu.pc
    cpu.fetch_word = u32(0)
    for n in range(u64(32)):
        ring.before[n] = cpu.gpr[n]
    ring.before[CR_NUMBER] = load(u64, field_addr(cpu, "cr", 0))
    ring.before[XER_NUMBER] = u64(load(u32, field_addr(cpu, "so")))
    ring.before[MSR_NUMBER] = u64(cpu.msr)
    for n, number in static(tuple(enumerate(TRACED_SPRS))):
        ring.before[SPRS_AT + n] = cpu.spr[number]
    if cpu.msr & MSR.FP:
        for n in range(u64(32)):
            ring.before[FPRS_AT + n] = cpu.fpr[n]
    if cpu.msr & MSR.VEC:
        for n in range(u64(64)):
            ring.before[VRS_AT + n] = load(u64, field_addr(cpu, "vr", 0) + n * 8)


@native(cold=True)
def after_instruction(cpu: Vcpu, abandoned: bool) -> None:
    """Tell of the instruction: what it was and which registers it changed, none if it led to an interrupt.

    One that left for a device, a handler or a debugger is executed again, and told then.
    """
    ring = at(TraceRing, cpu.tracer)
    reason = cpu.exit_reason
    if abandoned and (reason == ExitReason.MMIO or reason == ExitReason.HANDLER or reason == ExitReason.WATCH):
        return
    ring.kind = u32(TraceEvent.INSN)
    ring.word = cpu.fetch_word
    ring.count = u64(0)
    ring.numbers = u64(0xFFFF_FFFF_FFFF_FFFF)
    if not abandoned:
        compare(cpu, ring)
    if ring.count != 0 or ring.kind == TraceEvent.INSN:
        tell_changes(cpu, ring)


@native(cold=True)
def compare(cpu: Vcpu, ring: TraceRing) -> None:
    """Note each register that is not as it was."""
    for n in range(u64(32)):
        note(cpu, ring, n, ring.before[n], cpu.gpr[n])
    note(cpu, ring, u64(CR_NUMBER), ring.before[CR_NUMBER], load(u64, field_addr(cpu, "cr", 0)))
    note(cpu, ring, u64(XER_NUMBER), ring.before[XER_NUMBER], u64(load(u32, field_addr(cpu, "so"))))
    if ring.before[MSR_NUMBER] & u64(MSR.FP) and cpu.msr & MSR.FP:
        for n in range(u64(32)):
            note(cpu, ring, FPR_NUMBER + n, ring.before[FPRS_AT + n], cpu.fpr[n])
    if ring.before[MSR_NUMBER] & u64(MSR.VEC) and cpu.msr & MSR.VEC:
        for n in range(u64(32)):
            compare_vector(cpu, ring, n)
    for n, number in static(tuple(enumerate(TRACED_SPRS))):
        note(cpu, ring, u64(SPR_NUMBER + n), ring.before[SPRS_AT + n], cpu.spr[number])
    note(cpu, ring, u64(MSR_NUMBER), ring.before[MSR_NUMBER], u64(cpu.msr))
    if ring.word & MTSPR_MASK == MTSPR:
        moved = ring.before[ring.word >> 21 & 31]
        note(cpu, ring, u64(MOVED_NUMBER), ~moved, moved)


@native(cold=True)
def compare_vector(cpu: Vcpu, ring: TraceRing, number: u64) -> None:
    """Note both halves of a vector register, the one with element 0 first, when one of them changed."""
    where = field_addr(cpu, "vr", 0) + number * 16
    low, high = load(u64, where), load(u64, where + 8)
    if low != ring.before[VRS_AT + number * 2] or high != ring.before[VRS_AT + number * 2 + 1]:
        note(cpu, ring, VR_NUMBER + number, ~high, high)
        note(cpu, ring, VR_NUMBER + number, ~low, low)


@native(cold=True)
def note(cpu: Vcpu, ring: TraceRing, number: u64, old: u64, new: u64) -> None:
    """Add a register to the record being made, if it changed."""
    if old == new:
        return
    if ring.count == VALUES:
        tell_changes(cpu, ring)
    shift = ring.count * 8
    ring.numbers = (ring.numbers & ~(u64(0xFF) << shift)) | number << shift
    ring.values[ring.count] = new
    ring.count = ring.count + 1


@native(cold=True)
def tell_changes(cpu: Vcpu, ring: TraceRing) -> None:
    """Write the record being made, and begin one more for the same instruction."""
    put(
        cpu, ring.began, ring.kind, ring.word, ring.pc, ring.numbers, ring.values[0], ring.values[1], ring.values[2],
        ring.values[3],
    )  # fmt: skip
    ring.kind = u32(TraceEvent.CHANGES)
    ring.count = u64(0)
    ring.numbers = u64(0xFFFF_FFFF_FFFF_FFFF)


@native(cold=True)
def trace_stepped(cpu: Vcpu) -> None:
    """For coverage: an instruction is executed without having been translated. Told of once, mostly."""
    if cpu.tracer == 0:
        return
    ring = at(TraceRing, cpu.tracer)
    slot = field_addr(ring, "stepped", cpu.pc >> 2 & (STEPPED - 1))
    mark = cpu.pc ^ cpu.context_key * 0x9E37_79B9_7F4A_7C15
    if load(u64, slot) != mark:
        store(u64, slot, mark)
        emit(cpu, u32(TraceEvent.BLOCK), u32(4), cpu.pc, cpu.fetch_pa, u64(0), u64(0), u64(0), u64(0))
