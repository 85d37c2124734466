"""MSR, returns from interrupts, system calls."""

from __future__ import annotations

import pytest

from powervisor.isa.registers import EPCR, ESR, FPSCR, IVOR, MSR, MSRP, SPR
from powervisor.vcpu.state import Line, Mode

DEFINED = (
    MSR.GS | MSR.UCLE | MSR.CE | MSR.EE | MSR.PR | MSR.FP | MSR.ME | MSR.FE0 | MSR.DE | MSR.FE1 | MSR.IS | MSR.DS
    | MSR.PMM | MSR.RI
)  # fmt: skip


@pytest.mark.parametrize(("core", "more"), [("e500mc", 0), ("e5500", MSR.CM), ("e6500", MSR.CM | MSR.VEC)])
def test_mtmsr_sets_what_the_core_has(make, core, more):
    bench = make(core)
    bench.do("mtmsr r3", r3=0xFFFF_FFFF & ~MSR.PR)
    assert bench.cpu.msr == (DEFINED | more) & ~MSR.PR
    assert bool(bench.cpu.mode & Mode.CM) == bool(more & MSR.CM)
    assert bench.do("mfmsr r3") == bench.cpu.msr


def test_a_guest_cannot_leave_its_state_or_change_protected_bits(bench):
    bench.msr(MSR.GS)
    bench.cpu.spr[SPR.MSRP] = MSRP.DEP | MSRP.UCLEP
    bench.do("mtmsr r3", r3=MSR.DE | MSR.UCLE | MSR.PMM | MSR.ME)
    assert bench.cpu.msr == MSR.GS | MSR.PMM | MSR.ME


def test_wrtee_and_wrteei_change_nothing_else(bench):
    bench.msr(MSR.ME | MSR.DE)
    bench.do("wrteei 1")
    assert bench.cpu.msr == MSR.ME | MSR.DE | MSR.EE
    bench.do("wrteei 0")
    assert bench.cpu.msr == MSR.ME | MSR.DE
    bench.do("wrtee r3", r3=0xFFFF_FFFF)
    assert bench.cpu.msr == MSR.ME | MSR.DE | MSR.EE


@pytest.mark.parametrize("text", ["wrteei 1", "wrtee r3", "mtmsr r3"])
def test_a_pending_interrupt_comes_right_after_it_is_enabled(bench, text):
    bench.cpu.lines = Line.EXTERNAL
    bench.do(text, r3=MSR.EE)
    assert bench.taken() == IVOR.EXTERNAL
    assert bench.cpu.spr[SPR.SRR0] == 0x1004
    assert bench.cpu.spr[SPR.SRR1] == MSR.EE


RETURNS = [
    ("rfi", SPR.SRR0, SPR.SRR1), ("rfci", SPR.CSRR0, SPR.CSRR1), ("rfdi", SPR.DSRR0, SPR.DSRR1),
    ("rfmci", SPR.MCSRR0, SPR.MCSRR1), ("rfgi", SPR.GSRR0, SPR.GSRR1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "pc", "msr"), RETURNS)
def test_returns_restore_msr_and_pc(bench, text, pc, msr):
    bench.cpu.spr[pc], bench.cpu.spr[msr] = 0x2003, MSR.PR | MSR.EE | MSR.IS
    bench.do(text)
    assert (bench.cpu.pc, bench.cpu.msr) == (0x2000, MSR.PR | MSR.EE | MSR.IS)
    assert bench.cpu.mode & Mode.PR


def test_the_return_address_is_cut_in_32_bit_mode(make):
    bench = make("e5500")
    for msr, target in ((0, 0x8000_0000), (MSR.CM, 0x1_8000_0000)):
        bench.cpu.spr[SPR.SRR0], bench.cpu.spr[SPR.SRR1] = 0x1_8000_0000, msr
        bench.msr(0)
        bench.do("rfi")
        assert bench.cpu.pc == target


def test_rfi_in_a_guest_returns_from_the_guests_interrupt(bench):
    bench.msr(MSR.GS)
    bench.cpu.spr[SPR.GSRR0], bench.cpu.spr[SPR.GSRR1] = 0x3000, MSR.PR
    bench.cpu.spr[SPR.SRR0] = 0x4000
    bench.do("rfi")
    assert (bench.cpu.pc, bench.cpu.msr) == (0x3000, MSR.PR | MSR.GS)


