"""The LRAT of e6500: entries, and a guest that writes its own TLB entries through it."""

from __future__ import annotations

from typing import Any

import pytest

from powervisor.isa.registers import EPCR, ESR, IVOR, MAS0, MAS1, MAS8, MSR, SPR, TLBCFG


def write(bench: Any, mas0: int, mas1: int, mas2: int, pa: int, mas8: int = 0) -> None:
    """tlbwe with MAS registers."""
    for spr, value in (
        (SPR.MAS0, mas0), (SPR.MAS1, mas1), (SPR.MAS2, mas2), (SPR.MAS3, pa & 0xFFFF_F03F), (SPR.MAS7, pa >> 32),
    ):  # fmt: skip
        bench.cpu.spr[spr] = value
    if not bench.cpu.msr & MSR.GS:
        bench.cpu.spr[SPR.MAS8] = mas8
    bench.do("tlbwe")


@pytest.fixture
def guest(side: Any) -> Any:
    """A guest of partition 3 whose logical megabyte 0x100000 is real 0x20_0010_0000; it may write TLB0."""
    bench = side("e6500")
    write(bench, MAS0.ATSEL | 2 << 16, MAS1.V | 10 << 7, 0x10_0000, 0x20_0010_0000, 3)
    bench.write(SPR.LPIDR, 3)
    bench.msr(MSR.GS)
    bench.cpu.pc = 0x1000
    return bench


def test_entries_read_back(side):
    bench = side("e6500")
    write(bench, MAS0.ATSEL | 5 << 16, MAS1.V | 13 << 7, 0x80_0000, 0x12_3480_0000, 3)
    for spr in (SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS7, SPR.MAS8):
        bench.cpu.spr[spr] = 0
    bench.do("tlbre")
    seen = [int(bench.cpu.spr[spr]) for spr in (SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS7, SPR.MAS8)]
    assert seen == [MAS1.V | 13 << 7, 0x80_0000, 0x3480_0000, 0x12, 3]
    assert not bench.cpu.tlb.tlb1[5].valid  # the TLB itself is untouched


def written(guest: Any) -> tuple[int, ...] | None:
    """What a guest's tlbwe for 0x4000_0000 left in its set of TLB0."""
    for way in range(guest.core.tlb0_ways):
        entry = guest.cpu.tlb.tlb0[way]
        if entry.valid and entry.ea == 0x4000_0000:
            return int(entry.pa), int(entry.mas8)
    return None


def test_a_guests_entry_gets_the_real_page_and_the_guests_partition(guest):
    for mas8 in (0, 5, MAS8.TGS | 9):  # what another guest, or the hypervisor, left there
        guest.cpu.spr[SPR.MAS8] = mas8
        write(guest, MAS0.HES, MAS1.V, 0x4000_0000, 0x10_3015)
        assert guest.taken() is None and written(guest) == (0x20_0010_3000, MAS8.TGS | 3)
        guest.cpu.tlb.tlb0[int(guest.cpu.tlb.next_victim) - 1].valid = 0


@pytest.mark.parametrize("change", ["address", "partition", "invalid"])
def test_a_logical_page_that_no_entry_holds_is_an_interrupt(guest, change):
    page = 0x20_3000 if change == "address" else 0x10_3000
    if change == "partition":
        guest.cpu.spr[SPR.LPIDR] = 4
    if change == "invalid":
        guest.cpu.tlb.lrat[2].valid = 0
    guest.cpu.spr[SPR.DEAR], guest.cpu.spr[SPR.LPER] = 0x77, 0x88
    write(guest, MAS0.HES, MAS1.V, 0x4000_0000, page)
    assert guest.taken() == IVOR.LRAT_ERROR and not guest.guest_vector()
    assert [int(guest.cpu.spr[n]) for n in (SPR.SRR0, SPR.SRR1, SPR.ESR)] == [0x1000, MSR.GS, 0]
    assert (guest.cpu.spr[SPR.DEAR], guest.cpu.spr[SPR.LPER]) == (0x77, 0x88)
    assert guest.cpu.spr[SPR.MAS3] & 0xFFFF_F000 == page
    assert written(guest) is None


