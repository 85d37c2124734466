"""TLB management: tlbwe, tlbre, tlbsx, tlbilx, tlbivax, flash invalidation, and the MAS registers around them."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from powervisor.isa.registers import EPCR, IVOR, MAS0, MAS1, MAS2, MAS3, MAS4, MAS5, MAS6, MAS8, MSR, SPR
from powervisor.native.ints import u32, u64
from powervisor.native.lang import Abort, at
from powervisor.vcpu.access import load, soft_entry, write_ram
from powervisor.vcpu.mas import load_mas_defaults
from powervisor.vcpu.mmu import (
    READ,
    current_context,
    data_space,
    fill_code,
    flush_page,
    forget_page,
    physical,
    soft_slot,
    soft_tag,
    translate,
)
from powervisor.vcpu.mmu_ops import flush_process
from powervisor.vcpu.modes import NO_TAG
from powervisor.vcpu.state import Context, Request, SoftData, TlbEntry

ALL = MAS3.UX | MAS3.SX | MAS3.UW | MAS3.SW | MAS3.UR | MAS3.SR


def put(
    bench: Any, ea: int, pa: int, *, tlb: int = 1, esel: int = 0, size: int = 2, pid: int = 0, mas0: int = 0,
    mas1: int = MAS1.V, mas8: int = 0, rights: int = ALL,
) -> None:  # fmt: skip
    """Write an entry as a guest does; size is TSIZE (1 KiB << size)."""
    for spr, value in (
        (SPR.MAS0, tlb << 28 | esel << 16 | mas0), (SPR.MAS1, mas1 | pid << 16 | size << 7), (SPR.MAS2, ea | 4),
        (SPR.MAS3, pa & 0xFFFF_F000 | rights), (SPR.MAS7, pa >> 32), (SPR.MAS8, mas8),
    ):  # fmt: skip
        bench.write(spr, value)
    bench.do("tlbwe")


def find(bench: Any, ea: int) -> int | None:
    """Physical address of a data access, None when no entry matches."""
    cpu = bench.cpu
    before = cpu.pc, cpu.msr
    try:
        entry = TlbEntry.at(translate(cpu, u64(ea), data_space(cpu), u32(READ), u32(0)))
    except Abort:
        bench.msr(before[1])
        cpu.pc = before[0]
        return None
    return int(physical(entry, u64(ea)))


def mas(bench: Any, *numbers: int) -> list[int]:
    """MAS registers by number."""
    spr = {0: SPR.MAS0, 1: SPR.MAS1, 2: SPR.MAS2, 3: SPR.MAS3, 6: SPR.MAS6, 7: SPR.MAS7, 8: SPR.MAS8}
    return [int(bench.cpu.spr[spr[n]]) for n in numbers]


def test_an_entry_translates_its_page(bench):
    put(bench, 0xC010_0000, 0x1_2340_0000, size=10)
    assert find(bench, 0xC01F_FFFC) == 0x1_234F_FFFC
    assert find(bench, 0xC020_0000) is None


def test_version_1_has_powers_of_four_version_2_powers_of_two(make):
    for core, pages in (("e5500", 1), ("e6500", 2)):
        bench = make(core)
        put(bench, 0x4000_0000, 0x2000_0000, size=3)
        assert (find(bench, 0x4000_1000) is not None) == (pages == 2), core


def test_tlb0_has_4k_pages_only_and_no_protection(bench):
    put(bench, 0x4000_0000, 0x2000_0000, tlb=0, size=10, mas1=MAS1.V | MAS1.IPROT)
    assert find(bench, 0x4000_0FFF) == 0x2000_0FFF
    assert find(bench, 0x4000_1000) is None
    bench.do("tlbre")
    assert mas(bench, 1)[0] & MAS1.IPROT == 0


def test_in_32_bit_mode_the_upper_half_of_an_address_does_not_exist(make):
    bench = make("e5500")
    put(bench, 0xFFFF_FFFF_C000_0000, 0)
    assert find(bench, 0xC000_0000) == 0
    bench.msr(MSR.CM)
    put(bench, 0xC000_0000_0000_0000, 0x5000, esel=1)
    assert find(bench, 0xC000_0000_0000_0000) == 0x5000


def test_tlbre_reads_back_what_was_written(make):
    for core, esel, size in (("e500mc", 63, 14), ("e6500", 5, 15)):
        bench = make(core)
        put(bench, 0x8000_0000, 0xF_4000_0000, esel=esel, size=size, pid=9, mas1=MAS1.V | MAS1.IPROT | MAS1.TS, mas8=3)
        written = mas(bench, 1, 2, 3, 7, 8)
        for spr in (SPR.MAS1, SPR.MAS2, SPR.MAS3, SPR.MAS7, SPR.MAS8):
            bench.cpu.spr[spr] = 0
        bench.do("tlbre")
        assert mas(bench, 1, 2, 3, 7, 8) == written


def test_the_sets_of_tlb0_are_chosen_by_the_address(bench):
    for n in range(3):
        put(bench, 0x4000_0000 + n * 0x1000, 0x1000 * (n + 1), tlb=0, esel=1)
    assert [find(bench, 0x4000_0000 + n * 0x1000) for n in range(3)] == [0x1000, 0x2000, 0x3000]
    bench.write(SPR.MAS2, 0x4000_1000)
    bench.do("tlbre")
    assert mas(bench, 3)[0] & 0xFFFF_F000 == 0x2000


def test_a_miss_loads_the_defaults(bench):
    bench.write(SPR.MAS4, 0x0000_0200 | 0x4)
    bench.write(SPR.PID, 7)
    bench.msr(MSR.DS)
    load_mas_defaults(bench.cpu, u64(0x4000_1234), u32(7), u32(1))
    mas1, mas2, mas3, mas6, mas7 = mas(bench, 1, 2, 3, 6, 7)
    assert mas1 == MAS1.V | 7 << 16 | MAS1.TS | 0x200
    assert (mas2, mas3, mas7) == (0x4000_1004, 0, 0)
    assert mas6 & (MAS6.SPID | MAS6.SAS) == 7 << 16 | 1


def test_victims_go_round_when_software_follows_them(make):
    bench = make("e500mc")
    ways = []
    for n in range(6):
        load_mas_defaults(bench.cpu, u64(0x4000_0000 + n * 0x80000), u32(0), u32(0))
        ways.append((mas(bench, 0)[0] & MAS0.ESEL) >> 16)
        bench.do("tlbwe")
    assert ways == [0, 1, 2, 3, 0, 1]


def test_e6500_chooses_the_way_itself(make):
    bench = make("e6500")
    load_mas_defaults(bench.cpu, u64(0x4000_0000), u32(0), u32(0))
    assert mas(bench, 0)[0] & MAS0.HES
    for n in range(8):
        put(bench, 0x4000_0000 + n * 0x80000, n << 12, tlb=0, mas0=MAS0.HES)
    assert [find(bench, 0x4000_0000 + n * 0x80000) for n in range(8)] == [n << 12 for n in range(8)]


def test_defaults_for_tlb1_name_no_hardware_selection_and_search_indirect_entries(make):
    bench = make("e6500")
    bench.write(SPR.MAS4, 0x1000_0000 | MAS4.INDD | 11 << 7)
    load_mas_defaults(bench.cpu, u64(0x4000_0000), u32(0), u32(0))
    mas0, mas1, mas6 = mas(bench, 0, 1, 6)
    assert mas0 & (MAS0.TLBSEL | MAS0.HES) == 0x1000_0000
    assert mas1 & MAS1.IND and mas6 & MAS6.SIND


@pytest.mark.parametrize(
    ("msr", "epcr", "loaded"),
    [(0, 0, True), (0, EPCR.DMIUH, False), (0, EPCR.DMIUH | EPCR.DTLBGS, False), (MSR.GS, EPCR.DMIUH, False),
     (MSR.GS, EPCR.DMIUH | EPCR.DTLBGS, True), (MSR.GS, EPCR.DMIUH | EPCR.ITLBGS, False)],
)  # fmt: skip
def test_dmiuh_keeps_misses_of_the_hypervisor_out_of_the_mas_registers(bench, msr, epcr, loaded):
    bench.cpu.spr[SPR.EPCR] = epcr
    bench.msr(msr)
    assert find(bench, 0x4000_0000) is None
    assert (mas(bench, 2)[0] != 0) == loaded


# ---- tlbsx ---------------------------------------------------------------------------------------------------------


def test_tlbsx_finds_an_entry_of_either_tlb(bench):
    put(bench, 0x4000_0000, 0x3_0000_0000, esel=9, size=12, pid=4)
    put(bench, 0x5000_3000, 0x7000, tlb=0, esel=2, pid=4)
    bench.write(SPR.MAS6, 4 << 16)
    bench.do("tlbsx 0,r4", r4=0x4000_5678)
    mas0, mas1, mas2, mas3, mas7 = mas(bench, 0, 1, 2, 3, 7)
    assert mas0 & (MAS0.TLBSEL | MAS0.ESEL) == 0x1009_0000
    assert mas1 == MAS1.V | 4 << 16 | 12 << 7
    assert (mas2, mas3, mas7) == (0x4000_0004, ALL, 3)
    bench.do("tlbsx r5,r4", r4=0x678, r5=0x5000_3000)
    assert mas(bench, 0)[0] & (MAS0.TLBSEL | MAS0.ESEL) == 0x0002_0000
    assert mas(bench, 3)[0] == 0x7000 | ALL


def test_tlbsx_without_a_match_prepares_a_new_entry(bench):
    bench.write(SPR.MAS4, 0x200 | 0x2)
    bench.write(SPR.MAS6, 5 << 16 | 1)
    bench.cpu.tlb.next_victim = 2
    bench.do("tlbsx 0,r4", r4=0x4000_0000)
    mas0, mas1 = mas(bench, 0, 1)
    assert mas0 & (MAS0.ESEL | MAS0.NV) == 2 << 16 | 3
    assert mas1 == 5 << 16 | MAS1.TS | 0x200


def test_tlbsx_searches_the_space_of_mas5_and_mas6(bench):
    put(bench, 0x4000_0000, 0x1000, pid=4, mas8=MAS8.TGS | 2)
    for mas5, mas6, found in (
        (0, 4 << 16, False), (MAS5.SGS | 2, 4 << 16, True), (MAS5.SGS | 3, 4 << 16, False), (2, 4 << 16, False),
        (MAS5.SGS | 2, 5 << 16, False), (MAS5.SGS | 2, 4 << 16 | 1, False),
    ):  # fmt: skip
        bench.write(SPR.MAS5, mas5)
        bench.write(SPR.MAS6, mas6)
        bench.do("tlbsx 0,r4", r4=0x4000_0000)
        assert bool(mas(bench, 1)[0] & MAS1.V) == found, (hex(mas5), hex(mas6))
        if found:
            assert mas(bench, 8) == [MAS8.TGS | 2]


def test_indirect_entries_are_found_by_indirect_searches_only(make):
    bench = make("e6500")
    put(bench, 0x4000_0000, 0x0030_1000, size=11, mas1=MAS1.V | MAS1.IND, rights=4)
    for sind, found in ((0, False), (MAS6.SIND, True)):
        bench.write(SPR.MAS6, sind)
        bench.do("tlbsx 0,r4", r4=0x4000_0000)
        assert bool(mas(bench, 1)[0] & MAS1.V) == found
    assert mas(bench, 3) == [0x0030_1000 | 4]  # a page table is aligned to its own size, not the page's


# ---- invalidation --------------------------------------------------------------------------------------------------


def fill(bench: Any) -> dict[str, int]:
    """Entries that differ in what tlbilx looks at; the address of each."""
    entries = {
        "pid1": {"pid": 1}, "pid2": {"pid": 2}, "protected": {"pid": 1, "mas1": MAS1.V | MAS1.IPROT},
        "lpid": {"pid": 1, "mas8": 1}, "space1": {"pid": 1, "mas1": MAS1.V | MAS1.TS},
    }  # fmt: skip
    where = {}
    for n, (name, kind) in enumerate(entries.items()):
        where[name] = 0x4000_0000 + n * 0x1000
        put(bench, where[name], n << 12, esel=n, **kind)
    where["small"] = 0x6000_0000
    put(bench, where["small"], 0x9000, tlb=0, esel=1, pid=1)
    return where


def left(bench: Any) -> set[int]:
    """Addresses of the valid entries."""
    tlb = bench.cpu.tlb
    found = {int(tlb.tlb1[n].ea) for n in range(64) if tlb.tlb1[n].valid}
    return found | {int(tlb.tlb0[n].ea) for n in range(bench.core.tlb0_entries) if tlb.tlb0[n].valid}


@pytest.mark.parametrize(
    ("kind", "gone"),
    [(0, {"pid1", "pid2", "space1", "small"}), (1, {"pid1", "space1", "small"}), (3, {"pid1"})],
)
def test_tlbilx_invalidates_by_partition_process_or_address(bench, kind, gone):
    where = fill(bench)
    bench.write(SPR.MAS6, 1 << 16)
    bench.do(f"tlbilx {kind},0,r4", r4=where["pid1"] | 0x123)
    assert left(bench) == {ea for name, ea in where.items() if name not in gone}


def test_tlbilx_by_address_reaches_tlb0_and_leaves_protected_entries(bench):
    where = fill(bench)
    bench.write(SPR.MAS6, 1 << 16)
    bench.do("tlbilx 3,0,r4", r4=where["small"])
    bench.do("tlbilx 3,0,r4", r4=where["protected"])
    assert left(bench) == set(where.values()) - {where["small"]}


def test_tlbilx_of_the_reserved_kind_is_illegal(bench):
    assert bench.outcome("tlbilx 2,0,r4") == IVOR.PROGRAM


def test_tlb1_is_searched_no_further_than_its_last_valid_entry(bench):
    where = fill(bench)
    assert bench.cpu.tlb.tlb1_used == 5
    bench.write(SPR.MAS6, 1 << 16 | 1)
    bench.do("tlbilx 3,0,r4", r4=where["space1"])
    assert bench.cpu.tlb.tlb1_used == 4
    put(bench, 0, 0, esel=63, mas1=0)
    assert bench.cpu.tlb.tlb1_used == 4


@pytest.mark.parametrize(("command", "tlb0", "tlb1"), [(4, False, True), (2, True, False), (6, False, False)])
def test_flash_invalidation_spares_protected_entries(bench, command, tlb0, tlb1):
    where = fill(bench)
    bench.write(SPR.MMUCSR0, command)
    assert (where["small"] in left(bench)) == tlb0
    assert (where["pid1"] in left(bench)) == tlb1
    assert where["protected"] in left(bench)


@pytest.mark.parametrize(
    ("ea", "gone"),
    [(0x4000_0000 | 8, {"pid1"}), (0xC, {"pid1", "pid2", "lpid", "space1"}), (0x4, {"small"}), (0x6000_0000, {"small"}),
     (0x4000_0000, set())],
)  # fmt: skip
def test_tlbivax_of_version_1_names_a_tlb_and_a_page_or_all(make, ea, gone):
    bench = make("e500mc", 2)
    where = fill(bench)
    bench.use(1)
    bench.do("tlbivax 0,r4", r4=ea)
    bench.use(0)
    assert left(bench) == {at for name, at in where.items() if name not in gone}


def test_tlbivax_of_version_2_goes_by_mas5_and_mas6(make):
    bench = make("e6500", 2)
    where = fill(bench)
    bench.use(1)
    bench.write(SPR.MAS6, 1 << 16)
    bench.do("tlbivax 0,r4", r4=where["pid1"])
    bench.use(0)
    assert left(bench) == set(where.values()) - {where["pid1"]}
    assert bench.cpu.requests & Request.FLUSH


# ---- what is cached of the TLB -------------------------------------------------------------------------------------


def cache(bench: Any, ea: int) -> SoftData:
    """Cache a translation as an access would."""
    load(bench.cpu, u32, u64(ea))
    soft = soft_entry(bench.cpu, u64(ea))
    assert soft.read == soft_tag(u64(ea))
    return soft


@pytest.mark.parametrize(
    "text", ["tlbwe", "tlbilx 0,0,r4", "tlbilx 1,0,r4", "tlbilx 3,0,r4", "mtspr 1012,r5", "tlbivax 0,r6"]
)
def test_a_changed_entry_is_not_used_from_the_cache(make, text):
    bench = make("e5500")
    bench.write(SPR.PID, 6)
    put(bench, 0x4000_0000, 0x3000, pid=6)
    soft = cache(bench, 0x4000_0000)
    bench.write(SPR.MAS6, 6 << 16)
    bench.do(text, r4=0x4000_0000, r5=2, r6=0x4000_0008)
    assert soft.read == NO_TAG


def test_other_processes_keep_their_cached_translations(bench):
    bench.write(SPR.PID, 6)
    put(bench, 0x4000_0000, 0x3000, pid=6)
    soft = cache(bench, 0x4000_0000)
    bench.write(SPR.MAS6, 7 << 16)
    put(bench, 0x5000_0000, 0x4000, pid=7, esel=1)
    bench.do("tlbilx 1,0,r4")
    assert soft.read == soft_tag(u64(0x4000_0000))


def test_the_other_thread_of_a_core_is_told(make):
    bench = make("e6500", 2, 2)
    put(bench, 0x4000_0000, 0x3000)
    bench.cpus[1].requests = 0
    put(bench, 0x4000_0000, 0x5000)
    assert bench.cpus[1].requests & Request.FLUSH


def test_replacing_an_indirect_entry_drops_nothing(make):
    bench = make("e6500")
    put(bench, 0x4000_0000, 0x3000, esel=1)
    soft = cache(bench, 0x4000_0000)
    put(bench, 0x4000_0000, 0x8000, size=11, mas1=MAS1.V | MAS1.IND, rights=4)
    put(bench, 0x4020_0000, 0x9000, size=11, mas1=MAS1.V | MAS1.IND, rights=4)
    assert soft.read == soft_tag(u64(0x4000_0000))


def test_pages_less_than_4_gib_apart_do_not_evict_each_other(bench):
    kept = []
    for esel, distance in enumerate((0, 0x10_0000, 0x100_0000, 0x4000_0000)):
        put(bench, 0x4000_0000 + distance, 0x3000, esel=esel, size=2)
        kept.append(cache(bench, 0x4000_0000 + distance))
    assert all(soft.read != NO_TAG for soft in kept)


@pytest.mark.parametrize("ea", [0, 0xFFFF_F000, 0x1_0000_0000, 0xFFFF_FFFF_FFFF_F000])
def test_a_page_at_either_end_is_cached_alone(make, ea):
    bench = make("e5500")
    bench.msr(MSR.CM)
    empty = at(Context, bench.cpu.contexts + 1 * Context.size)
    page = u64(ea)
    soft = soft_entry(bench.cpu, page)
    assert soft.read != soft_tag(page) and soft.write != soft_tag(page)
    assert empty.data[soft_slot(page)].read != soft_tag(page)
    put(bench, ea, 0x3000)
    assert cache(bench, ea).addend == (bench.cpu.vm.ram + 0x3000 - ea) & (1 << 64) - 1
    forget_page(bench.cpu, page, u32(0), u32(0))
    assert soft.read == soft.write == NO_TAG


@pytest.mark.parametrize("size, pages", [(6, 16), (12, 1024), (16, 16384), (22, 0x10_0000)])
def test_a_large_page_is_dropped_as_a_whole_and_nothing_else(make, size, pages):
    bench = make("e5500")
    bench.msr(MSR.CM)
    bench.write(SPR.PID, 6)
    ea = 1 << 32
    mask = pages * 0x1000 - 1
    put(bench, ea, 0, size=size, tlb=1, esel=5, pid=6)
    inside = [cache(bench, ea + n * 0x1000) for n in (0, 1, 15)]
    put(bench, 2 << 32 | 0x8000_0000, 0x3000)
    outside = cache(bench, 2 << 32 | 0x8000_0000)
    flush_page(bench.cpu, u64(ea), u64(mask), u32(7), u32(0))
    assert all(soft.read != NO_TAG for soft in inside)
    flush_page(bench.cpu, u64(ea), u64(mask), u32(6), u32(0))
    assert all(soft.read == soft.write == NO_TAG for soft in inside)
    assert pages == 0x10_0000 or outside.read != NO_TAG


@pytest.mark.parametrize("size", [2, 12])
@pytest.mark.parametrize(
    ("mas8", "dropped"),
    [(0, [True, False, False]), (MAS8.TGS | 5, [False, True, False]), (MAS8.TGS, [False, True, True])],
)
def test_an_entry_drops_what_is_cached_of_its_partition_alone(make, size, mas8, dropped):
    """Of the hypervisor and two guests with a page at the same address."""
    bench = make("e5500")
    spaces = ((0, 0), (MSR.GS, 5), (MSR.GS, 6))
    cached = []
    for esel, (state, lpid) in enumerate(spaces):
        bench.msr(0)
        bench.write(SPR.LPIDR, lpid)
        put(bench, 0x4000_0000, 0x3000, esel=esel, size=size, mas8=(MAS8.TGS if state else 0) | lpid)
        bench.msr(state)
        cached.append(cache(bench, 0x4000_0000))
    bench.msr(0)
    assert all(soft.read != NO_TAG for soft in cached)
    put(bench, 0x4000_0000, 0x3000, esel=9, size=size, mas8=mas8)
    assert all(soft.read != NO_TAG for soft in cached)  # a new entry has been used for nothing yet
    put(bench, 0x4000_0000, 0x5000, esel=9, size=size, mas8=mas8)
    assert [soft.read == NO_TAG for soft in cached] == dropped


def test_an_access_across_the_end_of_a_cached_page_is_not_taken_for_the_next(make):
    bench = make("e5500")
    bench.msr(MSR.CM)
    for esel, (ea, pa) in enumerate(((0xFFFF_F000, 0x3000), (0x1_0000_0000, 0x5000))):
        put(bench, ea, pa, esel=esel)
        cache(bench, ea)
    write_ram(bench.cpu.vm.ram + 0x3FFE, u64(0x1122), u32(2))
    write_ram(bench.cpu.vm.ram + 0x5000, u64(0x3344), u32(2))
    assert load(bench.cpu, u32, u64(0xFFFF_FFFE)) == 0x1122_3344


@pytest.mark.parametrize("ea", [0xFFFF_FFFF_FFFF_EFFE, 0xFFFF_FFFF_FFFF_F000, 0xFFFF_FFFF_FFFF_FFFE])
def test_the_last_page_is_not_cached_before_it_was_met(make, ea):
    bench = make("e5500")
    bench.msr(MSR.CM)
    with pytest.raises(Abort):
        load(bench.cpu, u32, u64(ea))


@pytest.mark.parametrize("attributes, zeroed", [(0, True), (MAS2.W, False), (MAS2.I, False)])
def test_only_cacheable_pages_are_cached_for_dcbz(bench, attributes, zeroed):
    put(bench, 0x4000_0000 | attributes, 0x3000)
    soft = cache(bench, 0x4000_0000)
    assert soft.write == soft_tag(u64(0x4000_0000))
    assert (soft.zero == soft.write) == zeroed


def test_a_process_ends_and_the_code_of_all_stays(bench):
    cpu = bench.cpu
    bench.write(SPR.PID, 6)
    for owned, page in ((0, 0x5000), (1, 0x6000)):
        cpu.fetch_owned = owned
        fill_code(cpu, u64(page), u64(0x1000))
    bench.write(SPR.PID, 7)
    inherited = current_context(cpu).code
    assert inherited[5].tag & ~0xFFF == 0x5000 and inherited[6].tag == NO_TAG
    bench.write(SPR.PID, 6)
    flush_process(cpu, u32(7))
    code = current_context(cpu).code
    assert code[5].tag & ~0xFFF == 0x5000 and code[6].tag & ~0xFFF == 0x6000
    flush_process(cpu, u32(6))
    assert code[5].tag & ~0xFFF == 0x5000 and code[6].tag == NO_TAG


@pytest.mark.parametrize(
    ("text", "mas0"), [("tlbre", 0), ("tlbre", MAS0.ATSEL), ("tlbwe", 0), ("tlbwe", MAS0.ATSEL), ("tlbsx 0,r4", 0)]
)
def test_a_thread_waits_while_the_other_changes_the_tlbs(make, text, mas0):
    bench = make("e6500", 2, 2)
    bench.cpu.spr[SPR.MAS0] = mas0
    waited = []

    def yielded(*_: int) -> int:
        waited.append(True)
        bench.cpus[1].tlb.lock = 0  # the other thread has done its change
        return 0

    syscall = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 5)(yielded)
    bench.vm.futex = ctypes.cast(syscall, ctypes.c_void_p).value
    bench.cpus[1].tlb.lock = 1
    bench.do(text, r4=0)
    assert waited and bench.cpu.tlb.lock == 0
