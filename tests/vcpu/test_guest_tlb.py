"""Partitions in the TLB: whose translations an access finds, searches and invalidations by partition, external PIDs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from powervisor.isa.registers import EPCR, EPLC, ESR, IVOR, MAS1, MAS3, MAS5, MAS6, MAS8, MSR, SPR

ALL = MAS3.UX | MAS3.SX | MAS3.UW | MAS3.SW | MAS3.UR | MAS3.SR
EA, PA = 0x4000_0000, 0x4000
OWN, OTHER = 5, 6


def put(bench: Any, esel: int, mas8: int, *, ea: int = EA, pa: int = PA, pid: int = 0, tlb: int = 1, mas1: int = 0,
        rights: int = ALL) -> None:  # fmt: skip
    """Write an entry for a page of 4 KiB."""
    for spr, value in (
        (SPR.MAS0, tlb << 28 | esel << 16), (SPR.MAS1, MAS1.V | mas1 | pid << 16 | 2 << 7), (SPR.MAS2, ea),
        (SPR.MAS3, pa | rights), (SPR.MAS7, 0), (SPR.MAS8, mas8),
    ):  # fmt: skip
        bench.cpu.spr[spr] = value
    bench.do("tlbwe")


def valid(bench: Any, count: int) -> list[int]:
    """Which of TLB1's first entries are valid."""
    return [n for n in range(count) if bench.cpu.tlb.tlb1[n].valid]


def in_state(bench: Any, msr: int, text: str, **registers: int) -> int | None:
    """The interrupt of an instruction in a state; the state before is the hypervisor's again."""
    bench.msr(msr)
    taken = bench.outcome(text, **registers)
    bench.msr(0)
    bench.cpu.pc = 0x1000
    return int(taken) if taken is not None else None


# ---- matching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["lwz r3,0(r4)", "stw r3,0(r4)", "dcbf 0,r4"])
def test_an_access_finds_entries_of_its_state_and_partition(both, text):
    """TLPID 0 is every partition, TGS has no such value; TID 0 is every process."""
    for tgs, lpid, tid, state, own, pid in itertools.product(
        (0, MAS8.TGS), (0, OWN), (0, 3), (0, MSR.GS), (0, OWN, OTHER), (3, 4)
    ):
        both.reset()
        put(both, 0, tgs | lpid, pid=tid)
        both.write(SPR.LPIDR, own)
        both.write(SPR.PID, pid)
        found = bool(tgs) == bool(state) and lpid in (0, own) and tid in (0, pid)
        taken = in_state(both, state, text, r4=EA)
        assert taken == (None if found else IVOR.DATA_TLB), (tgs, lpid, tid, state, own, pid)


def test_each_partition_sees_its_own_page_at_an_address(both):
    both.oracle.ram[0x4000:0x4004], both.oracle.ram[0x5000:0x5004] = b"own.", b"othr"
    both.oracle.ram[0x6000:0x6004] = b"hyp."
    for esel, (mas8, pa) in enumerate(((MAS8.TGS | OWN, 0x4000), (MAS8.TGS | OTHER, 0x5000), (0, 0x6000))):
        put(both, esel, mas8, pa=pa)
    for _ in range(2):
        for lpid, state, seen in ((OWN, MSR.GS, b"own."), (OTHER, MSR.GS, b"othr"), (OWN, 0, b"hyp."), (0, 0, b"hyp.")):
            both.write(SPR.LPIDR, lpid)
            assert in_state(both, state, "lwz r3,0(r4)", r4=EA) is None
            assert int(both.cpu.gpr[3]).to_bytes(4, "big") == seen


VF_ACCESSES = {
    "lwz r3,0(r4)": 0, "stw r3,0(r4)": ESR.ST, "dcbf 0,r4": 0, "dcbz 0,r4": ESR.ST, "lwarx r3,0,r4": 0,
    "icbi 0,r4": 0,
}  # fmt: skip


@pytest.mark.parametrize("text", VF_ACCESSES)
def test_a_virtualization_fault_is_a_data_storage_interrupt_of_the_hypervisor(both, text):
    put(both, 0, MAS8.TGS | MAS8.VF | OWN)
    both.write(SPR.LPIDR, OWN)
    both.cpu.spr[SPR.EPCR] = EPCR.DSIGS | EPCR.DTLBGS
    for number in (SPR.GSRR0, SPR.GESR, SPR.GDEAR):
        both.cpu.spr[number] = 0x40
    for state in (MSR.GS, MSR.GS | MSR.PR):
        both.cpu.spr[SPR.ESR] = 0x77
        assert in_state(both, state, text, r4=EA) == IVOR.DATA_STORAGE
        assert int(both.cpu.spr[SPR.SRR1]) == state
        assert [int(both.cpu.spr[n]) for n in (SPR.ESR, SPR.DEAR)] == [VF_ACCESSES[text], EA]
        assert [int(both.cpu.spr[n]) for n in (SPR.GSRR0, SPR.GESR, SPR.GDEAR)] == [0x40] * 3


