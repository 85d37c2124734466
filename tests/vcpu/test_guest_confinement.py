"""Whatever a guest executes, it changes nothing that is the hypervisor's or another partition's."""

from __future__ import annotations

import random
from typing import Any

import pytest

from powervisor.isa.registers import EPCR, EPLC, MAS1, MAS3, MAS8, MSR, MSRP, SPR
from powervisor.testing.words import WordMaker
from powervisor.vcpu.sprs import rows
from powervisor.vcpu.state import TlbEntry

WORDS = 1000
OWN, OTHER = 5, 6
ENTRIES = (
    # effective page, real page, MAS8: the hypervisor's and the other's lie where the guest's are, and beside them
    (0x2000, 0x1000, MAS8.TGS | OWN), (0x2000, 0x2000, 0), (0x2000, 0x3000, MAS8.TGS | OTHER),
    (0x3000, 0x2000, 0), (0x3000, 0x3000, MAS8.TGS | OTHER), (0x3000, 0x3000, MAS8.VF | MAS8.TGS | OWN),
    (0x4000, 0x2000, OWN), (0x4000, 0x3000, MAS8.TGS | OTHER),
)  # fmt: skip
CANARIES = slice(0x2000, 0x4000)
RENAMED = (SPR.SRR0, SPR.SRR1, SPR.DEAR, SPR.ESR, SPR.SPRG0, SPR.SPRG1, SPR.SPRG2, SPR.SPRG3, SPR.PIR, SPR.EPR)
GUESTS = {SPR.GSRR0, SPR.GSRR1, SPR.GDEAR, SPR.GESR, SPR.GSPRG0, SPR.GSPRG1, SPR.GSPRG2, SPR.GSPRG3}
INTERRUPT = {SPR.SRR0, SPR.SRR1, SPR.ESR, SPR.DEAR}
MACHINE_CHECK = {SPR.MCSRR0, SPR.MCSRR1, SPR.MCSR, SPR.MCAR, SPR.MCARU}
CHOSEN = EPCR.DSIGS | EPCR.ISIGS | EPCR.DTLBGS | EPCR.ITLBGS | EPCR.EXTGS | EPCR.DUVD | EPCR.DMIUH
"""EPCR's bits that may be either: EPCR[DGTMI] or no right to write the TLB keeps the guest from the TLBs."""


def prepare(bench: Any) -> None:
    """TLB entries of the guest, the hypervisor and another partition; the pages of the latter two hold canaries."""
    for n, (ea, pa, mas8) in enumerate(ENTRIES):
        for spr, value in (
            (SPR.MAS0, 1 << 28 | n << 16), (SPR.MAS1, MAS1.V | 2 << 7), (SPR.MAS2, ea), (SPR.MAS7, 0),
            (SPR.MAS3, pa | MAS3.UX | MAS3.SX | MAS3.UW | MAS3.SW | MAS3.UR | MAS3.SR), (SPR.MAS8, mas8),
        ):  # fmt: skip
            bench.write(spr, value)
        bench.do("tlbwe")
    bench.oracle.ram[CANARIES] = bytes(range(256)) * 32


def tlb(bench: Any) -> list[tuple[int, ...]]:
    """What the TLBs hold."""
    core, held = bench.core, bench.cpu.tlb
    entries: list[TlbEntry] = [held.tlb1[n] for n in range(len(ENTRIES) + 1)]
    entries += [held.tlb0[n] for n in range(0, core.tlb0_entries, 61)]
    return [tuple(map(int, (e.valid, e.ea, e.pa, e.mask, e.mas1, e.mas2, e.mas3, e.mas8))) for e in entries]


@pytest.mark.parametrize("seed", range(3))
def test_a_guest_changes_only_what_is_its_own(bench, seed):
    rng = random.Random(f"{bench.core.name} {seed}")
    maker = WordMaker(bench.core, rng)
    table = bench.oracle.table
    entries = [entry for entry in table if entry.needs <= bench.core.categories]
    prepare(bench)
    cpu, kept = bench.cpu, [row.number for row in rows(bench.core) if "h" in row.access and row.number not in GUESTS]
    bench.write(SPR.LPIDR, OWN)
    before_tlb, canaries = tlb(bench), bytes(bench.oracle.ram[CANARIES])
    left = 0
    for _ in range(WORDS):
        entry = rng.choice(entries)
        word = maker.word(entry)
        cpu.spr[SPR.EPCR] = EPCR.DGTMI | rng.getrandbits(32) & CHOSEN
        cpu.spr[SPR.MSRP] = rng.getrandbits(32) & (MSRP.UCLEP | MSRP.DEP | MSRP.PMMP)
        cpu.spr[SPR.EPLC] = cpu.spr[SPR.EPSC] = EPLC.EGS | OWN << 16
        cpu.spr[SPR.PID] = cpu.exit_reason = cpu.waiting = 0
        for n in range(32):
            cpu.gpr[n] = rng.choice((0, rng.getrandbits(32), 0x2000 + rng.randrange(0x2800)))
        bench.msr(MSR.GS | MSR.ME | rng.getrandbits(32) & (MSR.PR | MSR.FP | MSR.UCLE | MSR.CE | MSR.RI))
        cpu.pc = 0x1000
        before = {n: int(cpu.spr[n]) for n in (*kept, *RENAMED)}
        bench.oracle.execute(word)
        name = f"{entry.name} {word:08x}"
        changed = {n for n, value in before.items() if int(cpu.spr[n]) != value}
        if cpu.msr & MSR.GS:
            assert not changed, f"{name} changed {changed}"
        else:
            left += 1
            assert bench.taken() is not None and not bench.guest_vector(), f"{name} left the guest for {cpu.pc:#x}"
            allowed = MACHINE_CHECK if bench.taken() == 1 else INTERRUPT
            assert changed <= allowed, f"{name} changed {changed - allowed}"
        for context in (SPR.EPLC, SPR.EPSC):
            assert cpu.spr[context] & (EPLC.EGS | EPLC.ELPID) == EPLC.EGS | OWN << 16, name
        assert cpu.doorbells == 0, name
        assert tlb(bench) == before_tlb, name
        assert bytes(bench.oracle.ram[CANARIES]) == canaries, name
    assert WORDS // 20 < left < WORDS
