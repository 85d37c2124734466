"""Debug events: comparators, branch taken, instruction complete, trap, interrupt taken, return."""

from __future__ import annotations

from typing import Any

import pytest

from powervisor.insns import assemble
from powervisor.isa.registers import DBCR0, DBSR, EPCR, ESR, IVOR, MSR, SPR
from powervisor.native.ints import u32, u64
from powervisor.native.lang import attempt
from powervisor.vcpu.access import soft_entry
from powervisor.vcpu.debug import debug_after, debug_before, debug_data
from powervisor.vcpu.mmu import data_space, fill_data, soft_tag
from powervisor.vcpu.modes import NO_TAG
from tests.support.bench import interrupts_taken


def enable(bench: Any, events: int, msr: int = MSR.DE, **sprs: int) -> None:
    """Switch events on, comparators set by name, DBSR clear."""
    for name, value in sprs.items():
        bench.cpu.spr[getattr(SPR, name)] = value
    bench.cpu.spr[SPR.DBSR] = 0
    bench.cpu.spr[SPR.DBCR0] = DBCR0.IDM | events
    bench.msr(msr)


def step(bench: Any, text: str, **registers: int) -> None:
    """Execute as the engine does while events are enabled."""
    cpu = bench.cpu
    events = cpu.debug_events
    if events and attempt(debug_before, cpu):
        return
    before = interrupts_taken(cpu)
    bench.do(text, **registers)
    if events and interrupts_taken(cpu) == before:
        debug_after(cpu, u32(assemble(text, 0x1000)), events)
    bench.poll()


@pytest.mark.parametrize(
    ("control", "one", "two", "pc", "bits"),
    [
        (0, 0x1000, 0x2000, 0x1000, DBSR.IAC1), (0, 0x2000, 0x1000, 0x1000, DBSR.IAC2), (0, 0x1004, 0x2000, 0x1000, 0),
        (0x0080_0000, 0x1000, 0x1008, 0x1004, DBSR.IAC1 | DBSR.IAC2), (0x0080_0000, 0x1000, 0x1008, 0x1008, 0),
        (0x00C0_0000, 0x1000, 0x1008, 0x1008, DBSR.IAC1 | DBSR.IAC2), (0x00C0_0000, 0x1000, 0x1008, 0x1004, 0),
        (0x8000_0000, 0x1000, 0x2000, 0x1000, DBSR.IAC1), (0xC000_0000, 0x1000, 0x2000, 0x1000, 0),
    ],
)  # fmt: skip
def test_instruction_addresses_are_compared_before_execution(bench, control, one, two, pc, bits):
    enable(bench, DBCR0.IAC1 | DBCR0.IAC2, DBCR1=control, IAC1=one, IAC2=two)
    bench.cpu.pc = pc
    step(bench, "addi r3,0,1", r3=0)
    assert bench.cpu.spr[SPR.DBSR] == bits
    if bits:
        assert bench.taken() == IVOR.DEBUG and bench.cpu.spr[SPR.DSRR0] == pc and bench.cpu.gpr[3] == 0
    else:
        assert bench.taken() is None and bench.cpu.gpr[3] == 1


PAIRS = [(SPR.IAC1, DBSR.IAC1, SPR.DBCR1, 0), (SPR.IAC3, DBSR.IAC3, SPR.DBCR1, 16), (SPR.IAC5, DBSR.IAC5, SPR.DBCR5, 0),
         (SPR.IAC7, DBSR.IAC7, SPR.DBCR5, 16)]  # fmt: skip


@pytest.mark.parametrize(("spr", "event", "modes", "shift"), PAIRS)
def test_an_e6500_compares_eight_instruction_addresses(make, spr, event, modes, shift):
    both = event | event >> 1
    for mode, low, high, msr, expected in (
        (0, 0x1000, 0x2000, 0, event), (0, 0x2000, 0x1000, 0, event >> 1), (0, 0x2000, 0x3000, 0, 0),
        (0x0080_0000, 0x0800, 0x1800, 0, both), (0x00C0_0000, 0x0800, 0x1800, 0, 0),
        (0xC000_0000, 0x1000, 0x1000, 0, event >> 1), (0x0C00_0000, 0x1000, 0x1000, 0, event),
        (0x8000_0000, 0x1000, 0x2000, MSR.PR, 0),
    ):  # fmt: skip
        bench = make("e6500")
        bench.write(spr, low)
        bench.write(spr + 1, high)
        bench.write(modes, mode >> shift)
        bench.write(SPR.DBCR0, DBCR0.IDM | both)
        bench.msr(MSR.DE | msr)
        bench.cpu.pc = 0x1000
        step(bench, "addi r3,0,1")
        assert bench.cpu.spr[SPR.DBSR] == expected, (hex(mode), hex(low))
        assert (bench.taken() == IVOR.DEBUG) == bool(expected)