# ---- tlbre, tlbwe, tlbsx -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tlb", [0, 1])
@pytest.mark.parametrize("mas8", [0, OWN, MAS8.TGS | 0x3F, MAS8.TGS | MAS8.VF | OWN])
def test_mas8_is_part_of_an_entry(both, tlb, mas8):
    put(both, 1, mas8, tlb=tlb, pid=3)
    both.write(SPR.MAS8, MAS8.VF | 1)
    both.do("tlbre")
    assert both.read(SPR.MAS8) == mas8


def test_tlbsx_searches_the_partition_of_mas5_whatever_lpidr_says(both):
    for esel, mas8 in enumerate((0, MAS8.TGS | OWN, MAS8.TGS | OTHER, MAS8.TGS)):
        put(both, esel, mas8, ea=EA + 0x1000 * esel, pa=0x4000 + 0x1000 * esel)
    for mas5, ea, found in (
        (0, EA, 0), (OWN, EA, 0), (MAS5.SGS | OWN, EA, None), (MAS5.SGS | OWN, EA + 0x1000, 1),
        (MAS5.SGS | OTHER, EA + 0x1000, None), (MAS5.SGS | OTHER, EA + 0x2000, 2), (OWN, EA + 0x1000, None),
        (MAS5.SGS | OWN, EA + 0x3000, 3), (MAS5.SGS | OTHER, EA + 0x3000, 3),
    ):  # fmt: skip
        for lpidr in (0, OWN, OTHER):
            both.write(SPR.LPIDR, lpidr)
            both.write(SPR.MAS5, mas5)
            both.write(SPR.MAS8, MAS8.VF)
            both.do("tlbsx 0,r4", r4=ea)
            assert bool(both.read(SPR.MAS1) & MAS1.V) == (found is not None), (hex(mas5), hex(ea))
            if found is not None:
                assert both.read(SPR.MAS0) >> 16 & 0xFFF == found
                assert both.read(SPR.MAS3) & MAS3.RPN == 0x4000 + 0x1000 * found
                assert both.read(SPR.MAS8) == (0, MAS8.TGS | OWN, MAS8.TGS | OTHER, MAS8.TGS)[found]


# ---- tlbilx --------------------------------------------------------------------------------------------------------

KINDS = (
    # MAS8, PID, other bits of MAS1 of entries at one address each
    (MAS8.TGS | OWN, 1, 0), (MAS8.TGS | OWN, 2, 0), (MAS8.TGS | OTHER, 1, 0), (OWN, 1, 0),
    (MAS8.TGS | OWN, 1, MAS1.IPROT), (MAS8.TGS | OWN, 1, MAS1.TS), (0, 1, 0), (MAS8.TGS, 1, 0), (MAS8.TGS | OWN, 0, 0),
)  # fmt: skip


def invalidated(kind: int, mas5: int, mas6: int, index: int) -> set[int]:
    """What tlbilx is to invalidate of KINDS: SLPID is compared as it is, SGS and SAS for one page only."""
    gone = set()
    for n, (mas8, pid, bits) in enumerate(KINDS):
        if bits & MAS1.IPROT or mas8 & MAS8.TLPID != mas5 & MAS5.SLPID:
            continue
        page = n == index and mas8 & MAS8.TGS == mas5 & MAS5.SGS and bool(bits & MAS1.TS) == bool(mas6 & MAS6.SAS)
        process = pid == mas6 >> 16
        if kind == 0 or (kind == 1 and process) or (kind == 3 and process and page):
            gone.add(n)
    return gone


@pytest.mark.parametrize("kind", [0, 1, 3])
@pytest.mark.parametrize("state", [0, MSR.GS], ids=["hypervisor", "guest"])
def test_tlbilx_invalidates_in_the_partition_of_mas5(both, kind, state):
    """In a guest that may (EPCR[DGTMI]=0) too: the hypervisor sets MAS5 before it enters one."""
    for mas5, mas6, index in itertools.product(
        (0, OWN, MAS5.SGS | OWN, MAS5.SGS | OTHER), (1 << 16, 1 << 16 | MAS6.SAS), (0, 3, 5)
    ):
        if kind != 3 and index:
            continue
        both.reset()
        for n, (mas8, pid, bits) in enumerate(KINDS):
            put(both, n, mas8, ea=EA + 0x1000 * n, pid=pid, mas1=bits)
        both.write(SPR.LPIDR, OTHER)
        both.write(SPR.MAS5, mas5)
        both.write(SPR.MAS6, mas6)
        assert in_state(both, state, f"tlbilx {kind},0,r4", r4=EA + 0x1000 * index) is None
        gone = invalidated(kind, mas5, mas6, index)
        assert valid(both, len(KINDS)) == [n for n in range(len(KINDS)) if n not in gone], (hex(mas5), hex(mas6), index)


