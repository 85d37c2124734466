"""MSRP: bits of MSR that a guest cannot change, and what else is kept from it with them."""

from __future__ import annotations

import pytest

from powervisor.isa.registers import EPCR, ESR, IVOR, MAS1, MAS3, MAS8, MSR, MSRP, SPR

PROTECTED = {"UCLEP": (MSRP.UCLEP, MSR.UCLE), "DEP": (MSRP.DEP, MSR.DE), "PMMP": (MSRP.PMMP, MSR.PMM)}
WRITERS = {"mtmsr r3": None, "rfi": SPR.GSRR1, "rfgi": SPR.GSRR1}
LOCKS = ("dcbtls 0,0,r4", "dcbtstls 0,0,r4", "dcblc 0,0,r4", "icbtls 0,0,r4", "icblc 0,0,r4")
PAGE = 0x5000


@pytest.mark.parametrize("name", PROTECTED)
@pytest.mark.parametrize("text", WRITERS)
def test_a_guest_changes_only_bits_that_are_not_protected(both, name, text):
    protect, bit = PROTECTED[name]
    others = sum(other for other, _ in PROTECTED.values()) & ~protect
    for protection, before, wanted in [(p, b, w) for p in (protect, others) for b in (0, bit) for w in (0, bit)]:
        both.cpu.spr[SPR.MSRP] = protection
        both.msr(MSR.GS | before)
        both.cpu.pc = 0x1000
        if WRITERS[text] is not None:
            both.cpu.spr[WRITERS[text]], both.cpu.spr[SPR.GSRR0] = wanted | MSR.RI, 0x2000
        both.do(text, r3=wanted | MSR.RI)
        assert both.cpu.msr == MSR.GS | MSR.RI | (before if protection == protect else wanted)


@pytest.mark.parametrize("text", WRITERS)
def test_the_hypervisor_changes_every_bit(both, text):
    everything = MSR.UCLE | MSR.DE | MSR.PMM
    both.cpu.spr[SPR.MSRP] = MSRP.UCLEP | MSRP.DEP | MSRP.PMMP
    for wanted in (everything, 0):
        for n in (SPR.SRR1, SPR.GSRR1):
            both.cpu.spr[n] = wanted
        both.do(text, r3=wanted)
        assert both.cpu.msr == wanted


@pytest.mark.parametrize("protection", [0, MSRP.UCLEP, MSRP.PMMP, MSRP.DEP, MSRP.UCLEP | MSRP.PMMP])
def test_a_guests_interrupt_leaves_protected_bits_alone(both, protection):
    both.cpu.spr[SPR.MSRP] = protection
    both.msr(MSR.GS | MSR.UCLE | MSR.PMM | MSR.DE | MSR.EE)
    both.do("sc")
    kept = (MSR.UCLE if protection & MSRP.UCLEP else 0) | (MSR.PMM if protection & MSRP.PMMP else 0)
    assert both.cpu.msr == MSR.GS | MSR.DE | kept
    both.msr(MSR.GS | MSR.UCLE | MSR.PMM | MSR.DE)
    both.do("sc 1")
    assert both.cpu.msr == MSR.DE  # the hypervisor's interrupts clear them


def test_wrtee_is_the_guests_own(both):
    both.cpu.spr[SPR.MSRP] = MSRP.UCLEP | MSRP.DEP | MSRP.PMMP
    both.msr(MSR.GS)
    both.do("wrteei 1")
    assert both.cpu.msr == MSR.GS | MSR.EE


# ---- what is kept with them ----------------------------------------------------------------------------------------


@pytest.fixture
def page(both):
    """A page that both states may use."""
    for n, mas8 in enumerate((0, MAS8.TGS)):
        entry = both.cpu.tlb.tlb1[n]
        entry.ea = entry.pa = PAGE
        entry.mask, entry.mas1, entry.mas3, entry.mas8 = 0xFFF, MAS1.V | 2 << 7, 0x3F & ~MAS3.UX, mas8
        entry.valid = 1
    both.cpu.tlb.tlb1_used = 2
    return both


@pytest.mark.parametrize("text", LOCKS)
def test_uclep_takes_cache_locking_from_the_guests_supervisor(page, text):
    for protection, msr, taken in (
        (MSRP.UCLEP, MSR.GS, IVOR.HYPERVISOR_PRIVILEGE), (MSRP.UCLEP, MSR.GS | MSR.UCLE, IVOR.HYPERVISOR_PRIVILEGE),
        (MSRP.UCLEP, 0, None), (MSRP.DEP | MSRP.PMMP, MSR.GS, None), (MSRP.UCLEP, MSR.GS | MSR.PR | MSR.UCLE, None),
        (0, MSR.GS | MSR.PR, IVOR.DATA_STORAGE),
    ):  # fmt: skip
        page.cpu.spr[SPR.MSRP] = protection
        page.msr(msr)
        assert page.outcome(text, r4=PAGE) == taken, hex(msr)


@pytest.mark.parametrize(("text", "esr"), [("dcbtls 0,0,r4", ESR.DLK), ("icbtls 0,0,r4", ESR.ILK)])
def test_cache_locking_of_a_guests_user_is_the_guests_storage_interrupt(page, text, esr):
    page.cpu.spr[SPR.MSRP], page.cpu.spr[SPR.EPCR] = MSRP.UCLEP, EPCR.DSIGS
    page.msr(MSR.GS | MSR.PR)
    assert page.outcome(text, r4=PAGE) == IVOR.DATA_STORAGE and page.guest_vector()
    assert (page.cpu.spr[SPR.GESR], page.cpu.spr[SPR.GDEAR]) == (esr, PAGE)


def test_pmmp_takes_the_performance_monitor_from_the_guest(both):
    both.do("mtpmr 16,r3", r3=0x55)
    both.cpu.spr[SPR.MSRP] = MSRP.PMMP
    for text in ("mfpmr r3,16", "mtpmr 16,r3", "mfpmr r3,400"):
        both.msr(MSR.GS)
        assert both.outcome(text, r3=1) == IVOR.HYPERVISOR_PRIVILEGE
        both.msr(MSR.GS | MSR.PR)
        assert both.outcome(text) == IVOR.PROGRAM and both.cpu.spr[SPR.ESR] == ESR.PPR
    both.msr(MSR.GS | MSR.PR)
    assert both.do("mfpmr r3,0", r3=1) == 0
    both.msr(MSR.PR)
    assert both.do("mfpmr r3,0") == 0x55  # the hypervisor's user
    both.msr(0)
    assert both.outcome("mtpmr 16,r3", r3=0x66) is None


def test_without_pmmp_the_performance_monitor_is_the_guests(both):
    both.cpu.spr[SPR.MSRP] = MSRP.UCLEP | MSRP.DEP
    both.msr(MSR.GS)
    assert both.outcome("mtpmr 16,r3", r3=0x77) is None
    both.msr(MSR.GS | MSR.PR)
    assert both.do("mfpmr r3,0") == 0x77
