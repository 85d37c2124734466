"""TLB management: what tlbwe, tlbre, tlbsx, tlbilx, tlbivax and MMUCSR0 do (Book III-E 6.11; EREF, MMU chapter)."""

from __future__ import annotations

from ..isa.registers import MAS0, MAS1, MAS2, MAS3, MAS4, MAS5, MAS6, MAS8, MMUCSR0, MSR, SPR, TLBCFG
from ..native.ints import u32, u64
from ..native.lang import at, field_addr, native
from .locks import lock_tlb, unlock_tlb
from .lrat import guest_page
from .mas import tlb0_set, victim_mas0
from .mmu import broadcast_flush, entry_pid, find, flush_all, flush_page, request_flush
from .modes import clear_owned, key_pid
from .shootdown import await_sibling
from .state import CONTEXTS, Context, Tlb, TlbEntry, Vcpu
from .trace import Trace, TraceEvent, emit, trace_entry

PAGE_4K = 2
"""MAS1[TSIZE] of 4 KiB, the smallest page: 1 KiB << TSIZE."""
LARGEST_MAV1, LARGEST_MAV2 = 22, 30
"""MAS1[TSIZE] of 4 GiB and 1 TiB."""
ATTRIBUTES = MAS2.X0 | MAS2.X1 | MAS2.W | MAS2.I | MAS2.M | MAS2.G | MAS2.E
IVAX_ALL, IVAX_TLBSEL = 0x4, 0x18
"""tlbivax with MMU version 1: EA bits 61 (invalidate all) and 59:60 (which TLB)."""

LPID, PID, ADDRESS = 0, 1, 3
"""tlbilx T: everything of a logical partition, of a process, one page."""
IVAX, FLASH = 8, 9
"""In traces, beside these: tlbivax, and MMUCSR0 with its bits for EA."""


@native(inline=True)
def selected_tlb(mas0: u32) -> u32:
    """0 or 1: both of MAS0[TLBSEL]'s other values select nothing, and are taken as 1."""
    return u32(mas0 & MAS0.TLBSEL != 0)


@native
def selected_entry(cpu: Vcpu, mas0: u32) -> TlbEntry:
    """The entry MAS0[TLBSEL, ESEL] names, with MAS2[EPN] for the set of TLB0."""
    number = (mas0 & MAS0.ESEL) >> 16
    if selected_tlb(mas0):
        return cpu.tlb.tlb1[number & (cpu.core.tlb1_count - 1)]
    return cpu.tlb.tlb0[tlb0_set(cpu, page_address(cpu)) + (number & (cpu.core.tlb0_ways - 1))]


@native
def page_address(cpu: Vcpu) -> u64:
    """MAS2[EPN]; its upper half counts as 0 in 32-bit mode."""
    ea = cpu.spr[SPR.MAS2] & 0xFFFF_FFFF_FFFF_F000
    return ea if cpu.msr & MSR.CM else ea & 0xFFFF_FFFF


@native
def page_size(cpu: Vcpu, mas0: u32, mas1: u32) -> u32:
    """TSIZE that a tlbwe writes: TLB0 has 4 KiB only, version 1 powers of four, both a smallest and largest."""
    if selected_tlb(mas0) == 0:
        return PAGE_4K
    size = (mas1 & MAS1.TSIZE) >> 7
    largest = u32(LARGEST_MAV2)
    if cpu.core.mav2 == 0:
        size = size & 0x1E
        largest = u32(LARGEST_MAV1)
    if size < PAGE_4K:
        return PAGE_4K
    return size if size < largest else largest


@native
def recount_tlb1(tlb: Tlb) -> None:
    """TLB1 is searched up to the last valid entry."""
    used = tlb.tlb1_used
    while used > 0 and tlb.tlb1[used - 1].valid == 0:
        used -= 1
    tlb.tlb1_used = used


@native
def forget_entry(cpu: Vcpu, entry: TlbEntry) -> None:
    """Drop what was cached of an entry that changes. Pages loaded through an indirect entry stay in TLB0."""
    if entry.valid and entry.mas1 & MAS1.IND == 0:
        flush_page(cpu, entry.ea, entry.mask, entry_pid(entry), entry.mas8)


