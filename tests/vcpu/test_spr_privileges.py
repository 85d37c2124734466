"""Who may touch which special-purpose register, and what happens to the others."""

from __future__ import annotations

import pytest

from powervisor.isa import cores
from powervisor.isa.registers import EPCR, ESR, IVOR, MSR, MSRP, SPR
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


@pytest.mark.parametrize(
    "spr",
    [SPR.DEC, SPR.TSR, SPR.TCR, SPR.CSRR0, SPR.IVPR, SPR.IVOR0, SPR.EPCR, SPR.LPIDR, SPR.MAS5, SPR.MAS8, SPR.HID0,
     SPR.L1CSR0, SPR.MMUCSR0, SPR.BUCSR, SPR.MMUCFG, SPR.TLB0CFG, SPR.SVR, SPR.DBCR0, SPR.DBSR, SPR.MCSR, SPR.GSRR0,
     SPR.PWRMGTCR0, SPR.DECAR],
)  # fmt: skip
def test_hypervisor_registers_trap_from_a_guest(bench, spr):
    bench.msr(GUEST)
    assert bench.outcome(f"mfspr r3,{spr}") == IVOR.HYPERVISOR_PRIVILEGE
    assert bench.cpu.spr[SPR.SRR1] & MSR.GS
    assert not bench.cpu.msr & MSR.GS


@pytest.mark.parametrize(
    ("spr", "real"),
    [(SPR.SRR0, SPR.GSRR0), (SPR.SRR1, SPR.GSRR1), (SPR.DEAR, SPR.GDEAR), (SPR.ESR, SPR.GESR),
     (SPR.SPRG0, SPR.GSPRG0), (SPR.SPRG3, SPR.GSPRG3)],
)  # fmt: skip
def test_a_guest_works_on_its_own_copies(bench, spr, real):
    bench.cpu.spr[spr] = 0x40
    bench.msr(GUEST)
    bench.write(spr, 0x80)
    assert bench.read(spr) == 0x80
    assert (bench.cpu.spr[spr], bench.cpu.spr[real]) == (0x40, 0x80)


def test_a_guest_sees_its_own_pir_epr_and_sprg3(bench):
    bench.cpu.spr[SPR.GPIR], bench.cpu.spr[SPR.GEPR], bench.cpu.spr[SPR.GSPRG3] = 5, 6, 7
    bench.msr(GUEST)
    assert [bench.read(spr) for spr in (SPR.PIR, SPR.EPR, SPR.SPRG3U)] == [5, 6, 7]
    assert bench.outcome(f"mtspr {SPR.PIR},r3") == IVOR.HYPERVISOR_PRIVILEGE


def test_a_guest_writes_pid_mas_and_sprg4_directly(bench):
    bench.msr(GUEST)
    for spr, value in ((SPR.PID, 5), (SPR.SPRG4, 6), (SPR.MAS2, 0x7000), (SPR.MAS7, 8)):
        bench.write(spr, value)
        assert bench.cpu.spr[spr] == value
    assert bench.taken() is None


def test_a_guest_cannot_aim_external_pid_accesses_elsewhere(bench):
    bench.cpu.spr[SPR.EPLC] = 0x2003_0000
    bench.msr(GUEST)
    bench.write(SPR.EPLC, 0xC0FF_0007)
    assert bench.cpu.spr[SPR.EPLC] == 0xE003_0007


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


def test_protected_performance_monitor_traps_supervisors_and_reads_zero_for_users(bench):
    bench.do("mtpmr 16,r3", r3=0x55)
    bench.cpu.spr[SPR.MSRP] = MSRP.PMMP
    bench.msr(GUEST)
    assert bench.outcome("mfpmr r3,16") == IVOR.HYPERVISOR_PRIVILEGE
    bench.msr(GUEST | USER)
    assert bench.do("mfpmr r3,0", r3=1) == 0


def test_instructions_of_the_hypervisor_trap_from_a_guest(bench):
    for text in ("rfci", "rfdi", "rfmci", "tlbre", "tlbsx 0,r4", "tlbivax 0,r4", "msgsnd r4", "msgclr r4", "ehpriv 0"):
        bench.msr(GUEST)
        assert bench.outcome(text) == IVOR.HYPERVISOR_PRIVILEGE, text


def test_users_may_not_use_privileged_instructions(bench):
    for text in (
        "rfi", "rfgi", "rfci", "rfdi", "rfmci", "mfmsr r3", "mtmsr r3", "wrtee r3", "wrteei 0", "tlbwe", "tlbre",
        "tlbsx 0,r4", "tlbilx 0,0,r4", "tlbivax 0,r4", "tlbsync", "msgsnd r4", "msgclr r4",
    ):  # fmt: skip
        bench.msr(USER)
        assert bench.outcome(text) == IVOR.PROGRAM, text
        assert bench.cpu.spr[SPR.ESR] == ESR.PPR


def test_guest_tlb_writes_depend_on_dgtmi_and_gtwe(make):
    for core, tlb1_config, dgtmi, trapped in (
        ("e5500", None, 0, True), ("e6500", None, 0, True), ("e6500", 0x4003_8040, 0, False),
        ("e6500", 0x4003_8040, EPCR.DGTMI, True),
    ):  # fmt: skip
        bench = make(core)
        if tlb1_config:
            bench.cpu.spr[SPR.TLB1CFG] = tlb1_config
        bench.cpu.spr[SPR.EPCR] = dgtmi
        bench.cpu.spr[SPR.MAS0] = 0x1000_0000
        bench.msr(GUEST)
        assert (bench.outcome("tlbwe") == IVOR.HYPERVISOR_PRIVILEGE) == trapped, core
        bench.msr(GUEST)
        assert (bench.outcome("tlbilx 0,0,r4") == IVOR.HYPERVISOR_PRIVILEGE) == bool(dgtmi)
