"""Every interrupt of a guest: who takes it, at which vector, what is saved where, and the MSR it begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from powervisor.isa.registers import DBCR0, DBSR, EPCR, ESR, HID0, IVOR, MAS1, MAS3, MAS8, MSR, MSRP, SPR, TCR, TSR
from powervisor.vcpu.state import Doorbell, Line

LPID = 5
VECTORS, GUEST_VECTORS = 0x7000_0000, 0x7100_0000
READABLE, EMPTY, CODE = 0x4000_0000, 0x4000_5000, 0x1000
OLD = 0x1111_0000
SAVED = {
    "base": (SPR.SRR0, SPR.SRR1), "guest": (SPR.GSRR0, SPR.GSRR1), "critical": (SPR.CSRR0, SPR.CSRR1),
    "machine check": (SPR.MCSRR0, SPR.MCSRR1), "debug": (SPR.DSRR0, SPR.DSRR1),
}  # fmt: skip
KEPT = {
    # What an interrupt of a class leaves of MSR; the guest's leave MSR[GS] too, and what MSRP protects.
    "base": MSR.CE | MSR.ME | MSR.DE | MSR.RI, "guest": MSR.CE | MSR.ME | MSR.DE | MSR.RI | MSR.GS,
    "critical": MSR.ME | MSR.DE | MSR.RI, "machine check": 0, "debug": MSR.ME | MSR.RI,
}  # fmt: skip
SYNDROMES = (SPR.ESR, SPR.DEAR, SPR.GESR, SPR.GDEAR)
MSR_BEFORE = MSR.GS | MSR.CE | MSR.EE | MSR.ME | MSR.RI | MSR.UCLE | MSR.PMM | MSR.DS | MSR.FE0
ALL = EPCR.EXTGS | EPCR.DTLBGS | EPCR.ITLBGS | EPCR.DSIGS | EPCR.ISIGS


@dataclass(frozen=True)
class Cause:
    """How an interrupt comes about, its number, class, and what else it tells."""

    number: int
    happen: Callable[[Any], object]
    kind: str = "base"
    directed: int = 0
    """The bit of EPCR that directs it to the guest."""
    esr: int | None = None
    dear: int | None = None
    after: bool = False
    """PC saved is of the next instruction."""
    msr: int = 0
    """More of MSR that it needs."""
    without: int = 0
    core: str = ""
    """The only core that has it."""


def do(text: str, **registers: int) -> Callable[[Any], object]:
    return lambda bench: bench.do(text, **registers)


def fetch(ea: int) -> Callable[[Any], object]:
    return lambda bench: bench.fetch(ea)


def line(bit: int) -> Callable[[Any], object]:
    def happen(bench: Any) -> None:
        bench.cpu.lines = bit
        bench.poll()

    return happen


def ring(bit: int) -> Callable[[Any], object]:
    def happen(bench: Any) -> None:
        bench.cpu.doorbells = bit
        bench.poll()

    return happen


def spr(number: int, bits: int) -> Callable[[Any], object]:
    def happen(bench: Any) -> None:
        bench.cpu.spr[number] = bits
        bench.poll()

    return happen


CAUSES = {
    "critical input": Cause(IVOR.CRITICAL, line(Line.CRITICAL), "critical"),
    "machine check": Cause(IVOR.MACHINE_CHECK, line(Line.MACHINE_CHECK), "machine check"),
    "non-maskable": Cause(IVOR.MACHINE_CHECK, line(Line.NMI), "machine check"),
    "store without right": Cause(
        IVOR.DATA_STORAGE, do("stw r3,0(r4)", r4=READABLE), directed=EPCR.DSIGS, esr=ESR.ST, dear=READABLE
    ),
    "fetch without right": Cause(IVOR.INSTRUCTION_STORAGE, fetch(READABLE), directed=EPCR.ISIGS, esr=0),
    "external": Cause(IVOR.EXTERNAL, line(Line.EXTERNAL), directed=EPCR.EXTGS),
    "alignment": Cause(IVOR.ALIGNMENT, do("lwarx r3,0,r4", r4=READABLE + 2), esr=0, dear=READABLE + 2),
    "illegal instruction": Cause(IVOR.PROGRAM, do("dnh 0,0"), esr=ESR.PIL),
    "privileged instruction": Cause(IVOR.PROGRAM, do("mfmsr r3"), esr=ESR.PPR, msr=MSR.PR),
    "user's hypervisor instruction": Cause(IVOR.PROGRAM, do("tlbre"), esr=ESR.PPR, msr=MSR.PR),
    "trap": Cause(IVOR.PROGRAM, do("tw 31,r3,r3"), esr=ESR.PTR),
    "no floating point": Cause(IVOR.FP_UNAVAILABLE, do("fmr f1,f2")),
    "system call": Cause(IVOR.SYSTEM_CALL, do("sc"), "guest", after=True),
    "user's system call": Cause(IVOR.SYSTEM_CALL, do("sc"), "guest", after=True, msr=MSR.PR),
    "decrementer": Cause(IVOR.DECREMENTER, spr(SPR.TSR, TSR.DIS)),
    "fixed interval": Cause(IVOR.FIT, spr(SPR.TSR, TSR.FIS)),
    "watchdog": Cause(IVOR.WATCHDOG, spr(SPR.TSR, TSR.WIS), "critical"),
    "load of nothing": Cause(IVOR.DATA_TLB, do("lwz r3,0(r4)", r4=EMPTY), directed=EPCR.DTLBGS, esr=0, dear=EMPTY),
    "store to nothing": Cause(
        IVOR.DATA_TLB, do("stw r3,0(r4)", r4=EMPTY), directed=EPCR.DTLBGS, esr=ESR.ST, dear=EMPTY
    ),
    "fetch of nothing": Cause(IVOR.INSTRUCTION_TLB, fetch(EMPTY), directed=EPCR.ITLBGS),
    "debug": Cause(IVOR.DEBUG, spr(SPR.DBSR, DBSR.IAC1), "debug", msr=MSR.DE),
    "no AltiVec": Cause(IVOR.ALTIVEC_UNAVAILABLE, do("vor v1,v2,v3"), esr=ESR.SPV, core="e6500"),
    "doorbell": Cause(IVOR.DOORBELL, ring(Doorbell.DBELL)),
    "critical doorbell": Cause(IVOR.CRITICAL_DOORBELL, ring(Doorbell.CRITICAL), "critical"),
    "guest doorbell": Cause(IVOR.GUEST_DOORBELL, ring(Doorbell.GUEST), "guest doorbell"),
    "guest critical doorbell": Cause(IVOR.GUEST_CRITICAL_DOORBELL, ring(Doorbell.GUEST_CRITICAL), "critical"),
    "guest machine check doorbell": Cause(IVOR.GUEST_CRITICAL_DOORBELL, ring(Doorbell.GUEST_MACHINE_CHECK), "critical"),
    "hypervisor call": Cause(IVOR.HYPERVISOR_SYSTEM_CALL, do("sc 1"), after=True),
    "user's hypervisor call": Cause(IVOR.HYPERVISOR_SYSTEM_CALL, do("sc 1"), after=True, msr=MSR.PR),
    "hypervisor's register": Cause(IVOR.HYPERVISOR_PRIVILEGE, do("mfspr r3,1008")),
    "hypervisor's instruction": Cause(IVOR.HYPERVISOR_PRIVILEGE, do("tlbre")),
    "ehpriv": Cause(IVOR.HYPERVISOR_PRIVILEGE, do("ehpriv 0x1234")),
    "user's ehpriv": Cause(IVOR.HYPERVISOR_PRIVILEGE, do("ehpriv 0"), msr=MSR.PR),
    "protected cache lock": Cause(IVOR.HYPERVISOR_PRIVILEGE, do("dcbtls 0,0,r4", r4=READABLE)),
}
MASKABLE = {
    "external": MSR.EE, "decrementer": MSR.EE, "fixed interval": MSR.EE, "doorbell": MSR.EE, "critical input": MSR.CE,
    "watchdog": MSR.CE, "critical doorbell": MSR.CE, "machine check": MSR.ME,
}  # fmt: skip
GUESTS_MASK = {
    "guest doorbell": MSR.EE, "guest critical doorbell": MSR.CE, "guest machine check doorbell": MSR.ME,
    "debug": MSR.DE,
}  # fmt: skip


def guest(bench: Any, cause: Cause, epcr: int, msr: int = MSR_BEFORE) -> int:
    """Put a guest of partition 5 where the cause can happen; its MSR."""
    cpu = bench.cpu
    entry = cpu.tlb.tlb1[0]
    entry.ea, entry.pa, entry.mask, entry.mas2 = READABLE, 0x4000, 0xFFF, 0
    entry.mas1, entry.mas3, entry.mas8 = MAS1.V | MAS1.TS | 2 << 7, MAS3.SR | MAS3.UR, MAS8.TGS | LPID
    code = cpu.tlb.tlb1[1]
    code.ea, code.pa, code.mask, code.mas2 = READABLE, 0x4000, 0xFFF, 0
    code.mas1, code.mas3, code.mas8 = MAS1.V | 2 << 7, MAS3.SR, MAS8.TGS | LPID
    entry.valid = code.valid = 1
    cpu.tlb.tlb1_used = 2
    registers = {
        SPR.LPIDR: LPID, SPR.EPCR: epcr, SPR.GIVPR: GUEST_VECTORS, SPR.TCR: TCR.DIE | TCR.FIE | TCR.WIE,
        SPR.HID0: HID0.EMCP, SPR.DBCR0: DBCR0.IDM, SPR.MSRP: MSRP.UCLEP,
    }  # fmt: skip
    for number in (*SYNDROMES, *(n for pair in SAVED.values() for n in pair)):
        registers[number] = OLD
    for number, value in registers.items():
        cpu.spr[number] = value
    msr = msr & ~cause.without | cause.msr
    bench.msr(msr)
    cpu.pc = CODE
    return msr


def check(bench: Any, cause: Cause, kind: str, msr: int) -> None:
    """The interrupt was taken in its class and changed no other class's registers."""
    cpu = bench.cpu
    saved = SAVED["guest" if kind == "guest doorbell" else kind]
    pc = cause_pc(cause)
    assert [int(cpu.spr[n]) for n in saved] == [pc, msr]
    for pair in SAVED.values():
        assert pair == saved or [int(cpu.spr[n]) for n in pair] == [OLD, OLD]
    assert int(cpu.pc) & ~0xFFFF == (GUEST_VECTORS if kind == "guest" else VECTORS)
    assert (int(cpu.pc) & 0x7FFF) >> 8 == cause.number
    kept = KEPT["base" if kind == "guest doorbell" else kind] | (MSR.UCLE if kind == "guest" else 0)
    assert int(cpu.msr) == msr & kept
    told = dict.fromkeys(SYNDROMES, OLD)
    if cause.esr is not None:
        told[SPR.GESR if kind == "guest" else SPR.ESR] = cause.esr
    if cause.dear is not None:
        told[SPR.GDEAR if kind == "guest" else SPR.DEAR] = cause.dear
    assert {n: int(cpu.spr[n]) for n in SYNDROMES} == told