def test_rfi_enters_a_guest(bench):
    bench.cpu.spr[SPR.SRR0], bench.cpu.spr[SPR.SRR1] = 0x3000, MSR.GS | MSR.EE
    bench.do("rfi")
    assert bench.cpu.msr == MSR.GS | MSR.EE
    assert bench.cpu.mode & Mode.GS


def test_an_interrupt_that_rfi_enables_comes_at_its_target(bench):
    bench.cpu.lines = Line.CRITICAL
    bench.cpu.spr[SPR.SRR0], bench.cpu.spr[SPR.SRR1] = 0x3000, MSR.CE
    bench.do("rfi")
    assert bench.taken() == IVOR.CRITICAL
    assert bench.cpu.spr[SPR.CSRR0] == 0x3000


@pytest.mark.parametrize(("text", "level", "number"), [("sc", 0, 8), ("sc 1", 1, 40)])
def test_system_calls_return_behind_themselves(bench, text, level, number):
    bench.msr(MSR.PR | MSR.EE | MSR.CE)
    bench.do(text)
    assert bench.taken() == number
    assert (bench.cpu.spr[SPR.SRR0], bench.cpu.spr[SPR.SRR1]) == (0x1004, MSR.PR | MSR.EE | MSR.CE)
    assert bench.cpu.msr == MSR.CE


def test_a_guests_system_call_stays_in_the_guest(bench):
    bench.msr(MSR.GS | MSR.PR)
    bench.do("sc")
    assert bench.guest_vector() and bench.taken() == IVOR.SYSTEM_CALL
    assert (bench.cpu.spr[SPR.GSRR0], bench.cpu.msr) == (0x1004, MSR.GS)
    bench.msr(MSR.GS)
    bench.cpu.pc = 0x1000
    bench.do("sc 1")
    assert bench.taken() == IVOR.HYPERVISOR_SYSTEM_CALL and not bench.guest_vector()


def test_interrupts_compute_in_the_mode_epcr_says(make):
    bench = make("e5500")
    bench.cpu.spr[SPR.EPCR] = EPCR.ICM
    bench.do("sc")
    assert bench.cpu.msr == MSR.CM


def test_msr_after_interrupts_of_each_class(bench):
    everything = MSR.RI | MSR.ME | MSR.CE | MSR.DE | MSR.EE | MSR.PR | MSR.FP | MSR.IS | MSR.DS | MSR.UCLE | MSR.PMM
    for lines, kept in (
        (Line.EXTERNAL, MSR.RI | MSR.ME | MSR.CE | MSR.DE), (Line.CRITICAL, MSR.RI | MSR.ME | MSR.DE), (Line.NMI, 0),
    ):  # fmt: skip
        bench.msr(everything)
        bench.cpu.pc, bench.cpu.lines = 0x1000, lines
        bench.after(0)
        assert bench.cpu.msr == kept, lines


def test_a_waiting_floating_point_exception_comes_when_it_is_enabled(bench):
    bench.msr(MSR.FP)
    bench.cpu.fpscr = FPSCR.FX | FPSCR.FEX | FPSCR.ZX | FPSCR.ZE
    bench.do("mtmsr r3", r3=MSR.FP | MSR.FE0 | MSR.FE1)
    assert bench.taken() == IVOR.PROGRAM
    assert bench.cpu.spr[SPR.ESR] == ESR.FP | ESR.PIE
    assert bench.cpu.spr[SPR.SRR0] == 0x1004


def test_dnh_is_illegal_without_a_debugger(bench):
    assert bench.outcome("dnh 0,0") == IVOR.PROGRAM
    assert bench.cpu.spr[SPR.ESR] == ESR.PIL


def test_wait_marks_the_vcpu_until_an_interrupt(bench):
    bench.msr(MSR.EE)
    bench.do("wait")
    assert bench.cpu.waiting and bench.cpu.pc == 0x1004
    bench.after(0)
    assert bench.cpu.waiting
    bench.cpu.lines = Line.EXTERNAL
    bench.after(0)
    assert not bench.cpu.waiting and bench.cpu.spr[SPR.SRR0] == 0x1004


def test_wait_does_not_wait_when_an_interrupt_is_pending(bench):
    bench.cpu.lines = Line.CRITICAL
    bench.msr(0)
    bench.do("wait")
    assert bench.cpu.waiting  # CE=0: nothing is deliverable
    bench.cpu.waiting = 0
    bench.cpu.pc = 0x1000
    bench.msr(MSR.CE)
    bench.do("wait")
    assert bench.taken() == IVOR.CRITICAL and not bench.cpu.waiting