def test_an_entry_of_partition_0_is_every_partitions(guest):
    guest.cpu.tlb.lrat[2].lpid = 0
    write(guest, MAS0.HES, MAS1.V, 0x4000_0000, 0x10_3000)
    assert guest.taken() is None and written(guest) == (0x20_0010_3000, MAS8.TGS | 3)


def test_a_guest_invalidates_without_a_logical_page(guest):
    """An entry with V=0 translates nothing, so the LRAT is not asked."""
    write(guest, MAS0.HES, 0, 0x4000_0000, 0x20_3000)
    assert guest.taken() is None and written(guest) is None


@pytest.mark.parametrize(
    ("mas0", "mas1"), [(0, 0), (0, MAS1.V), (3 << 16, MAS1.V), (MAS0.HES, MAS1.V | MAS1.IPROT), (MAS0.HES, MAS1.IPROT)]
)
def test_a_guest_neither_names_an_entry_nor_protects_one(guest, mas0, mas1):
    write(guest, mas0, mas1, 0x4000_0000, 0x10_3000)
    assert guest.taken() == IVOR.HYPERVISOR_PRIVILEGE
    assert written(guest) is None


@pytest.mark.parametrize("size", [2, 3, 9, 10, 11])
def test_an_entry_holds_pages_up_to_its_own_size(guest, size):
    """1 KiB << size; TLB1 here lets guests write, as no e6500 does: TLB0 has pages of 4 KiB only."""
    guest.cpu.spr[SPR.TLB1CFG] = int(guest.cpu.spr[SPR.TLB1CFG]) | TLBCFG.GTWE
    page = 0x10_0000 & -(1 << size + 10) if size == 11 else 0x10_0000
    write(guest, MAS0.HES | 1 << 28, MAS1.V | size << 7, 0x4000_0000, page)
    assert guest.taken() == (None if size <= 10 else IVOR.LRAT_ERROR)


def test_a_guest_cannot_write_the_lrat(guest):
    before = [int(guest.cpu.tlb.lrat[n].valid) for n in range(8)]
    write(guest, MAS0.ATSEL | MAS0.HES | 7 << 16, MAS1.V | 10 << 7, 0x10_0000, 0x10_0000)
    assert [int(guest.cpu.tlb.lrat[n].valid) for n in range(8)] == before
    guest.cpu.spr[SPR.EPCR] = EPCR.DGTMI
    guest.msr(MSR.GS)
    assert guest.outcome("tlbwe") == IVOR.HYPERVISOR_PRIVILEGE
    guest.msr(MSR.GS)
    assert guest.outcome("tlbre") == IVOR.HYPERVISOR_PRIVILEGE


def test_an_entry_is_written_over_and_made_invalid_by_tlbwe_alone(guest):
    guest.msr(0)
    guest.do("tlbilx 0,0,r4", r4=0)
    guest.write(SPR.MMUCSR0, 6)
    assert guest.cpu.tlb.lrat[2].valid
    write(guest, MAS0.ATSEL | 2 << 16, 10 << 7, 0x10_0000, 0x20_0010_0000, 3)
    assert not guest.cpu.tlb.lrat[2].valid


def test_the_threads_of_a_core_share_the_table_and_have_partitions_of_their_own(side):
    bench = side("e6500", 2, 2)
    for esel, (lpid, real) in enumerate(((6, 0x20_0000_0000), (7, 0x30_0000_0000))):
        write(bench, MAS0.ATSEL | esel << 16, MAS1.V | 10 << 7, 0x10_0000, real | 0x10_0000, lpid)
    found = []
    for thread, lpid in enumerate((6, 7)):
        cpu = bench.use(thread)
        cpu.disabled = 0
        cpu.spr[SPR.LPIDR], cpu.pc = lpid, 0x1000
        bench.msr(MSR.GS)
        write(bench, MAS0.HES, MAS1.V, 0x4000_0000, 0x10_3000)
        assert bench.taken() is None
        found.append({(int(e.pa), int(e.mas8)) for e in (cpu.tlb.tlb0[way] for way in range(8)) if e.valid})
    assert found[1] - found[0] == {(0x30_0010_3000, MAS8.TGS | 7)} and found[0] == {(0x20_0010_3000, MAS8.TGS | 6)}
    bench.use(0)
    bench.cpu.spr[SPR.LPIDR], bench.cpu.pc = 7, 0x1000
    write(bench, MAS0.HES, MAS1.V, 0x4000_1000, 0x20_0000)
    assert bench.taken() == IVOR.LRAT_ERROR


