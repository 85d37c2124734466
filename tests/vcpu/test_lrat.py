"""The LRAT of e6500: entries, and a guest that writes its own TLB entries through it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from powervisor.isa.registers import EPCR, ESR, IVOR, MAS0, MAS1, MAS8, MSR, SPR, TLBCFG
from powervisor.native.ints import u32, u64
from powervisor.native.lang import Abort
from powervisor.vcpu.mmu import EXECUTE, READ, WRITE, data_space, physical, translate
from powervisor.vcpu.state import TlbEntry


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
def guest(make: Any) -> Any:
    """A guest of partition 3 whose logical megabyte 0x100000 is real 0x20_0010_0000; it may write TLB0."""
    bench = make("e6500")
    write(bench, MAS0.ATSEL | 2 << 16, MAS1.V | 10 << 7, 0x10_0000, 0x20_0010_0000, 3)
    bench.write(SPR.LPIDR, 3)
    bench.msr(MSR.GS)
    bench.cpu.pc = 0x1000
    return bench


def test_entries_read_back(make):
    bench = make("e6500")
    write(bench, MAS0.ATSEL | 5 << 16, MAS1.V | 13 << 7, 0x80_0000, 0x12_3480_0000, 3)
    for spr in (SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS7, SPR.MAS8):
        bench.cpu.spr[spr] = 0
    bench.do("tlbre")
    seen = [int(bench.cpu.spr[spr]) for spr in (SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS7, SPR.MAS8)]
    assert seen == [MAS1.V | 13 << 7, 0x80_0000, 0x3480_0000, 0x12, 3]
    assert bench.cpu.tlb.tlb1_used == 0  # the TLB itself is untouched


def test_a_guests_entry_gets_the_real_page_and_the_guests_partition(guest):
    write(guest, 0, MAS1.V, 0x4000_0000, 0x10_3015)
    entry = guest.cpu.tlb.tlb0[0]
    assert (entry.valid, entry.ea, entry.pa) == (1, 0x4000_0000, 0x20_0010_3000)
    assert entry.mas8 == MAS8.TGS | 3


@pytest.mark.parametrize("change", ["address", "partition", "invalid"])
def test_a_logical_page_that_no_entry_holds_is_an_interrupt(guest, change):
    page = 0x20_3000 if change == "address" else 0x10_3000
    if change == "partition":
        guest.cpu.spr[SPR.LPIDR] = 4
    if change == "invalid":
        guest.cpu.tlb.lrat[2].valid = 0
    write(guest, 0, MAS1.V, 0x4000_0000, page)
    assert guest.taken() == IVOR.LRAT_ERROR
    assert guest.cpu.spr[SPR.SRR0] == 0x1000 and guest.cpu.spr[SPR.ESR] == 0
    assert guest.cpu.spr[SPR.MAS3] & 0xFFFF_F000 == page
    assert not guest.cpu.tlb.tlb0[0].valid


# ---- page tables ---------------------------------------------------------------------------------------------------

PTE = 0xFD | 2 << 8 | 0x4_1000 | 4 << 19
"""A valid page table entry for all rights: PSIZE 4 KiB, referenced, changed, memory coherence required."""


@pytest.fixture
def tables(guest: Any) -> Any:
    """The guest with an indirect entry for 2 MiB at 0x4000_0000, whose table is in logical page 0x10_5000."""
    ram = (ctypes.c_char * 0x2000)()
    guest.ram = ram
    guest.cpu.vm.ram, guest.cpu.vm.ram_size = ctypes.addressof(ram), 0x2000
    guest.cpu.tlb.lrat[2].pa = 0
    guest.cpu.tlb.lrat[2].lpa = 0x10_5000
    guest.cpu.tlb.lrat[2].mask = 0xFFF  # no larger than the table: an indirect entry asks for no more
    guest.cpu.spr[SPR.TLB1CFG] |= TLBCFG.GTWE
    write(guest, 1 << 28, MAS1.V | MAS1.IND | 11 << 7, 0x4000_0000, 0x10_5000 | 4)
    assert guest.taken() is None
    for n, page in enumerate((0x10_5000, 0x20_3000)):
        ram[8 * n : 8 * n + 8] = (page << 12 | PTE).to_bytes(8, "big")
    return guest


def walk(bench: Any, ea: int, kind: int) -> int | None:
    """Physical address of an access, None after an interrupt."""
    try:
        entry = TlbEntry.at(translate(bench.cpu, u64(ea), data_space(bench.cpu), u32(kind), u32(0)))
    except Abort:
        return None
    return int(physical(entry, u64(ea)))


def test_what_a_guests_page_table_names_is_logical(tables):
    assert walk(tables, 0x4000_0123, READ) == 0x123
    assert tables.cpu.tlb.tlb0[0].mas8 == MAS8.TGS | 3


@pytest.mark.parametrize(
    ("kind", "esr"), [(READ, ESR.PT | ESR.DATA), (WRITE, ESR.PT | ESR.DATA | ESR.ST), (EXECUTE, ESR.PT)]
)
def test_a_logical_page_of_a_page_table_that_no_entry_holds_is_an_interrupt(tables, kind, esr):
    tables.cpu.spr[SPR.EPCR] = EPCR.DSIGS | EPCR.ISIGS | EPCR.DTLBGS | EPCR.ITLBGS
    tables.cpu.spr[SPR.DEAR] = 0x77
    tables.cpu.pc = 0x1000
    assert walk(tables, 0x4000_1123, kind) is None
    assert tables.taken() == IVOR.LRAT_ERROR and not tables.guest_vector()
    assert tables.cpu.spr[SPR.ESR] == esr
    assert tables.cpu.spr[SPR.DEAR] == (0x77 if kind == EXECUTE else 0x4000_1123)
    assert tables.cpu.spr[SPR.LPER] == 0x20_3000 | 4 << 7 | 2 and tables.cpu.spr[SPR.LPERU] == 0
    assert not tables.cpu.tlb.tlb0[8].valid


def test_a_guest_cannot_write_the_lrat(guest):
    write(guest, MAS0.ATSEL | 7 << 16, MAS1.V | 10 << 7, 0x10_0000, 0x10_0000)
    assert not guest.cpu.tlb.lrat[7].valid
    guest.cpu.spr[SPR.EPCR] = EPCR.DGTMI
    assert guest.outcome("tlbwe") == IVOR.HYPERVISOR_PRIVILEGE


def test_other_cores_have_none(make):
    bench = make("e5500")
    bench.write(SPR.MAS0, 0xFFFF_FFFF)
    assert bench.read(SPR.MAS0) & MAS0.ATSEL == 0
