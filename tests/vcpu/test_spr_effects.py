"""What reading and writing special registers does beyond storing a value."""

from __future__ import annotations

from powervisor.isa.registers import BUCSR, DBCR0, DBSR, EPCR, L1CSR0, MAS0, MAS1, MCSR, SPR
from powervisor.vcpu.state import ExitReason, Mode


def test_xer_is_kept_in_parts(bench):
    bench.write(SPR.XER, 0xFFFF_FFFF)
    cpu = bench.cpu
    assert (cpu.so, cpu.ov, cpu.ca, cpu.xer_count) == (1, 1, 1, 0x7F)
    assert bench.read(SPR.XER) == 0xE000_007F
    bench.do("mtxer r3", r3=0x2000_0003)
    assert bench.do("mfxer r3") == 0x2000_0003


def test_registers_are_as_wide_as_the_core(make):
    wide = 0xFFFF_FFFF_8000_0010
    for core, seen in (("e500mc", 0x8000_0010), ("e5500", wide)):
        bench = make(core)
        for spr in (SPR.SPRG0, SPR.SRR0, SPR.DEAR, SPR.CSRR0, SPR.SPRG9):
            bench.write(spr, wide)
            assert bench.read(spr) == seen
        bench.write(SPR.SRR1, wide)
        assert bench.read(SPR.SRR1) == 0x8000_0010


def test_fields_that_a_model_lacks_stay_zero(make):
    ones = 0xFFFF_FFFF_FFFF_FFFF
    for core, mas1, pid in (("e500mc", 0xC0FF_1F00, 0xFF), ("e6500", 0xFFFF_3F80, 0x3FFF)):
        bench = make(core)
        bench.write(SPR.MAS1, ones)
        assert bench.read(SPR.MAS1) == mas1
        bench.write(SPR.PID, ones)
        assert bench.read(SPR.PID) == pid
    bench = make("e500mc")
    bench.write(SPR.MAS7, ones)
    assert bench.read(SPR.MAS7) == 0xF
    bench.write(SPR.MAS0, ones)
    assert bench.read(SPR.MAS0) & (MAS0.HES | MAS0.WQ) == 0
    bench.write(SPR.EPCR, ones)
    assert bench.read(SPR.EPCR) & (EPCR.ICM | EPCR.GICM) == 0


def test_vectors_are_aligned(bench):
    bench.write(SPR.IVPR, 0xC012_3456)
    assert bench.read(SPR.IVPR) == 0xC012_0000
    bench.write(SPR.IVOR0 + 15, 0x1_FFFF)
    assert bench.read(SPR.IVOR0 + 15) == 0xFFF0


def test_status_registers_are_cleared_by_ones(bench):
    bench.cpu.spr[SPR.MCSR] = MCSR.MCP | MCSR.NMI
    bench.write(SPR.MCSR, MCSR.MCP)
    assert bench.read(SPR.MCSR) == MCSR.NMI
    bench.cpu.spr[SPR.DBSR] = DBSR.ICMP | DBSR.IAC1
    bench.write(SPR.DBSR, DBSR.IAC1)
    assert bench.read(SPR.DBSR) == DBSR.ICMP
    bench.write(SPR.DBSRWR, DBSR.TRAP)
    assert bench.read(SPR.DBSR) == DBSR.TRAP


def test_command_bits_clear_themselves(bench):
    bench.write(SPR.L1CSR0, L1CSR0.DCE | L1CSR0.DCFI | L1CSR0.CLFC)
    assert bench.read(SPR.L1CSR0) == L1CSR0.DCE
    bench.write(SPR.BUCSR, BUCSR.BPEN | BUCSR.BBFI | BUCSR.STAC_EN)
    assert bench.read(SPR.BUCSR) == BUCSR.BPEN | BUCSR.STAC_EN
    bench.write(SPR.MMUCSR0, 6)
    assert bench.read(SPR.MMUCSR0) == 0


def test_l2_commands_complete(make):
    bench = make("e5500")
    bench.write(SPR.L2CSR0, 0xC020_0C00)
    assert bench.read(SPR.L2CSR0) == 0xC000_0000


def test_mas_pairs_are_two_registers(make):
    bench = make("e6500")
    for spr, high, low in (
        (SPR.MAS5_MAS6, SPR.MAS5, SPR.MAS6), (SPR.MAS8_MAS1, SPR.MAS8, SPR.MAS1),
        (SPR.MAS7_MAS3, SPR.MAS7, SPR.MAS3), (SPR.MAS0_MAS1, SPR.MAS0, SPR.MAS1),
    ):  # fmt: skip
        bench.write(spr, 0x8000_0001_0002_0001)
        assert bench.cpu.spr[high] == 0x8000_0001 & bench.cpu.core.spr_mask[high]
        assert bench.cpu.spr[low] == 0x0002_0001 & bench.cpu.core.spr_mask[low]
        assert bench.read(spr) == int(bench.cpu.spr[high]) << 32 | int(bench.cpu.spr[low])
    bench.write(SPR.MAS0_MAS1, MAS0.TLBSEL << 32 | MAS1.V)
    assert bench.read(SPR.MAS1) == MAS1.V


def test_pid_and_lpid_choose_the_soft_tlb(bench):
    first = int(bench.cpu.context)
    bench.write(SPR.PID, 3)
    second = int(bench.cpu.context)
    bench.write(SPR.LPIDR, 2)
    third = int(bench.cpu.context)
    assert len({first, second, third}) == 3
    bench.write(SPR.LPIDR, 0)
    bench.write(SPR.PID, 0)
    assert bench.cpu.context == first


def test_writing_dbcr0_rst_asks_for_a_reset(bench):
    bench.write(SPR.DBCR0, 0x2000_0000 | DBCR0.ICMP)
    cpu = bench.cpu
    assert (cpu.exit_reason, cpu.exit_detail) == (ExitReason.RESET, 2)
    assert bench.cpu.pc == 0x1004  # the instruction is complete


def test_reset_values_are_the_models(bench):
    assert bench.read(SPR.PVR) == bench.core.pvr
    assert bench.read(SPR.PIR) == 0
    assert bench.read(SPR.L1CFG0) & 0x7FF == 32
    assert bench.read(SPR.L1CFG0) >> 23 & 3 == 1  # 64-byte lines
    assert bench.cpu.mode == 0 | (Mode.FP if bench.cpu.msr & 0x2000 else 0)
