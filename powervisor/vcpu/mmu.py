"""Address translation: the guest's TLB0 and TLB1, the e6500's hardware table walk, and the soft TLB over them.

A *space* is what selects translations besides the address: bit 0 AS, bit 1 PR, bit 2 GS, PID from bit 8, LPID from
bit 32. TLB0 entries of a set lie side by side, see `mas.tlb0_set`.
"""

from __future__ import annotations

from ..isa.registers import EPCR, ESR, IVOR, LPER, MAS1, MAS2, MAS3, MAS8, SPR
from ..native.ints import u32, u64
from ..native.lang import Abort, address_of, at, atomic_or, bswap, field_addr, load, native
from .interrupts import deliver, deliver_data_fault, deliver_fetch_fault, enter, to_guest
from .locks import lock_tlb, unlock_tlb
from .lrat import MISS, real_address
from .mas import load_mas_defaults, tlb0_set
from .modes import NO_TAG, clear_chunks, clear_context, key_guest, key_lpid, key_pid
from .state import (
    CONTEXTS,
    FOUND_ENTRIES,
    SOFT_CHUNK,
    SOFT_CHUNKS,
    SOFT_CODE_ENTRIES,
    SOFT_DATA_ENTRIES,
    Context,
    Request,
    Stat,
    TlbEntry,
    Vcpu,
)
from .stops import watched_page
from .trace import Trace, TraceEvent, emit, trace_entry

READ, WRITE, EXECUTE = 1, 2, 4
PAGE = 0xFFFF_FFFF_FFFF_F000
NO_ENTRY, NO_PAGE, NO_REAL = 0, 1, 2
"""What `lookup` says instead of an address: no TLB entry, no PTE, a guest's PTE whose page the LRAT does not know."""


@native(inline=True)
def current_space(cpu: Vcpu, address_space: u32) -> u64:
    """The space of MSR, PID and LPIDR with an AS bit."""
    msr = cpu.msr
    return (
        u64(address_space | (msr >> 13 & 2) | (msr >> 26 & 4))
        | (cpu.spr[SPR.PID] & 0x3FFF) << 8
        | (cpu.spr[SPR.LPIDR] & 0xFF) << 32
    )


@native(inline=True)
def data_space(cpu: Vcpu) -> u64:
    """Space of data accesses: MSR[DS]."""
    return current_space(cpu, cpu.msr >> 4 & 1)


@native(inline=True)
def code_space(cpu: Vcpu) -> u64:
    """Space of instruction fetches: MSR[IS]."""
    return current_space(cpu, cpu.msr >> 5 & 1)


@native(inline=True)
def epid_space(context: u32) -> u64:
    """Space of an external-PID access, from EPLC or EPSC."""
    return (
        u64((context >> 30 & 1) | (context >> 30 & 2) | (context >> 27 & 4))
        | u64(context & 0x3FFF) << 8
        | u64(context >> 16 & 0xFF) << 32
    )


@native(inline=True)
def matches(entry: TlbEntry, ea: u64, space: u64, indirect: u32) -> bool:
    """Whether a TLB entry translates an address of a space."""
    if entry.valid == 0 or ea & ~entry.mask != entry.ea:
        return False
    mas1 = entry.mas1
    if mas1 >> 12 & 1 != u32(space) & 1 or mas1 & MAS1.IND != indirect:
        return False
    tid = entry_pid(entry)
    if tid != 0 and tid != u32(space >> 8) & 0x3FFF:
        return False
    mas8 = entry.mas8
    lpid = mas8 & MAS8.TLPID
    return mas8 >> 31 == u32(space) >> 2 & 1 and (lpid == 0 or lpid == u32(space >> 32) & 0xFF)


@native
def find(cpu: Vcpu, ea: u64, space: u64, indirect: u32) -> u64:
    """Address of the TLB entry that matches, 0 when there is none; `indirect` is MAS1.IND or 0."""
    tlb = cpu.tlb
    if indirect == 0:
        first = tlb0_set(cpu, ea)
        for way in range(cpu.core.tlb0_ways):
            entry = tlb.tlb0[first + way]
            if matches(entry, ea, space, indirect):
                return address_of(entry)
    for n in range(tlb.tlb1_used):
        entry = tlb.tlb1[n]
        if matches(entry, ea, space, indirect):
            return address_of(entry)
    return u64(0)