def test_only_an_e6500_has_more_than_two_instruction_comparators(bench):
    more = DBCR0.IAC3 | DBCR0.IAC4 | DBCR0.IAC5 | DBCR0.IAC6 | DBCR0.IAC7 | DBCR0.IAC8
    bench.write(SPR.DBCR0, more)
    bench.write(SPR.DBCR1, 0xFFFF_FFFF)
    assert bench.read(SPR.DBCR0) == (more if bench.core.name == "e6500" else 0)
    assert bench.read(SPR.DBCR1) == (0xFFC0_FFC0 if bench.core.name == "e6500" else 0xFFC0_0000)


def test_no_external_debugger_has_taken_resources(make):
    bench = make("e6500")
    bench.write(SPR.EDBRAC0, 0xFFFF_FFFF)
    assert bench.read(SPR.EDBRAC0) == 0


@pytest.mark.parametrize(
    ("events", "ea", "size", "store", "bits"),
    [
        (DBCR0.DAC1R, 0x100, 4, False, DBSR.DAC1R), (DBCR0.DAC1R, 0x100, 4, True, 0),
        (DBCR0.DAC1W, 0x100, 4, True, DBSR.DAC1W), (DBCR0.DAC1R, 0xFD, 4, False, DBSR.DAC1R),
        (DBCR0.DAC1R, 0xFC, 4, False, 0), (DBCR0.DAC2R | DBCR0.DAC2W, 0x200, 1, False, DBSR.DAC2R),
        (DBCR0.DAC2W, 0x200, 8, True, DBSR.DAC2W),
    ],
)  # fmt: skip
def test_data_addresses_are_compared_before_the_access(bench, events, ea, size, store, bits):
    enable(bench, events, DAC1=0x100, DAC2=0x200)
    gone = attempt(debug_data, bench.cpu, u64(ea), u32(size), store)
    assert bench.cpu.spr[SPR.DBSR] == bits
    assert gone == bool(bits)
    assert (bench.taken() == IVOR.DEBUG) == bool(bits)


def test_data_ranges(bench):
    for control, ea, hit in ((0x0080_0000, 0x1FF, True), (0x0080_0000, 0x200, False), (0x00C0_0000, 0x200, True)):
        enable(bench, DBCR0.DAC1R, DBCR2=control, DAC1=0x100, DAC2=0x200)
        assert attempt(debug_data, bench.cpu, u64(ea), u32(1), False) == hit


@pytest.mark.parametrize(
    ("text", "taken"),
    [("b 0x2000", True), ("bc 20,0,0x1008", True), ("bc 12,2,0x1008", True), ("bc 4,2,0x1008", False),
     ("bc 16,0,0x1008", True), ("bc 18,0,0x1008", False), ("bclr 20,0", True), ("addi r3,0,1", False)],
)  # fmt: skip
def test_a_taken_branch_is_caught_before_it_is_taken(bench, text, taken):
    enable(bench, DBCR0.BRT)
    cpu = bench.cpu
    cpu.cr[0], cpu.spr[SPR.CTR], cpu.spr[SPR.LR] = 2, 5, 0x4000
    step(bench, text)
    assert (bench.taken() == IVOR.DEBUG) == taken
    if taken:
        assert (cpu.spr[SPR.DSRR0], cpu.spr[SPR.CTR], cpu.spr[SPR.LR]) == (0x1000, 5, 0x4000)
        assert cpu.spr[SPR.DBSR] == DBSR.BRT


def test_a_completed_instruction_is_followed_by_the_interrupt(bench):
    enable(bench, DBCR0.ICMP)
    step(bench, "addi r3,0,7")
    assert bench.cpu.gpr[3] == 7
    assert bench.taken() == IVOR.DEBUG
    assert (bench.cpu.spr[SPR.DSRR0], bench.cpu.spr[SPR.DBSR]) == (0x1004, DBSR.ICMP)
    assert not bench.cpu.msr & MSR.DE


def test_returning_to_a_stepped_program_runs_one_instruction(bench):
    enable(bench, DBCR0.ICMP, msr=0)
    bench.cpu.spr[SPR.DSRR0], bench.cpu.spr[SPR.DSRR1] = 0x2000, MSR.DE | MSR.PR
    step(bench, "rfdi")
    assert bench.cpu.pc == 0x2000 and bench.cpu.debug_events
    step(bench, "addi r3,0,1")
    assert bench.cpu.spr[SPR.DSRR0] == 0x2004


def test_a_stepped_system_call_completes_and_interrupts_first(bench):
    enable(bench, DBCR0.ICMP)
    step(bench, "sc")
    assert bench.taken() == IVOR.DEBUG
    assert int(bench.cpu.spr[SPR.DSRR0]) & 0xFFFF == IVOR.SYSTEM_CALL * 0x100
    assert bench.cpu.spr[SPR.SRR0] == 0x1004


def test_address_events_without_de_are_remembered_as_imprecise(bench):
    enable(bench, DBCR0.IAC1 | DBCR0.ICMP | DBCR0.BRT, msr=0, IAC1=0x1000)
    step(bench, "addi r3,0,1")
    assert bench.cpu.spr[SPR.DBSR] == DBSR.IAC1 | DBSR.IDE
    step(bench, "mtmsr r3", r3=MSR.DE)
    assert bench.taken() == IVOR.DEBUG
    assert bench.cpu.spr[SPR.DSRR0] == 0x1008


