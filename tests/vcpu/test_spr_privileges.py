"""Who may touch which special-purpose register, and what happens to the others."""

from __future__ import annotations

import pytest

from powervisor.isa import cores
from powervisor.isa.registers import ESR, IVOR, MSR, SPR
from powervisor.vcpu.sprs import ROWS, access_table, rows

USER, GUEST = MSR.PR, MSR.GS
SCRATCH = 0x1234_5678


def test_each_number_is_declared_once_a_core():
    for core in cores.CORES.values():
        numbers = [row.number for row in rows(core)]
        assert len(numbers) == len(set(numbers)), core.name


def test_every_register_with_a_number_is_declared_or_known_to_be_absent():
    absent = {
        "BBEAR", "BBTAR",  # e500v2
        "DVC1", "DVC2",  # no value compare
        "TLB2CFG", "TLB3CFG",
    }  # fmt: skip
    families = {"IVOR0", "IVOR32", "IVOR38", "HDBCR0"}
    named = {name for name in vars(SPR) if name.isupper()}
    declared = {row.name for row in ROWS}
    assert named - declared - families == absent


def test_a_user_reaches_the_user_registers(bench):
    bench.msr(USER)
    for spr in (SPR.LR, SPR.CTR, SPR.VRSAVE):
        bench.write(spr, SCRATCH)
        assert bench.read(spr) == SCRATCH
    assert bench.taken() is None


def test_a_user_reads_the_scratch_registers_under_other_numbers(bench):
    for n in range(3, 8):
        bench.write(SPR.SPRG0 + n, 0x100 + n)
    bench.msr(USER)
    for n in range(3, 8):
        assert bench.read(SPR.SPRG3U + n - 3) == 0x100 + n
    assert bench.outcome(f"mtspr {SPR.SPRG4U},r3") == IVOR.PROGRAM


@pytest.mark.parametrize("spr", [SPR.SRR0, SPR.PID, SPR.SPRG0, SPR.MAS1, SPR.HID0, SPR.TSR, SPR.PVR])
def test_a_privileged_register_is_a_privilege_exception_for_users(bench, spr):
    bench.msr(USER)
    assert bench.outcome(f"mfspr r3,{spr}") == IVOR.PROGRAM
    assert bench.cpu.spr[SPR.ESR] == ESR.PPR
    assert bench.cpu.spr[SPR.SRR0] == 0x1000


@pytest.mark.parametrize(
    ("msr", "spr", "syndrome"),
    [(USER, 1000, ESR.PIL), (USER, 1016, ESR.PPR), (0, 1000, ESR.PIL), (0, 1016, ESR.PIL), (GUEST, 1016, ESR.PIL)],
)
def test_undefined_registers_are_illegal_and_privileged_numbers_privileged(bench, msr, spr, syndrome):
    for text in (f"mfspr r3,{spr}", f"mtspr {spr},r3"):
        bench.msr(msr)
        assert bench.outcome(text) == IVOR.PROGRAM
        assert bench.cpu.spr[SPR.ESR] == syndrome


def test_read_only_registers_refuse_writes(bench):
    for spr in (SPR.PVR, SPR.SVR, SPR.MMUCFG, SPR.TLB0CFG, SPR.L1CFG0, SPR.TBL):
        assert bench.outcome(f"mtspr {spr},r3") == IVOR.PROGRAM
        assert bench.cpu.spr[SPR.ESR] == ESR.PIL


def test_registers_of_other_cores_do_not_exist(make):
    for core, spr in (
        ("e500mc", SPR.MAS7_MAS3),
        ("e5500", SPR.TENS),
        ("e5500", SPR.TLB0PS),
        ("e6500", SPR.L2CSR0),
        ("e500mc", SPR.IAC3),
        ("e5500", SPR.IAC4),
        ("e5500", SPR.IAC8),
        ("e500mc", SPR.DBCR5),
        ("e6500", SPR.DVC1),
    ):
        bench = make(core)
        assert bench.outcome(f"mfspr r3,{spr}") == IVOR.PROGRAM, (core, spr)


def test_a_guest_writes_pid_mas_and_sprg4_directly(bench):
    bench.msr(GUEST)
    for spr, value in ((SPR.PID, 5), (SPR.SPRG4, 6), (SPR.MAS2, 0x7000), (SPR.MAS7, 8)):
        bench.write(spr, value)
        assert bench.cpu.spr[spr] == value
    assert bench.taken() is None


def test_privileges_are_the_same_through_the_access_table_of_each_core():
    table = access_table(cores.get("e5500"))
    assert table[SPR.LR] & 3 == 1 and table[SPR.SRR0] & 3 == 2 and table[SPR.HID0] & 3 == 3
    assert table[SPR.TENS] == 0 and access_table(cores.get("e6500"))[SPR.TENS] != 0


# ---- performance monitor registers ---------------------------------------------------------------------------------


def test_performance_monitor_registers_have_read_only_copies_for_users(bench):
    bench.do("mtpmr 16,r3", r3=0x55)
    bench.msr(USER)
    assert bench.do("mfpmr r3,0") == 0x55
    assert bench.outcome("mtpmr 0,r3") == IVOR.PROGRAM
    assert bench.cpu.spr[SPR.ESR] == ESR.PIL
    bench.msr(USER)
    assert bench.outcome("mfpmr r3,16") == IVOR.PROGRAM
    assert bench.cpu.spr[SPR.ESR] == ESR.PPR


def test_the_number_of_counters_is_the_cores(bench):
    for n in range(8):
        bench.msr(0)
        assert (bench.outcome(f"mfpmr r3,{16 + n}") is None) == (n < bench.core.pmcs)
    bench.msr(0)
    assert bench.outcome("mfpmr r3,400") is None
    assert bench.outcome("mfpmr r3,401") == IVOR.PROGRAM


def test_users_may_not_use_privileged_instructions(bench):
    for text in (
        "rfi", "rfgi", "rfci", "rfdi", "rfmci", "mfmsr r3", "mtmsr r3", "wrtee r3", "wrteei 0", "tlbwe", "tlbre",
        "tlbsx 0,r4", "tlbilx 0,0,r4", "tlbivax 0,r4", "tlbsync", "msgsnd r4", "msgclr r4",
    ):  # fmt: skip
        bench.msr(USER)
        assert bench.outcome(text) == IVOR.PROGRAM, text
        assert bench.cpu.spr[SPR.ESR] == ESR.PPR