@native(inline=True)
def entry_pid(entry: TlbEntry) -> u32:
    """MAS1[TID] of an entry: the PID it belongs to, 0 for all."""
    return entry.mas1 >> 16 & 0x3FFF


@native(inline=True)
def permitted(entry: TlbEntry, space: u64, kind: u32) -> bool:
    """Whether the entry's UX SX UW SW UR SR allow an access."""
    user = u32(space >> 1) & 1
    bit = u32(1) if kind == READ else u32(4) if kind == WRITE else u32(16)
    return entry.mas3 & bit << user != 0


@native(cold=True)
def storage_fault(cpu: Vcpu, ea: u64, kind: u32, esr: u32) -> None:
    """Data or instruction storage interrupt."""
    if cpu.trace & Trace.MMU:
        emit(cpu, u32(TraceEvent.FAULT), kind, cpu.pc, ea, u64(esr), u64(0), u64(0), u64(0))
    if kind == EXECUTE:
        deliver_fetch_fault(cpu, esr)
    deliver_data_fault(cpu, IVOR.DATA_STORAGE, ea, esr | ESR.ST if kind == WRITE else esr)


@native(cold=True)
def virtualization_fault(cpu: Vcpu, ea: u64, esr: u32) -> None:
    """Data storage interrupt of a page with MAS8[VF]: to the hypervisor, whatever EPCR[DSIGS] says."""
    cpu.spr[SPR.DEAR] = ea
    cpu.spr[SPR.ESR] = u64(esr)
    enter(cpu, IVOR.DATA_STORAGE, cpu.pc)
    raise Abort


@native(cold=True)
def lrat_fault(cpu: Vcpu, ea: u64, kind: u32, esr: u32) -> None:
    """LRAT error interrupt of a table walk; `walk` has set LPER."""
    if kind != EXECUTE:
        cpu.spr[SPR.DEAR] = ea
        esr = esr | ESR.DATA | ESR.ST if kind == WRITE else esr | ESR.DATA
    cpu.spr[SPR.ESR] = u64(esr)
    deliver(cpu, IVOR.LRAT_ERROR, cpu.pc)


@native(cold=True)
def tlb_miss(cpu: Vcpu, ea: u64, space: u64, kind: u32, esr: u32) -> None:
    """Data or instruction TLB error interrupt; EPCR[DMIUH] keeps those of the hypervisor out of the MAS registers."""
    cpu.stats[Stat.TLB_MISSES] = cpu.stats[Stat.TLB_MISSES] + 1
    if cpu.trace & Trace.MMU:
        emit(cpu, u32(TraceEvent.MISS), kind, cpu.pc, ea, u64(esr), space, u64(0), u64(0))
    number = u32(IVOR.INSTRUCTION_TLB) if kind == EXECUTE else u32(IVOR.DATA_TLB)
    if u32(cpu.spr[SPR.EPCR]) & EPCR.DMIUH == 0 or to_guest(cpu, number):
        load_mas_defaults(cpu, ea, u32(space >> 8) & 0x3FFF, u32(space) & 1)
    if kind == EXECUTE:
        deliver(cpu, number, cpu.pc)
    deliver_data_fault(cpu, number, ea, esr | ESR.ST if kind == WRITE else esr)


