"""The logical to real address translation table of e6500 (category E.HV.LRAT, Book III-E 6.9).

A guest that may write the TLB itself names logical addresses, there and in the page tables of its indirect entries;
the hypervisor's LRAT entries say which real ones they are. A miss is an interrupt of the hypervisor. The table is
shared by a core's threads, under the lock of its TLBs.
"""

from __future__ import annotations

from ..isa.registers import IVOR, MAS0, MAS1, MAS3, MAS8, SPR
from ..native.ints import u32, u64
from ..native.lang import native
from .interrupts import deliver
from .locks import lock_tlb, unlock_tlb
from .state import LRAT_ENTRIES, LratEntry, Vcpu

MISS = 0xFFFF_FFFF_FFFF_FFFF
SMALLEST, LARGEST = 2, 30
"""TSIZE of 4 KiB and 1 TiB (LRATPS)."""


@native
def selected_lrat(cpu: Vcpu) -> LratEntry:
    """The entry MAS0[ESEL] names."""
    return cpu.tlb.lrat[(u32(cpu.spr[SPR.MAS0]) & MAS0.ESEL) >> 16 & (LRAT_ENTRIES - 1)]


@native
def write_lrat(cpu: Vcpu) -> None:
    """tlbwe with MAS0[ATSEL]: logical page from MAS2, real page from MAS7 and MAS3, partition from MAS8."""
    mas1 = u32(cpu.spr[SPR.MAS1])
    size = (mas1 & MAS1.TSIZE) >> 7
    size = u32(SMALLEST) if size < SMALLEST else u32(LARGEST) if size > LARGEST else size
    mask = (u64(1) << (size + 10)) - 1
    lock_tlb(cpu)
    entry = selected_lrat(cpu)
    entry.valid = u32(0)
    entry.lpa = cpu.spr[SPR.MAS2] & cpu.core.pa_mask & ~mask
    entry.pa = (cpu.spr[SPR.MAS7] << 32 | cpu.spr[SPR.MAS3] & MAS3.RPN) & cpu.core.pa_mask & ~mask
    entry.mask = mask
    entry.lpid = u32(cpu.spr[SPR.MAS8]) & MAS8.TLPID
    entry.valid = mas1 >> 31
    unlock_tlb(cpu)


@native(inline=True)
def size_of_mask(mask: u64) -> u32:
    """TSIZE of a page's offset mask."""
    size = u32(SMALLEST)
    while mask >> (size + 10) != 0:
        size += 1
    return size


@native
def read_lrat(cpu: Vcpu) -> None:
    """tlbre with MAS0[ATSEL]."""
    lock_tlb(cpu)
    entry = selected_lrat(cpu)
    cpu.spr[SPR.MAS1] = u64(entry.valid << 31 | size_of_mask(entry.mask) << 7)
    cpu.spr[SPR.MAS2] = entry.lpa
    cpu.spr[SPR.MAS3] = entry.pa & MAS3.RPN
    cpu.spr[SPR.MAS7] = entry.pa >> 32
    cpu.spr[SPR.MAS8] = u64(entry.lpid)
    unlock_tlb(cpu)


@native
def real_address(cpu: Vcpu, lpid: u32, lpa: u64, mask: u64) -> u64:
    """Real address of a partition's logical page (mask covers its offset), MISS when no entry holds it.

    As in the TLB, an entry with LPID 0 is every partition's.
    """
    for n in range(u32(LRAT_ENTRIES)):
        entry = cpu.tlb.lrat[n]
        own = entry.lpid == 0 or entry.lpid == lpid
        if entry.valid and own and mask <= entry.mask and lpa & ~entry.mask == entry.lpa:
            return entry.pa | (lpa & entry.mask)
    return u64(MISS)


@native(cold=True)
def guest_page(cpu: Vcpu, lpa: u64, mask: u64) -> u64:
    """Real address for a guest's tlbwe, or the LRAT error interrupt; its handler finds the page in MAS7 and MAS3."""
    lock_tlb(cpu)
    found = real_address(cpu, u32(cpu.spr[SPR.LPIDR]), lpa, mask)
    unlock_tlb(cpu)
    if found == MISS:
        cpu.spr[SPR.ESR] = u64(0)
        deliver(cpu, IVOR.LRAT_ERROR, cpu.pc)
    return found