def cause_pc(cause: Cause) -> int:
    """The address that the interrupt saves."""
    if cause.number in (IVOR.INSTRUCTION_STORAGE, IVOR.INSTRUCTION_TLB):
        return READABLE if cause.number == IVOR.INSTRUCTION_STORAGE else EMPTY
    return CODE + 4 if cause.after else CODE


def missing(bench: Any, cause: Cause) -> bool:
    return cause.core not in ("", bench.core.name)


@pytest.mark.parametrize("name", CAUSES)
def test_an_interrupt_that_nothing_directs_to_the_guest_is_the_hypervisors(both, name):
    cause = CAUSES[name]
    if missing(both, cause):
        return
    msr = guest(both, cause, ALL & ~cause.directed)
    cause.happen(both)
    check(both, cause, cause.kind, msr)


@pytest.mark.parametrize("name", [name for name, cause in CAUSES.items() if cause.directed])
def test_an_interrupt_is_directed_to_the_guest_by_its_own_bit(both, name):
    cause = CAUSES[name]
    msr = guest(both, cause, cause.directed)
    cause.happen(both)
    check(both, cause, "guest", msr)


@pytest.mark.parametrize("name", [name for name, cause in CAUSES.items() if cause.directed or "call" in name])
def test_in_hypervisor_state_no_bit_directs_an_interrupt_to_the_guest(both, name):
    cause = CAUSES[name]
    msr = guest(both, cause, ALL & ~EPCR.EXTGS, MSR_BEFORE & ~MSR.GS)
    for n in (0, 1):
        both.cpu.tlb.tlb1[n].mas8 = 0
    cause.happen(both)
    check(both, cause, "base", msr)