@native
def write_entry(cpu: Vcpu) -> None:
    """tlbwe: write the selected entry from MAS1, 2, 3, 7 and 8; for TLB0 also the next victim.

    The real page of a guest's valid entry comes from the LRAT, and the entry belongs to its partition.
    """
    mas0, mas1, mas3 = u32(cpu.spr[SPR.MAS0]), u32(cpu.spr[SPR.MAS1]), u32(cpu.spr[SPR.MAS3])
    tlb = cpu.tlb
    size = page_size(cpu, mas0, mas1)
    mask = (u64(1) << (size + 10)) - 1
    pa = (cpu.spr[SPR.MAS7] << 32 | cpu.spr[SPR.MAS3] & MAS3.RPN) & cpu.core.pa_mask
    mas8 = u32(cpu.spr[SPR.MAS8])
    if cpu.msr & MSR.GS:
        if mas1 & MAS1.V:  # no indirect one: only TLB0 has GTWE
            pa = guest_page(cpu, pa, mask)
        mas8 = (mas8 & MAS8.VF) | MAS8.TGS | u32(cpu.spr[SPR.LPIDR])
    lock_tlb(cpu)
    if selected_tlb(mas0) == 0:
        if mas0 & MAS0.HES:  # the hardware chooses the way
            way = tlb.next_victim & (cpu.core.tlb0_ways - 1)
            mas0 = (mas0 & ~u32(MAS0.ESEL)) | way << 16
            tlb.next_victim = way + 1
        else:
            tlb.next_victim = mas0 & MAS0.NV
        mas1 = mas1 & ~u32(MAS1.IPROT | MAS1.IND)
    entry = selected_entry(cpu, mas0)
    forget_entry(cpu, entry)
    entry.valid = u32(0)
    entry.ea = page_address(cpu) & ~mask
    entry.pa = pa if mas1 & MAS1.IND else pa & ~mask
    entry.mask = mask
    entry.mas1 = (mas1 & ~u32(MAS1.TSIZE)) | size << 7
    entry.mas2 = u32(cpu.spr[SPR.MAS2]) & ATTRIBUTES
    entry.mas3 = mas3 & ~u32(MAS3.RPN)
    entry.mas8 = mas8
    entry.valid = mas1 >> 31
    if selected_tlb(mas0):
        used = (mas0 & MAS0.ESEL) >> 16 & (cpu.core.tlb1_count - 1)
        if used >= tlb.tlb1_used:
            tlb.tlb1_used = used + 1
        recount_tlb1(tlb)
    if cpu.trace & Trace.TLB:
        trace_entry(cpu, u32(TraceEvent.TLB_WRITE), mas0, entry)
    unlock_tlb(cpu)
    await_sibling(cpu)


@native
def read_into_mas(cpu: Vcpu, entry: TlbEntry) -> None:
    """MAS1, 2, 3, 7 and 8 of an entry."""
    valid = u32(MAS1.V) if entry.valid else u32(0)
    cpu.spr[SPR.MAS1] = u64((entry.mas1 & ~u32(MAS1.V)) | valid)
    cpu.spr[SPR.MAS2] = entry.ea | u64(entry.mas2)
    cpu.spr[SPR.MAS3] = (entry.pa & MAS3.RPN) | u64(entry.mas3)
    cpu.spr[SPR.MAS7] = entry.pa >> 32
    cpu.spr[SPR.MAS8] = u64(entry.mas8)


@native(inline=True)
def next_victim(cpu: Vcpu) -> u32:
    """MAS0[NV]: TLB0's next victim."""
    return cpu.tlb.next_victim & (cpu.core.tlb0_ways - 1)


@native
def read_entry(cpu: Vcpu) -> None:
    """tlbre: read the selected entry into the MAS registers."""
    mas0 = u32(cpu.spr[SPR.MAS0])
    lock_tlb(cpu)
    read_into_mas(cpu, selected_entry(cpu, mas0))
    cpu.spr[SPR.MAS0] = u64((mas0 & ~u32(MAS0.NV)) | next_victim(cpu))
    unlock_tlb(cpu)


@native
def search_space(mas5: u32, mas6: u32) -> u64:
    """The space tlbsx searches, as `mmu` writes one: AS and PID of MAS6, GS and LPID of MAS5."""
    space = u64(mas6 & MAS6.SAS) | u64((mas6 & MAS6.SPID) >> 16) << 8
    return space | u64(mas5 >> 31) << 2 | u64(mas5 & MAS5.SLPID) << 32