@native(cold=True)
def walk(cpu: Vcpu, ea: u64, space: u64) -> u64:
    """Hardware table walk (category E.PT), with the TLBs locked: an indirect entry names a page table, the PTE is put
    into TLB0. Address of that entry, NO_ENTRY without an indirect one, NO_PAGE when the table has none. What a guest's
    PTE names is a logical page: NO_REAL, with LPER, when the LRAT has no real one.

    PTE as e6500 Linux makes it: RPN from bit 24, W I M G E, U0-U3, C, PSIZE, UX SX UW SW UR SR, valid in bit 0.
    """
    where = find(cpu, ea, space, u32(MAS1.IND))
    if where == NO_ENTRY:
        return where
    indirect = at(TlbEntry, where)
    table = (indirect.pa & 0xFFFF_FFFF_FFFF_F000) + ((ea & indirect.mask) >> 12) * 8
    if table + 8 > cpu.vm.ram_size:
        return u64(NO_PAGE)
    pte = bswap(load(u64, cpu.vm.ram + table))
    if pte & 1 == 0:
        return u64(NO_PAGE)
    low = u32(pte)
    pa = (pte >> 24 << 12) & cpu.core.pa_mask
    if indirect.mas8 & MAS8.TGS:
        logical = pa
        pa = real_address(cpu, u32(space >> 32) & 0xFF, logical, u64(0xFFF))
        if pa == MISS:
            cpu.spr[SPR.LPERU] = logical >> 32
            cpu.spr[SPR.LPER] = u64(u32(logical) | low >> 12 & LPER.WIMGE | low >> 8 & LPER.LPS)
            return u64(NO_REAL)
    tlb = cpu.tlb
    way = tlb.next_victim & (cpu.core.tlb0_ways - 1)
    tlb.next_victim = tlb.next_victim + 1
    entry = tlb.tlb0[tlb0_set(cpu, ea) + way]
    if entry.valid:
        flush_page(cpu, entry.ea, entry.mask, entry_pid(entry), entry.mas8)
    rights = low >> 2 & 0x3F  # SR UR SW UW SX UX, in the order of MAS3's low bits
    if low & 0x1000 == 0:  # C=0: no store
        rights = rights & ~u32(MAS3.SW | MAS3.UW)
    if low & 0x40000 == 0:  # R=0: no access
        rights = u32(0)
    entry.ea = ea & PAGE
    entry.pa = pa
    entry.mask = u64(0xFFF)
    entry.mas1 = (indirect.mas1 & (MAS1.TID | MAS1.TS)) | MAS1.V | 2 << 7
    entry.mas2 = low >> 19 & 0x1F
    entry.mas3 = rights
    entry.mas8 = indirect.mas8
    entry.valid = u32(1)
    if cpu.trace & Trace.TLB:
        trace_entry(cpu, u32(TraceEvent.WALK), u32(0), entry)
    return address_of(entry)


@native
def keep(cpu: Vcpu, entry: TlbEntry) -> u64:
    """Address of a copy of a TLB entry, good for this instruction."""
    number = cpu.found_next & (FOUND_ENTRIES - 1)
    cpu.found_next = number + 1
    copy = cpu.found[number]
    copy.ea = entry.ea
    copy.pa = entry.pa
    copy.mask = entry.mask
    copy.mas1 = entry.mas1
    copy.mas2 = entry.mas2
    copy.mas3 = entry.mas3
    copy.mas8 = entry.mas8
    copy.valid = entry.valid
    return address_of(copy)


@native
def lookup(cpu: Vcpu, ea: u64, space: u64) -> u64:
    """Address of the TLB entry for an address, NO_ENTRY, NO_PAGE or NO_REAL.

    A walk holds the lock from reading the PTE to writing the entry: an invalidation comes before or after both.
    """
    if cpu.core.has_ept == 0:
        return find(cpu, ea, space, u32(0))
    lock_tlb(cpu)
    where = find(cpu, ea, space, u32(0))
    if where == NO_ENTRY:
        where = walk(cpu, ea, space)
    if cpu.sibling and where > NO_REAL:
        where = keep(cpu, at(TlbEntry, where))
    unlock_tlb(cpu)
    return where