def test_after_tlbilx_of_a_partition_its_accesses_miss_and_those_of_others_do_not(side, core):
    bench = side(core)
    for esel, lpid in enumerate((OWN, OTHER)):
        put(bench, esel, MAS8.TGS | lpid, pa=0x4000 + 0x1000 * esel)
    seen = []
    for when in ("before", "after"):
        for lpid in (OWN, OTHER):
            bench.write(SPR.LPIDR, lpid)
            seen.append(in_state(bench, MSR.GS, "lwz r3,0(r4)", r4=EA))
        if when == "before":
            bench.write(SPR.MAS5, MAS5.SGS | OWN)
            bench.do("tlbilx 0,0,r4", r4=0)
    assert seen == [None, None, IVOR.DATA_TLB, None]


# ---- a guest's tlbwe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["e500mc", "e5500"], scope="module")
def test_without_an_lrat_every_tlbwe_of_a_guest_traps(side, core):
    bench = side(core)
    for mas0 in (0, 1 << 28):
        bench.write(SPR.MAS0, mas0)
        assert in_state(bench, MSR.GS, "tlbwe") == IVOR.HYPERVISOR_PRIVILEGE
    assert not any(bench.cpu.tlb.tlb0[n].valid for n in range(bench.core.tlb0_entries))


# ---- external process IDs ------------------------------------------------------------------------------------------

CONTEXTS = {
    # MAS8, rights and PID of the page; EPLC or EPSC; the interrupt in hypervisor state
    "guest's page": (MAS8.TGS | OWN, ALL, 0, EPLC.EGS | OWN << 16, None),
    "other partition": (MAS8.TGS | OWN, ALL, 0, EPLC.EGS | OTHER << 16, IVOR.DATA_TLB),
    "hypervisor's page": (MAS8.TGS | OWN, ALL, 0, OWN << 16, IVOR.DATA_TLB),
    "every partition's": (MAS8.TGS, ALL, 0, EPLC.EGS | OTHER << 16, None),
    "process": (MAS8.TGS | OWN, ALL, 3, EPLC.EGS | OWN << 16 | 3, None),
    "other process": (MAS8.TGS | OWN, ALL, 3, EPLC.EGS | OWN << 16 | 4, IVOR.DATA_TLB),
    "user": (MAS8.TGS | OWN, MAS3.UR | MAS3.UW, 0, EPLC.EGS | EPLC.EPR | OWN << 16, None),
    "not the user's": (MAS8.TGS | OWN, MAS3.SR | MAS3.SW, 0, EPLC.EGS | EPLC.EPR | OWN << 16, IVOR.DATA_STORAGE),
    "other space": (MAS8.TGS | OWN, ALL, 0, EPLC.EGS | EPLC.EAS | OWN << 16, IVOR.DATA_TLB),
    "virtualization fault": (MAS8.TGS | MAS8.VF | OWN, ALL, 0, EPLC.EGS | OWN << 16, IVOR.DATA_STORAGE),
}


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("text", ["lwepx r3,0,r4", "stwepx r3,0,r4", "dcbfep 0,r4", "icbiep 0,r4"])
def test_the_hypervisor_reaches_into_partitions_by_external_pid(both, name, text):
    mas8, rights, pid, context, taken = CONTEXTS[name]
    put(both, 0, mas8, rights=rights, pid=pid)
    both.write(SPR.EPLC, 0 if text.startswith("st") else context)
    both.write(SPR.EPSC, context if text.startswith("st") else 0)
    both.write(SPR.LPIDR, OTHER)
    assert in_state(both, 0, text, r4=EA, r3=0x1234_5678) == taken
    if taken is not None:
        store = ESR.ST if text.startswith("st") else 0
        assert [int(both.cpu.spr[n]) for n in (SPR.ESR, SPR.DEAR)] == [ESR.EPID | store, EA]
    elif store := text.startswith("st"):
        assert store and both.oracle.ram[PA : PA + 4] == b"\x12\x34\x56\x78"


def test_a_guests_external_pid_fault_is_directed_like_its_others(both):
    both.cpu.spr[SPR.EPCR] = EPCR.DTLBGS
    both.write(SPR.EPLC, EPLC.EGS | OWN << 16)
    both.msr(MSR.GS)
    assert both.outcome("lwepx r3,0,r4", r4=EA) == IVOR.DATA_TLB and both.guest_vector()
    assert [int(both.cpu.spr[n]) for n in (SPR.GESR, SPR.GDEAR)] == [ESR.EPID, EA]
