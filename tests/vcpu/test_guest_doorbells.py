"""msgsnd to partitions: which messages a vCPU accepts, when their interrupts come, and what forgets them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from powervisor.isa.registers import IVOR, MSR, SPR
from powervisor.vcpu.state import Doorbell

BRDCAST = 0x0400_0000
TYPES = {
    # message type; the bit it leaves; the interrupt; what enables it; where it saves
    "doorbell": (0, Doorbell.DBELL, IVOR.DOORBELL, MSR.EE, SPR.SRR0),
    "critical": (1, Doorbell.CRITICAL, IVOR.CRITICAL_DOORBELL, MSR.CE, SPR.CSRR0),
    "guest": (2, Doorbell.GUEST, IVOR.GUEST_DOORBELL, MSR.EE, SPR.GSRR0),
    "guest critical": (3, Doorbell.GUEST_CRITICAL, IVOR.GUEST_CRITICAL_DOORBELL, MSR.CE, SPR.CSRR0),
    "guest machine check": (4, Doorbell.GUEST_MACHINE_CHECK, IVOR.GUEST_CRITICAL_DOORBELL, MSR.ME, SPR.CSRR0),
}
GUESTS = [name for name in TYPES if "guest" in name]
SAVES = (SPR.SRR0, SPR.CSRR0, SPR.GSRR0, SPR.MCSRR0, SPR.DSRR0)
CPUS = ((5, 7), (5, 9), (6, 7), (0, 7))
"""LPIDR and GPIR of each vCPU; PIR is its number."""


def message(kind: int, pir: int = 0, lpid: int = 0, flags: int = 0) -> int:
    return kind << 27 | lpid << 14 | pir | flags


@pytest.fixture
def four(core: str, side: Any) -> Any:
    """Four vCPUs in three partitions."""
    bench = side(core, 4, 2 if core == "e6500" else 1)
    for cpu, (lpid, gpir) in zip(bench.cpus, CPUS, strict=True):
        cpu.spr[SPR.LPIDR], cpu.spr[SPR.GPIR] = lpid, gpir
        cpu.disabled = 0
    return bench


def rung(bench: Any) -> list[int]:
    return [n for n, cpu in enumerate(bench.cpus) if cpu.doorbells]


@pytest.mark.parametrize("name", TYPES)
def test_a_message_goes_by_its_partition_and_number(four, name):
    """LPIDTAG 0 is every partition; PIRTAG means PIR, of guest types GPIR; None: broadcast."""
    kind, bit = TYPES[name][:2]
    for lpid, pir in itertools.product((0, 5, 6, 9), (0, 1, 7, 9, None)):
        for cpu in four.cpus:
            cpu.doorbells = 0
        four.do("msgsnd r4", r4=message(kind, pir or 0, lpid, BRDCAST if pir is None else 0))
        wanted = [
            n for n, (own, gpir) in enumerate(CPUS)
            if lpid in (0, own) and pir in (None, gpir if kind >= 2 else n)
        ]  # fmt: skip
        assert rung(four) == wanted, (lpid, pir)
        assert all(four.cpus[n].doorbells == bit for n in wanted)


@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_doorbell_comes_when_its_guest_would_be_interrupted(both, name):
    _, bit, number, gate, save = TYPES[name]
    others = (MSR.EE | MSR.CE | MSR.ME) & ~gate
    both.cpu.spr[SPR.LPIDR] = 5
    for msr in (gate, gate | others, MSR.GS | others, MSR.GS, MSR.GS | MSR.PR | others):
        both.msr(msr)
        both.cpu.pc, both.cpu.doorbells = 0x1000, bit
        both.poll()
        assert (both.cpu.pc, both.cpu.doorbells) == (0x1000, bit), hex(msr)
    for msr in (MSR.GS | gate, MSR.GS | MSR.PR | gate):
        for n in SAVES:
            both.cpu.spr[n] = 0x40
        both.msr(msr)
        both.cpu.pc, both.cpu.doorbells = 0x1000, bit
        both.poll()
        assert both.taken() == number and not both.guest_vector() and both.cpu.doorbells == 0
        assert [int(both.cpu.spr[n]) for n in SAVES] == [0x1000 if n == save else 0x40 for n in SAVES]
        assert both.cpu.spr[save + 1] == msr and not both.cpu.msr & MSR.GS


@pytest.mark.parametrize(("name", "text", "msr"), [("guest", "wrteei 1", 0), ("guest critical", "mtmsr r3", MSR.CE),
                                                   ("guest machine check", "mtmsr r3", MSR.ME)])  # fmt: skip
def test_a_guest_doorbell_comes_right_after_the_guest_enables_it(both, name, text, msr):
    _, bit, number, gate, save = TYPES[name]
    both.msr(MSR.GS)
    both.cpu.doorbells = bit
    both.do(text, r3=msr)
    assert both.taken() == number
    assert (both.cpu.spr[save], both.cpu.spr[save + 1]) == (0x1004, MSR.GS | gate)


def test_the_hypervisor_enters_a_guest_with_a_doorbell_pending_and_has_it_back_at_once(both):
    """What KVM does: msgsnd to itself; the interrupt comes when the guest enables its interrupts, at the latest now."""
    both.write(SPR.LPIDR, 5)
    both.write(SPR.GPIR, 3)
    both.msr(MSR.EE)
    both.do("msgsnd r4", r4=message(2, 3, 5))
    assert both.taken() is None and both.cpu.doorbells == Doorbell.GUEST
    both.cpu.spr[SPR.SRR0], both.cpu.spr[SPR.SRR1] = 0x3000, MSR.GS | MSR.EE
    both.do("rfi")
    assert both.taken() == IVOR.GUEST_DOORBELL
    assert [int(both.cpu.spr[n]) for n in (SPR.GSRR0, SPR.GSRR1, SPR.SRR0)] == [0x3000, MSR.GS | MSR.EE, 0x3000]


@pytest.mark.parametrize("name", TYPES)
def test_msgclr_forgets_one_type(both, name):
    kind, bit = TYPES[name][:2]
    everything = sum(row[1] for row in TYPES.values())
    both.cpu.doorbells = everything
    both.do("msgclr r4", r4=message(kind, 0x3FFF, 0x3F))
    assert both.cpu.doorbells == everything & ~bit


def test_of_doorbells_pending_together_the_one_of_higher_class_comes_first(both):
    order = ["guest machine check", "critical", "guest critical", "doorbell", "guest"]
    for first, second in itertools.combinations(order, 2):
        both.msr(MSR.GS | MSR.EE | MSR.CE | MSR.ME)
        both.cpu.pc, both.cpu.doorbells = 0x1000, TYPES[first][1] | TYPES[second][1]
        both.poll()
        assert both.cpu.doorbells == TYPES[second][1], (first, second)
        both.cpu.doorbells = 0