@native
def translate(cpu: Vcpu, ea: u64, space: u64, kind: u32, esr: u32) -> u64:
    """Address of the TLB entry for an access (READ, WRITE or EXECUTE), or the interrupt it causes.

    `esr` holds syndrome bits the access adds (ESR[EPID], ...).
    """
    where = lookup(cpu, ea, space)
    if where == NO_ENTRY:
        tlb_miss(cpu, ea, space, kind, esr)
    if where == NO_PAGE:
        storage_fault(cpu, ea, kind, esr | ESR.PT)
    if where == NO_REAL:
        lrat_fault(cpu, ea, kind, esr | ESR.PT)
    entry = at(TlbEntry, where)
    if entry.mas8 & MAS8.VF and kind != EXECUTE:
        virtualization_fault(cpu, ea, esr | ESR.ST if kind == WRITE else esr)
    if not permitted(entry, space, kind):
        storage_fault(cpu, ea, kind, esr)
    return where


@native(inline=True)
def physical(entry: TlbEntry, ea: u64) -> u64:
    """Physical address of an effective address in an entry's page."""
    return entry.pa | (ea & entry.mask)


@native(inline=True)
def in_ram(cpu: Vcpu, pa: u64) -> bool:
    """Whether a physical page is guest RAM."""
    return pa < cpu.vm.ram_size


@native(inline=True)
def current_context(cpu: Vcpu) -> Context:
    """The soft TLB in use."""
    return at(Context, cpu.context)


@native(inline=True)
def soft_slot(ea: u64) -> u64:
    """The slot of an address in a soft data TLB."""
    return ea >> 12 & (SOFT_DATA_ENTRIES - 1)


@native(inline=True)
def soft_tag(ea: u64) -> u64:
    """What a slot holds when it translates an address: the number of the page after it, so that zero is no page of a
    slot but the last.

    An access is looked up by its first byte and compared by its last: neighbours never share a slot. So zero, in slots
    that were never used, must not be taken for the last page (see `modes.reset_contexts`).
    """
    return (ea + 0x1000) >> 12


@native
def fill_data(cpu: Vcpu, ea: u64, entry: TlbEntry, space: u64) -> None:
    """Cache a data translation when the page is plain memory: RAM, big-endian, not watched."""
    pa = physical(entry, ea) & PAGE
    if not in_ram(cpu, pa) or entry.mas2 & MAS2.E or entry.mas8 & MAS8.VF or cpu.debug_events:
        return
    if cpu.vm.watch_count and watched_page(cpu.vm, ea):
        return
    context = current_context(cpu)
    slot = soft_slot(ea)
    chunk = slot // SOFT_CHUNK
    bit = u64(1) << (chunk & 63)
    context.used[chunk >> 6] |= bit
    if entry_pid(entry) != 0:
        context.owned[chunk >> 6] |= bit
    soft = context.data[slot]
    soft.read = soft_tag(ea) if permitted(entry, space, u32(READ)) else u64(NO_TAG)
    soft.write = soft_tag(ea) if permitted(entry, space, u32(WRITE)) else u64(NO_TAG)
    soft.addend = cpu.vm.ram + pa - (ea & PAGE)
    if ea >> 32 == 0:
        context.low_read[slot] = soft.addend if soft.read != NO_TAG else u64(0)
        context.low_write[slot] = soft.addend if soft.write != NO_TAG else u64(0)
    soft.zero = soft.write if entry.mas2 & (MAS2.W | MAS2.I) == 0 and cpu.core.line_size == 64 else u64(NO_TAG)
    cpu.stats[Stat.SOFT_FILLS] = cpu.stats[Stat.SOFT_FILLS] + 1


@native
def fill_code(cpu: Vcpu, page: u64, entries: u64) -> None:
    """Cache where the code of a page is that was just fetched from."""
    context = current_context(cpu)
    slot = page >> 12 & (SOFT_CODE_ENTRIES - 1)
    bit = u64(1) << (slot & 63)
    owned = context.code_owned[slot >> 6] & ~bit
    context.code_owned[slot >> 6] = owned | bit if cpu.fetch_owned else owned
    context.code[slot].entries = entries
    context.code[slot].tag = page | u64(cpu.mode)


# ---- invalidation --------------------------------------------------------------------------------------------------