@pytest.mark.parametrize("name", MASKABLE)
def test_a_guest_cannot_mask_an_interrupt_of_the_hypervisor(both, name):
    cause = CAUSES[name]
    msr = guest(both, cause, 0, MSR_BEFORE & ~(MSR.EE | MSR.CE | MSR.ME))
    cause.happen(both)
    check(both, cause, cause.kind, msr)
    guest(both, cause, 0, MSR_BEFORE & ~(MSR.GS | MASKABLE[name]))
    both.poll()
    assert both.cpu.pc == CODE  # the hypervisor itself can


@pytest.mark.parametrize("name", GUESTS_MASK)
def test_a_guest_masks_its_doorbells_and_its_debug_interrupt(both, name):
    cause = CAUSES[name]
    for msr in (MSR_BEFORE & ~GUESTS_MASK[name], MSR_BEFORE & ~MSR.GS | MSR.DE):
        if name == "debug" and msr & MSR.DE:
            continue
        guest(both, Cause(0, cause.happen), 0, msr)
        cause.happen(both)
        assert both.cpu.pc == CODE
    msr = guest(both, cause, 0, MSR.GS | GUESTS_MASK[name])
    both.poll()
    check(both, cause, cause.kind, msr)


def test_an_external_interrupt_for_the_guest_waits_for_its_ee_and_its_state(both):
    cause = CAUSES["external"]
    for msr in (MSR_BEFORE & ~MSR.EE, MSR_BEFORE & ~MSR.GS):
        guest(both, cause, EPCR.EXTGS, msr)
        cause.happen(both)
        assert both.cpu.pc == CODE
    msr = guest(both, cause, EPCR.EXTGS)
    both.poll()
    check(both, cause, "guest", msr)


@pytest.mark.parametrize("number", [IVOR.DATA_STORAGE, IVOR.INSTRUCTION_STORAGE, IVOR.EXTERNAL, IVOR.SYSTEM_CALL,
                                    IVOR.DATA_TLB, IVOR.INSTRUCTION_TLB])  # fmt: skip
def test_each_guest_vector_has_a_register_of_its_own(both, number):
    name, cause = next((n, c) for n, c in CAUSES.items() if c.number == number)
    msr = guest(both, cause, cause.directed)
    both.cpu.spr[getattr(SPR, f"GIVOR{number}")] = 0x4320
    cause.happen(both)
    assert both.cpu.pc == GUEST_VECTORS | 0x4320, name
    assert both.cpu.spr[SPR.GSRR1] == msr
