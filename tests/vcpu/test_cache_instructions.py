"""Cache management and locking: what each is checked as, and the syndrome of its interrupts."""

from __future__ import annotations

from typing import Any

import pytest

from powervisor.isa.registers import ESR, IVOR, L1CSR0, MAS1, MAS2, MAS3, MSR, MSRP, SPR

PAGE = 0x5000
SUPERVISOR = {"r": MAS3.SR, "w": MAS3.SW, "x": MAS3.SX}

# What an instruction needs of a page, and how its faults are marked.
LOADS = ("dcbf 0,r4", "dcbst 0,r4", "icbi 0,r4", "dcbtls 0,0,r4", "dcblc 0,0,r4", "icbtls 0,0,r4", "icblc 0,0,r4")
STORES = ("dcbz 0,r4", "dcbzl 0,r4", "dcbi 0,r4", "dcbtstls 0,0,r4")
EPID_LOADS = ("dcbfep 0,r4", "dcbstep 0,r4", "icbiep 0,r4")
EPID_STORES = ("dcbzep 0,r4", "dcbzlep 0,r4")
HINTS = ("dcbt 0,0,r4", "dcbtst 0,0,r4", "icbt 0,0,r4", "dcba 0,r4", "dcbtep 0,0,r4", "dcbtstep 0,0,r4")


def page(bench: Any, rights: int, attributes: int = 0, pid: int = 0) -> None:
    """One 4 KiB page at PAGE, one to one."""
    entry = bench.cpu.tlb.tlb1[0]
    entry.ea = entry.pa = PAGE
    entry.mask, entry.mas1, entry.mas2, entry.mas3 = 0xFFF, MAS1.V | pid << 16 | 2 << 7, attributes, rights
    entry.valid, bench.cpu.tlb.tlb1_used = 1, 1


def syndrome(bench: Any, text: str, address: int = PAGE) -> tuple[int | None, int]:
    """The interrupt of an instruction and ESR."""
    taken = bench.outcome(text, r4=address)
    return taken, int(bench.cpu.spr[SPR.ESR]) if taken is not None else 0


@pytest.mark.parametrize("text", LOADS + STORES + EPID_LOADS + EPID_STORES)
def test_a_page_that_may_not_be_accessed_so_is_a_storage_fault(bench, text):
    store, epid = text in STORES + EPID_STORES, text in EPID_LOADS + EPID_STORES
    page(bench, SUPERVISOR["r"] if store else SUPERVISOR["w"])
    expected = (ESR.ST if store else 0) | (ESR.EPID if epid else 0)
    assert syndrome(bench, text) == (IVOR.DATA_STORAGE, expected)
    assert bench.cpu.spr[SPR.DEAR] == PAGE
    page(bench, SUPERVISOR["w"] if store else SUPERVISOR["r"])
    bench.msr(0)
    assert bench.outcome(text, r4=PAGE) is None


@pytest.mark.parametrize("text", LOADS + STORES + EPID_LOADS + EPID_STORES)
def test_a_page_that_is_not_mapped_is_a_tlb_miss(bench, text):
    store, epid = text in STORES + EPID_STORES, text in EPID_LOADS + EPID_STORES
    expected = (ESR.ST if store else 0) | (ESR.EPID if epid else 0)
    assert syndrome(bench, text) == (IVOR.DATA_TLB, expected)


@pytest.mark.parametrize("text", HINTS)
def test_hints_never_fault(bench, text):
    assert bench.outcome(text, r4=PAGE) is None


@pytest.mark.parametrize(("text", "esr"), [("dcbz 0,r4", ESR.ST), ("dcbzep 0,r4", ESR.ST | ESR.EPID)])
def test_zeroing_a_line_that_is_not_cached_is_an_alignment_interrupt(bench, text, esr):
    page(bench, SUPERVISOR["w"], MAS2.I)
    assert syndrome(bench, text) == (IVOR.ALIGNMENT, esr)
    assert bench.cpu.spr[SPR.DEAR] == PAGE


@pytest.mark.parametrize(
    ("text", "short"), [("dcbz 0,r4", True), ("dcbzl 0,r4", False), ("dcbzep 0,r4", True), ("dcbzlep 0,r4", False)]
)
def test_dcbz32_shortens_what_does_not_ask_for_a_line(bench, text, short):
    for control, length in ((0, 64), (L1CSR0.DCBZ32, 32 if short else 64)):
        page(bench, SUPERVISOR["w"])
        bench.cpu.spr[SPR.L1CSR0] = control
        bench.oracle.ram[PAGE : PAGE + 128] = b"\xff" * 128
        assert bench.outcome(text, r4=PAGE + 64) is None
        assert bytes(bench.oracle.ram[PAGE : PAGE + 128]) == b"\xff" * 64 + bytes(length) + b"\xff" * (64 - length)


@pytest.mark.parametrize(
    ("text", "esr"),
    [("dcbtls 0,0,r4", ESR.DLK), ("dcbtstls 0,0,r4", ESR.DLK | ESR.ST), ("dcblc 0,0,r4", ESR.DLK),
     ("icbtls 0,0,r4", ESR.ILK), ("icblc 0,0,r4", ESR.ILK)],
)  # fmt: skip
def test_users_lock_lines_only_with_ucle_and_guests_only_without_uclep(bench, text, esr):
    page(bench, 0x3F)
    bench.msr(MSR.PR)
    assert syndrome(bench, text) == (IVOR.DATA_STORAGE, esr)
    bench.msr(MSR.PR | MSR.UCLE)
    assert bench.outcome(text, r4=PAGE) is None
    bench.cpu.spr[SPR.MSRP] = MSRP.UCLEP
    bench.msr(MSR.GS)
    assert bench.outcome(text, r4=PAGE) == IVOR.HYPERVISOR_PRIVILEGE


def test_loads_by_external_pid_use_eplc_and_stores_epsc(bench):
    page(bench, 0x3F, pid=7)
    bench.write(SPR.EPLC, 7)
    for text in EPID_LOADS:
        assert bench.outcome(text, r4=PAGE) is None
    for text in EPID_STORES:
        assert bench.outcome(text, r4=PAGE) == IVOR.DATA_TLB
        bench.msr(0)
    bench.write(SPR.EPLC, 0)
    bench.write(SPR.EPSC, 7)
    for text in EPID_STORES:
        assert bench.outcome(text, r4=PAGE) is None