@native(inline=True)
def concerned(cpu: Vcpu, number: u64, pid: u32, mas8: u32) -> bool:
    """Whether a context may hold translations by entries with a TID (0: of every process) and with GS and LPID of MAS8
    (LPID 0: of every partition)."""
    key = cpu.context_keys[number]
    lpid = mas8 & MAS8.TLPID
    return (
        key != 0
        and (pid == 0 or key_pid(key) == pid)
        and key_guest(key) == mas8 >> 31
        and (lpid == 0 or key_lpid(key) == lpid)
    )


@native
def forget_page(cpu: Vcpu, page: u64, pid: u32, mas8: u32) -> None:
    """Drop the cached translations of one 4 KiB page in the contexts `concerned`."""
    tag = soft_tag(page)
    for n in range(u64(CONTEXTS)):
        if concerned(cpu, n, pid, mas8):
            context = at(Context, cpu.contexts + n * Context.size)
            soft = context.data[soft_slot(page)]
            if soft.read == tag or soft.write == tag:
                soft.read = u64(NO_TAG)
                soft.write = u64(NO_TAG)
                soft.zero = u64(NO_TAG)
            if page >> 32 == 0:
                context.low_read[page >> 12] = u64(0)
                context.low_write[page >> 12] = u64(0)
            code = context.code[page >> 12 & (SOFT_CODE_ENTRIES - 1)]
            if code.tag & PAGE == page:
                code.tag = u64(NO_TAG)


@native(cold=True)
def forget_range(cpu: Vcpu, ea: u64, mask: u64, pid: u32, mas8: u32) -> None:
    """Drop the cached translations of a large page, and of what lies in its slots."""
    first, chunks = u64(0), ((mask >> 12) + 1) // SOFT_CHUNK
    if chunks < SOFT_CHUNKS:
        first = soft_slot(ea) // SOFT_CHUNK
    else:
        chunks = u64(SOFT_CHUNKS)
    for n in range(u64(CONTEXTS)):
        if concerned(cpu, n, pid, mas8):
            context = at(Context, cpu.contexts + n * Context.size)
            clear_chunks(context, first, first + chunks, False)
            for slot in range(u64(SOFT_CODE_ENTRIES)):
                code = context.code[slot]
                if code.tag & ~mask == ea:
                    code.tag = u64(NO_TAG)


@native
def forget_all(cpu: Vcpu) -> None:
    """Drop every cached translation of a vCPU."""
    for n in range(u64(CONTEXTS)):
        key = cpu.context_keys[n]
        if key != 0:
            clear_context(at(Context, cpu.contexts + n * Context.size))
            if key != cpu.context_key:
                cpu.context_keys[n] = u64(0)
                cpu.context_used[n] = u64(0)


@native(inline=True)
def request_flush(cpu: Vcpu) -> None:
    """Ask a vCPU to drop its cached translations before it goes on past its next branch."""
    atomic_or(u32, field_addr(cpu, "requests"), u32(Request.FLUSH))


@native
def flush_page(cpu: Vcpu, ea: u64, mask: u64, pid: u32, mas8: u32) -> None:
    """Drop the cached translations of an entry's page (mask covers the offset), here and in the core's sibling.

    What an entry of a guest translates is nothing to the hypervisor's own page of that address, nor to other guests.
    """
    if cpu.sibling:
        request_flush(at(Vcpu, cpu.sibling))
    pages = (mask >> 12) + 1
    if pages >= SOFT_CHUNK:
        forget_range(cpu, ea & ~mask, mask, pid, mas8)
        return
    for n in range(pages):
        forget_page(cpu, (ea & PAGE) + n * 4096, pid, mas8)


@native
def flush_all(cpu: Vcpu) -> None:
    """Drop every cached translation of the core."""
    if cpu.sibling:
        request_flush(at(Vcpu, cpu.sibling))
    forget_all(cpu)


@native
def broadcast_flush(cpu: Vcpu) -> None:
    """Drop every cached translation of every vCPU of the machine."""
    forget_all(cpu)
    for n in range(cpu.vm.vcpu_count):
        other = cpu.vm.vcpus[n]
        if other != address_of(cpu):
            request_flush(at(Vcpu, other))