@native
def search(cpu: Vcpu, ea: u64) -> None:
    """tlbsx: the matching entry into the MAS registers, or the defaults of a new one with V=0."""
    lock_tlb(cpu)
    search_locked(cpu, ea)
    unlock_tlb(cpu)


@native
def search_locked(cpu: Vcpu, ea: u64) -> None:
    """tlbsx while nobody changes the TLBs."""
    mas4, mas6 = u32(cpu.spr[SPR.MAS4]), u32(cpu.spr[SPR.MAS6])
    indirect = u32(MAS1.IND) if mas6 & MAS6.SIND else u32(0)
    where = find(cpu, ea, search_space(u32(cpu.spr[SPR.MAS5]), mas6), indirect)
    if where == 0:
        cpu.spr[SPR.MAS0] = u64(victim_mas0(cpu))
        mas1 = (mas6 & MAS6.SPID) | (mas6 & MAS6.SAS) << 12 | (mas4 & MAS4.TSIZED)
        if mas4 & MAS4.INDD:
            mas1 |= MAS1.IND
        cpu.spr[SPR.MAS1] = u64(mas1)
        cpu.spr[SPR.MAS2] = (cpu.spr[SPR.MAS2] & 0xFFFF_FFFF_FFFF_F000) | u64(mas4 & MAS4.WIMGED)
        cpu.spr[SPR.MAS3] = u64(0)
        cpu.spr[SPR.MAS7] = u64(0)
        return
    read_into_mas(cpu, at(TlbEntry, where))
    first = field_addr(cpu.tlb, "tlb1", 0)
    if where >= first:
        esel = u32((where - first) // TlbEntry.size)
        cpu.spr[SPR.MAS0] = u64(u32(0x1000_0000) | esel << 16 | next_victim(cpu))
    else:
        way = u32((where - field_addr(cpu.tlb, "tlb0", 0)) // TlbEntry.size) - tlb0_set(cpu, ea)
        cpu.spr[SPR.MAS0] = u64(way << 16 | next_victim(cpu))


# ---- invalidation --------------------------------------------------------------------------------------------------


@native(inline=True)
def invalidates(entry: TlbEntry, kind: u32, mas5: u32, mas6: u32, ea: u64, mav2: u32) -> bool:
    """Whether tlbilx of a kind invalidates an entry; protected ones stay."""
    if entry.valid == 0 or entry.mas1 & MAS1.IPROT or entry.mas8 & MAS8.TLPID != mas5 & MAS5.SLPID:
        return False
    if kind == LPID:
        return True
    if entry.mas1 & MAS1.TID != mas6 & MAS6.SPID:
        return False
    if kind == PID:
        return True
    if mav2 and u32(entry.mas1 & MAS1.IND != 0) != mas6 >> 1 & 1:
        return False
    if entry.mas1 >> 12 & 1 != mas6 & MAS6.SAS or entry.mas8 >> 31 != mas5 >> 31:
        return False
    return ea & ~entry.mask == entry.ea


@native
def invalidate_matching(cpu: Vcpu, tlb: Tlb, kind: u32, ea: u64) -> u64:
    """Invalidate what tlbilx of a kind names in a core's TLBs; mask of the largest direct page among it, 0: none."""
    mas5, mas6 = u32(cpu.spr[SPR.MAS5]), u32(cpu.spr[SPR.MAS6])
    mav2 = cpu.core.mav2
    first, last = u32(0), cpu.core.tlb0_sets * cpu.core.tlb0_ways
    if kind == ADDRESS:
        first = tlb0_set(cpu, ea)
        last = first + cpu.core.tlb0_ways
    largest = u64(0)
    for n in range(first, last):
        entry = tlb.tlb0[n]
        if invalidates(entry, kind, mas5, mas6, ea, mav2):
            entry.valid = u32(0)
            largest |= entry.mask
    for n in range(tlb.tlb1_used):
        entry = tlb.tlb1[n]
        if invalidates(entry, kind, mas5, mas6, ea, mav2):
            entry.valid = u32(0)
            if entry.mas1 & MAS1.IND == 0:
                largest |= entry.mask
    recount_tlb1(tlb)
    return largest


@native(inline=True)
def trace_invalidation(cpu: Vcpu, kind: u32, ea: u64) -> None:
    """Note what is being invalidated, and the MAS registers that say where."""
    if cpu.trace & Trace.TLB:
        emit(
            cpu, u32(TraceEvent.INVALIDATE), kind, cpu.pc, ea, cpu.spr[SPR.MAS5], cpu.spr[SPR.MAS6], u64(0), u64(0)
        )  # fmt: skip


@native
def invalidate_local(cpu: Vcpu, kind: u32, ea: u64) -> None:
    """tlbilx: invalidate in this core's TLBs what MAS5 and MAS6 (and EA) name."""
    trace_invalidation(cpu, kind, ea)
    lock_tlb(cpu)
    mask = invalidate_matching(cpu, cpu.tlb, kind, ea)
    unlock_tlb(cpu)
    if mask != 0:
        process = (u32(cpu.spr[SPR.MAS6]) & MAS6.SPID) >> 16
        if kind == ADDRESS:
            flush_page(cpu, ea & ~mask, mask, process, u32(cpu.spr[SPR.MAS5]))  # SGS and SLPID as in MAS8
        elif kind == PID and process != 0:
            flush_process(cpu, process)
        else:
            flush_all(cpu)
    await_sibling(cpu)


@native
def flush_process(cpu: Vcpu, pid: u32) -> None:
    """Drop the cached translations by entries with a TID (not 0)."""
    if cpu.sibling:
        request_flush(at(Vcpu, cpu.sibling))
    for n in range(u64(CONTEXTS)):
        if key_pid(cpu.context_keys[n]) == pid:
            clear_owned(at(Context, cpu.contexts + n * Context.size))


@native
def invalidate_tlb(tlb: Tlb, which: u32, entries: u32, everything: bool, ea: u64) -> None:
    """Invalidate unprotected entries of TLB0 or TLB1: all, or those whose page holds an address."""
    for n in range(entries):
        entry = tlb.tlb1[n] if which else tlb.tlb0[n]
        if entry.mas1 & MAS1.IPROT == 0 and (everything or ea & ~entry.mask == entry.ea):
            entry.valid = u32(0)
    recount_tlb1(tlb)


@native
def invalidate_broadcast(cpu: Vcpu, ea: u64) -> None:
    """tlbivax: on every core of the machine. EA names a TLB and a page, or all of it; in version 2 MAS5 and 6 do."""
    trace_invalidation(cpu, u32(IVAX), ea)
    which = u32(ea & IVAX_TLBSEL != 0)
    entries = cpu.core.tlb1_count if which else cpu.core.tlb0_sets * cpu.core.tlb0_ways
    for n in range(cpu.vm.vcpu_count):
        other = at(Vcpu, cpu.vm.vcpus[n])
        lock_tlb(other)
        if cpu.core.mav2:
            invalidate_matching(cpu, other.tlb, ADDRESS, ea)
        else:
            invalidate_tlb(other.tlb, which, entries, ea & IVAX_ALL != 0, ea)
        unlock_tlb(other)
    broadcast_flush(cpu)


@native
def flash_invalidate(cpu: Vcpu, command: u32) -> None:
    """MMUCSR0: invalidate all unprotected entries of TLB0, TLB1."""
    trace_invalidation(cpu, u32(FLASH), u64(command))
    lock_tlb(cpu)
    if command & MMUCSR0.TLB0FI:
        invalidate_tlb(cpu.tlb, 0, cpu.core.tlb0_sets * cpu.core.tlb0_ways, True, 0)
    if command & MMUCSR0.TLB1FI:
        invalidate_tlb(cpu.tlb, 1, cpu.core.tlb1_count, True, 0)
    unlock_tlb(cpu)
    flush_all(cpu)
    await_sibling(cpu)


@native(inline=True)
def guest_may_write(cpu: Vcpu) -> bool:
    """Whether a guest's tlbwe reaches the TLB: with version 2 and TLBnCFG[GTWE] only; EPCR[DGTMI] is another matter.

    The hardware selects the entry (MAS0[HES]), and it is not protected: a guest names none and keeps none for itself.
    """
    mas0 = u32(cpu.spr[SPR.MAS0])
    if mas0 & MAS0.HES == 0 or u32(cpu.spr[SPR.MAS1]) & MAS1.IPROT:
        return False
    return cpu.core.mav2 != 0 and u32(cpu.spr[SPR.TLB0CFG + selected_tlb(mas0)]) & TLBCFG.GTWE != 0
