"""Storage and TLB error interrupts of a guest: who takes them, and which registers tell address and syndrome."""

from __future__ import annotations

from typing import Any

import pytest

from powervisor.isa.registers import EPCR, ESR, IVOR, MAS1, MAS3, MAS8, MSR, SPR
from powervisor.native.ints import u32, u64
from powervisor.native.lang import Abort
from powervisor.vcpu.interrupts import enter
from powervisor.vcpu.mmu import EXECUTE, READ, WRITE, code_space, data_space, translate
from powervisor.vcpu.state import ExitReason

LPID = 5
FAULTS = {
    # the access, to a page without rights or to none; the interrupt; the bit that directs it; its guest vector
    "data storage": (WRITE, 0x2000, IVOR.DATA_STORAGE, EPCR.DSIGS),
    "instruction storage": (EXECUTE, 0x2000, IVOR.INSTRUCTION_STORAGE, EPCR.ISIGS),
    "data TLB": (WRITE, 0x5000, IVOR.DATA_TLB, EPCR.DTLBGS),
    "instruction TLB": (EXECUTE, 0x5000, IVOR.INSTRUCTION_TLB, EPCR.ITLBGS),
}
OLD = 0x1111_0000


@pytest.fixture
def guest(bench: Any) -> Any:
    """A guest of partition 5 with a page at 0x2000 that may only be read."""
    for spr, value in (
        (SPR.MAS0, 1 << 28), (SPR.MAS1, MAS1.V | 2 << 7), (SPR.MAS2, 0x2000), (SPR.MAS3, 0x2000 | MAS3.SR),
        (SPR.MAS7, 0), (SPR.MAS8, MAS8.TGS | LPID),
    ):  # fmt: skip
        bench.write(spr, value)
    bench.do("tlbwe")
    bench.write(SPR.LPIDR, LPID)
    for spr in (SPR.DEAR, SPR.ESR, SPR.GDEAR, SPR.GESR):
        bench.write(spr, OLD)
    bench.msr(MSR.GS)
    bench.cpu.pc = 0x1000
    return bench


def access(bench: Any, ea: int, kind: int) -> None:
    """One access, and the interrupt it causes."""
    space = code_space(bench.cpu) if kind == EXECUTE else data_space(bench.cpu)
    with pytest.raises(Abort):
        translate(bench.cpu, u64(ea), space, u32(kind), u32(0))


def told(bench: Any, *sprs: int) -> list[int]:
    return [int(bench.cpu.spr[spr]) for spr in sprs]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_directed_to_the_guest_is_told_in_its_own_registers(guest, name):
    kind, ea, number, directed = FAULTS[name]
    guest.cpu.spr[SPR.EPCR] = directed
    access(guest, ea, kind)
    assert guest.guest_vector() and guest.taken() == number
    assert told(guest, SPR.GSRR0, SPR.GSRR1) == [0x1000, MSR.GS]
    assert told(guest, SPR.DEAR, SPR.ESR) == [OLD, OLD]
    if kind == WRITE:
        assert told(guest, SPR.GDEAR, SPR.GESR) == [ea, ESR.ST]
        assert (guest.read(SPR.DEAR), guest.read(SPR.ESR)) == (ea, ESR.ST)  # under the names the guest knows
    elif number == IVOR.INSTRUCTION_STORAGE:
        assert told(guest, SPR.GDEAR, SPR.GESR) == [OLD, 0]


@pytest.mark.parametrize("name", FAULTS)
def test_other_faults_of_the_guest_are_told_to_the_hypervisor(guest, name):
    kind, ea, number, directed = FAULTS[name]
    guest.cpu.spr[SPR.EPCR] = (EPCR.DSIGS | EPCR.ISIGS | EPCR.DTLBGS | EPCR.ITLBGS) & ~directed
    access(guest, ea, kind)
    assert not guest.guest_vector() and guest.taken() == number
    assert told(guest, SPR.SRR0, SPR.SRR1) == [0x1000, MSR.GS]
    assert told(guest, SPR.GDEAR, SPR.GESR) == [OLD, OLD]
    if kind == WRITE:
        assert told(guest, SPR.DEAR, SPR.ESR) == [ea, ESR.ST]


def test_a_fault_of_the_hypervisor_is_its_own(guest):
    guest.cpu.spr[SPR.EPCR] = EPCR.DSIGS | EPCR.DTLBGS
    guest.msr(0)
    access(guest, 0x5000, READ)
    assert not guest.guest_vector() and told(guest, SPR.DEAR, SPR.ESR, SPR.GDEAR) == [0x5000, 0, OLD]


def test_a_virtualization_fault_always_comes_to_the_hypervisor(guest):
    guest.cpu.spr[SPR.EPCR] = EPCR.DSIGS
    guest.cpu.tlb.tlb1[0].mas8 = MAS8.TGS | MAS8.VF | LPID
    access(guest, 0x2000, READ)
    assert not guest.guest_vector() and guest.taken() == IVOR.DATA_STORAGE
    assert told(guest, SPR.DEAR, SPR.ESR, SPR.GDEAR) == [0x2000, 0, OLD]


@pytest.mark.parametrize(("msr", "exit_reason"), [(MSR.GS, 0), (0, ExitReason.CHECKSTOP)])
def test_only_the_hypervisors_own_vector_can_raise_its_interrupt_for_ever(guest, msr, exit_reason):
    """A guest's vector may have the address of the hypervisor's, and not be there."""
    guest.msr(msr)
    vector = int(guest.cpu.spr[SPR.IVPR]) + IVOR.INSTRUCTION_TLB * 0x100
    enter(guest.cpu, u32(IVOR.INSTRUCTION_TLB), u64(vector))
    assert guest.cpu.exit_reason == exit_reason