def test_nothing_is_recorded_without_internal_debug_mode(bench):
    bench.cpu.spr[SPR.DBCR0] = DBCR0.ICMP | DBCR0.IAC1
    bench.msr(MSR.DE)
    assert bench.cpu.debug_events == 0


def test_duvd_keeps_events_out_of_the_hypervisor(bench):
    bench.cpu.spr[SPR.EPCR] = EPCR.DUVD
    enable(bench, DBCR0.ICMP)
    assert bench.cpu.debug_events == 0
    bench.msr(MSR.DE | MSR.GS)
    assert bench.cpu.debug_events == DBCR0.ICMP
    bench.cpu.spr[SPR.DBSR] = DBSR.ICMP
    bench.msr(MSR.DE)
    bench.poll()
    assert bench.taken() is None


@pytest.mark.parametrize(("msr", "number"), [(MSR.DE, IVOR.DEBUG), (0, IVOR.PROGRAM)])
def test_a_trap_is_a_debug_event(bench, msr, number):
    enable(bench, DBCR0.TRAP, msr)
    bench.do("tw 31,r0,r0")
    assert bench.taken() == number
    assert bench.cpu.spr[SPR.DBSR] == (DBSR.TRAP if msr else DBSR.TRAP | DBSR.IDE)
    save = SPR.DSRR0 if msr else SPR.SRR0
    assert bench.cpu.spr[save] == 0x1000
    if not msr:
        assert bench.cpu.spr[SPR.ESR] == ESR.PTR


@pytest.mark.parametrize(("msr", "bits"), [(MSR.DE, DBSR.IRPT), (0, DBSR.IRPT | DBSR.IDE)])
def test_an_interrupt_taken_is_an_event(bench, msr, bits):
    enable(bench, DBCR0.IRPT, msr)
    bench.do("sc")
    bench.poll()
    assert bench.cpu.spr[SPR.DBSR] == bits
    assert bench.taken() == (IVOR.DEBUG if msr else IVOR.SYSTEM_CALL)


@pytest.mark.parametrize(("msr", "bits"), [(MSR.DE, DBSR.IRPT), (0, DBSR.IRPT | DBSR.IDE)])
def test_an_interrupt_that_a_guest_takes_is_an_event_at_its_vector(both, msr, bits):
    both.cpu.spr[SPR.GIVPR], both.cpu.spr[SPR.GIVOR8] = 0x7_0000, 0x80
    enable(both, DBCR0.IRPT, MSR.GS | msr)
    both.do("sc")
    both.poll()
    assert both.cpu.spr[SPR.DBSR] == bits
    assert both.taken() == (IVOR.DEBUG if msr else None)
    assert int(both.cpu.spr[SPR.DSRR0] if msr else both.cpu.pc) == 0x7_0080
    assert not msr or both.cpu.spr[SPR.DSRR1] == MSR.GS | MSR.DE


@pytest.mark.parametrize("text", ["rfi", "rfgi"])
def test_a_guests_returns_are_events_by_either_name(both, text):
    enable(both, DBCR0.RET, MSR.GS | MSR.DE, GSRR0=0x3000, GSRR1=MSR.GS | MSR.DE)
    both.do(text)
    both.poll()
    assert both.taken() == IVOR.DEBUG and both.cpu.spr[SPR.DBSR] == DBSR.RET
    assert (both.cpu.spr[SPR.DSRR0], both.cpu.spr[SPR.DSRR1]) == (0x3000, MSR.GS | MSR.DE)


@pytest.mark.parametrize(
    ("text", "event", "before", "after", "recorded", "taken"),
    [
        ("rfi", DBCR0.RET, MSR.DE, MSR.DE, DBSR.RET, True), ("rfi", DBCR0.RET, 0, MSR.DE, DBSR.RET | DBSR.IDE, True),
        ("rfi", DBCR0.RET, MSR.DE, 0, DBSR.RET, False), ("rfci", DBCR0.CRET, MSR.DE, MSR.DE, DBSR.CRET, True),
        ("rfci", DBCR0.CRET, 0, MSR.DE, 0, False),
    ],
)  # fmt: skip
def test_returns_are_events(bench, text, event, before, after, recorded, taken):
    enable(bench, event, before, SRR0=0x3000, SRR1=after, CSRR0=0x3000, CSRR1=after)
    bench.do(text)
    bench.poll()
    assert bench.cpu.spr[SPR.DBSR] == recorded
    assert (bench.taken() == IVOR.DEBUG) == taken
    assert int(bench.cpu.spr[SPR.DSRR0] if taken else bench.cpu.pc) == 0x3000


def test_cached_translations_do_not_hide_data_events(bench):
    cpu, ea = bench.cpu, u64(0x5000)
    entry = cpu.tlb.tlb1[0]
    entry.mask, entry.mas3 = 0xFFF, 0x3F
    fill_data(cpu, ea, entry, data_space(cpu))
    soft = soft_entry(cpu, ea)
    assert soft.read == soft_tag(ea)
    enable(bench, DBCR0.DAC1R, DAC1=0x5000)
    assert soft.read == NO_TAG