# ---- page tables ---------------------------------------------------------------------------------------------------

PTE = 0xFD | 2 << 8 | 0x4_1000 | 4 << 19
"""A valid page table entry for all rights: PSIZE 4 KiB, referenced, changed, memory coherence required."""


TABLE, LOGICAL, REAL = 0x5000, 0x10_5000, 0x6000
ROWS = (LOGICAL, 0x12_3456_7000, LOGICAL)
"""What the page table names: a page the LRAT has, one that it has not, and one without rights."""


@pytest.fixture
def tables(guest: Any) -> Any:
    """The guest with an indirect entry for 2 MiB at 0x4000_0000; logical page LOGICAL is REAL."""
    guest.msr(0)
    write(guest, MAS0.ATSEL | 2 << 16, MAS1.V | 2 << 7, LOGICAL, REAL, 3)
    write(guest, 1 << 28, MAS1.V | MAS1.IND | 11 << 7, 0x4000_0000, TABLE | 4, MAS8.TGS | 3)
    guest.oracle.ram[REAL : REAL + 4] = b"real"
    for n, page in enumerate(ROWS):
        entry = page << 12 | PTE & ~(0xFC if n == 2 else 0)
        guest.oracle.ram[TABLE + 8 * n : TABLE + 8 * n + 8] = entry.to_bytes(8, "big")
    guest.cpu.spr[SPR.EPCR] = EPCR.DSIGS | EPCR.ISIGS | EPCR.DTLBGS | EPCR.ITLBGS
    guest.msr(MSR.GS)
    guest.cpu.pc = 0x1000
    return guest


def test_what_a_guests_page_table_names_is_logical(tables):
    assert tables.do("lwz r3,0(r4)", r4=0x4000_0000) == int.from_bytes(b"real", "big")
    assert tables.taken() is None and written(tables) == (REAL, MAS8.TGS | 3)


ACCESSES = {"lwz r3,0(r4)": ESR.PT | ESR.DATA, "stw r3,0(r4)": ESR.PT | ESR.DATA | ESR.ST, "": ESR.PT}
"""ESR of an LRAT error by what asked for the page; nothing: the fetch of an instruction."""


@pytest.mark.parametrize("text", ACCESSES)
def test_a_logical_page_of_a_page_table_that_no_entry_holds_is_an_interrupt(tables, text):
    """LPER has WIMGE and the page size of the page table entry."""
    ea = 0x4000_1124
    tables.cpu.spr[SPR.DEAR] = 0x77
    if text:
        tables.do(text, r4=ea)
    else:
        tables.fetch(ea)
    assert tables.taken() == IVOR.LRAT_ERROR and not tables.guest_vector()
    assert [int(tables.cpu.spr[n]) for n in (SPR.SRR0, SPR.SRR1)] == [0x1000 if text else ea, MSR.GS]
    assert tables.cpu.spr[SPR.ESR] == ACCESSES[text]
    assert tables.cpu.spr[SPR.DEAR] == (ea if text else 0x77)
    assert tables.cpu.spr[SPR.LPER] == 0x3456_7000 | 4 << 7 | 2 and tables.cpu.spr[SPR.LPERU] == 0x12
    assert not tables.cpu.tlb.tlb0[8].valid


def test_a_page_of_a_page_table_without_rights_is_the_guests_storage_interrupt(tables):
    tables.do("lwz r3,0(r4)", r4=0x4000_2000)
    assert tables.taken() == IVOR.DATA_STORAGE and tables.guest_vector()
    assert [int(tables.cpu.spr[n]) for n in (SPR.GESR, SPR.GDEAR)] == [0, 0x4000_2000]


def test_other_cores_have_none(make):
    bench = make("e5500")
    bench.write(SPR.MAS0, 0xFFFF_FFFF)
    assert bench.read(SPR.MAS0) & MAS0.ATSEL == 0
