"""A guest whose interrupt vectors raise interrupts for ever does not keep its hypervisor's timer away."""

from __future__ import annotations

import threading

import pytest

from powervisor.isa.registers import EPCR, IVOR, MAS1, MAS3, MAS8, MSR, SPR, TCR, TSR
from powervisor.vcpu.state import ExitReason, Request
from tests.support.native_bench import NativeBench

VECTOR = 0x7100_0000
INSTRUCTIONS = 200_000


def storm(bench: NativeBench, words: dict[int, int]) -> None:
    """A guest whose vectors' page has some words; none: it is not mapped."""
    cpu = bench.cpu
    bench.engine.flush()
    cpu.spr[SPR.EPCR], cpu.spr[SPR.GIVPR] = EPCR.DTLBGS | EPCR.ITLBGS | EPCR.DSIGS | EPCR.ISIGS, VECTOR
    if words:
        entry = cpu.tlb.tlb1[0]
        entry.ea, entry.pa, entry.mask, entry.mas1 = VECTOR, 0x1_0000, 0xFFFF, MAS1.V | 6 << 7
        entry.mas3, entry.mas8, entry.valid, cpu.tlb.tlb1_used = MAS3.SX | MAS3.SR, MAS8.TGS, 1, 1
    for offset, word in words.items():
        bench.oracle.ram[0x1_0000 + offset : 0x1_0000 + offset + 4] = word.to_bytes(4, "big")
    bench.msr(MSR.GS)
    cpu.pc = VECTOR


STORMS = {
    "nothing is mapped": {},
    "the data TLB's vector loads from nowhere": {0: 0x8060_0000, 0x8D00: 0x8060_0000},
    "the vector of system calls is one": {0: 0x4400_0002, 0x8800: 0x4400_0002},
}


@pytest.mark.parametrize("name", STORMS)
def test_a_guest_that_only_interrupts_itself_spends_its_time(native, name):
    storm(native, STORMS[name])
    cpu = native.cpu
    over = threading.Timer(10, lambda: setattr(cpu, "requests", Request.KICK))
    over.start()
    native.run(INSTRUCTIONS)
    over.cancel()
    assert cpu.exit_reason != ExitReason.KICK and cpu.executed == INSTRUCTIONS
    cpu.spr[SPR.TCR], cpu.spr[SPR.TSR] = TCR.DIE, TSR.DIS
    native.poll()
    assert native.taken() == IVOR.DECREMENTER and not cpu.msr & MSR.GS
