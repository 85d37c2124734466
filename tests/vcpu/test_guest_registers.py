"""Registers and privileged instructions of a guest: what is its own, what is renamed, what traps to the hypervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from powervisor.insns import assemble
from powervisor.isa.cores import Core
from powervisor.isa.registers import EPCR, EPLC, ESR, IVOR, MAS5, MAS8, MSR, MSRP, SPR
from powervisor.vcpu.sprs import ROWS, rows

ONES = (1 << 64) - 1
HYPERVISORS = (
    "CSRR0 CSRR1 MCSRR0 MCSRR1 DSRR0 DSRR1 IVPR MCSR MCAR MCARU SPRG8 SVR DEC DECAR TSR TCR DBSR DBCR0 DBCR1 DBCR2 "
    "DBCR4 IAC1 IAC2 DAC1 DAC2 MAS5 MAS8 MMUCFG TLB0CFG TLB1CFG MMUCSR0 EPCR MSRP LPIDR HACOP GIVPR HID0 HID1 L1CSR0 "
    "L1CSR1 L1CSR2 L1CSR3 BUCSR PWRMGTCR0 GIVOR2 GIVOR3 GIVOR4 GIVOR8 GIVOR13 GIVOR14 "
    + " ".join([*(f"IVOR{n}" for n in (*range(16), *range(35, 42))), *(f"HDBCR{n}" for n in range(7))])
)  # fmt: skip
MORE = {
    "e500mc": "L2CSR0 L2CSR1",
    "e5500": "L2CSR0 L2CSR1 MAS5_MAS6 MAS8_MAS1",
    "e6500": "MAS5_MAS6 MAS8_MAS1 TLB0PS TLB1PS EPTCFG LRATCFG LRATPS LPER LPERU TIR TENSR TENS TENC IVOR32 IVOR33 "
    "IVOR42 DBCR5 IAC3 IAC4 IAC5 IAC6 IAC7 IAC8 DBRR0 EDBRAC0",
}
READ_ONLY = frozenset("MCAR MCARU SVR MMUCFG TLB0CFG TLB1CFG TLB0PS TLB1PS EPTCFG LRATCFG LRATPS TIR TENSR".split())
ONLY_HYPERVISOR_WRITES = "PIR GPIR GEPR TBL_WRITE TBU_WRITE DBSRWR"
GUESTS = (
    "SRR0 SRR1 DEAR ESR SPRG0 SPRG1 SPRG2 SPRG3 SPRG4 SPRG5 SPRG6 SPRG7 SPRG9 GSRR0 GSRR1 GDEAR GESR GSPRG0 GSPRG1 "
    "GSPRG2 GSPRG3 PID MAS0 MAS1 MAS2 MAS3 MAS4 MAS6 MAS7 EPLC EPSC LR CTR XER VRSAVE"
)
GUEST_READS = "PIR EPR GPIR GEPR PVR TBL TBU ATBL ATBU SPRG3U SPRG4U SPRG5U SPRG6U SPRG7U L1CFG0 L1CFG1"
RENAMED = {
    "SRR0": "GSRR0", "SRR1": "GSRR1", "DEAR": "GDEAR", "ESR": "GESR", "SPRG0": "GSPRG0", "SPRG1": "GSPRG1",
    "SPRG2": "GSPRG2", "SPRG3": "GSPRG3",
}  # fmt: skip
RENAMED_READS = {"PIR": "GPIR", "EPR": "GEPR", "SPRG3U": "GSPRG3"}
NUMBERS = {row.name: row.number for row in ROWS}


def outcomes(bench: Any, text: str) -> dict[str, int | None]:
    """The interrupt of an instruction in the four states."""
    seen = {}
    for state, msr in (("hypervisor", 0), ("guest", MSR.GS), ("user", MSR.PR), ("guest's user", MSR.GS | MSR.PR)):
        bench.msr(msr)
        bench.cpu.spr[SPR.ESR] = 0
        seen[state] = bench.outcome(text)
        bench.cpu.exit_reason = 0
        if msr & MSR.PR:
            assert bench.cpu.spr[SPR.ESR] == ESR.PPR, (text, state)
    return seen


def test_the_hypervisors_registers_trap_from_its_guests(both):
    trapped = {"guest": IVOR.HYPERVISOR_PRIVILEGE, "user": IVOR.PROGRAM, "guest's user": IVOR.PROGRAM}
    names = [*HYPERVISORS.split(), *MORE[both.core.name].split()]
    for name in names:
        found = outcomes(both, f"mfspr r3,{NUMBERS[name]}")
        assert found == {"hypervisor": None, **trapped}, name
    for name in [*names, *ONLY_HYPERVISOR_WRITES.split()]:
        if name in READ_ONLY:
            continue
        both.reset()
        both.cpu.gpr[3] = both.cpu.spr[NUMBERS[name]]
        found = outcomes(both, f"mtspr {NUMBERS[name]},r3")
        assert found == {"hypervisor": None, **trapped}, name
        both.msr(MSR.GS)
        assert both.outcome(f"mtspr {NUMBERS[name]},r3") == IVOR.HYPERVISOR_PRIVILEGE
        assert [int(both.cpu.spr[n]) for n in (SPR.SRR0, SPR.SRR1)] == [0x1000, MSR.GS], name


def test_every_register_is_the_hypervisors_or_the_guests(make):
    """The tables here name all registers that a guest could reach, on each core."""
    told = {*GUESTS.split(), *GUEST_READS.split(), *ONLY_HYPERVISOR_WRITES.split(), *HYPERVISORS.split()}
    rest = {"CDCSR0", "NSPD", "NSPC", "NPIDR", "DDAM", "DEVENT", "L2CFG0", "MAS7_MAS3", "MAS0_MAS1"}
    for core, more in MORE.items():
        names = {row.name for row in rows(make(core).core)}
        assert {n for n in names - told - rest - set(more.split()) if not n.startswith(("L2ERR", "L2CAPT"))} == set()


def test_a_guests_registers_are_reached_without_the_hypervisor(both):
    both.msr(MSR.GS)
    for name in GUESTS.split():
        assert both.outcome(f"mtspr {NUMBERS[name]},r3", r3=0) is None, name
    for name in (*GUESTS.split(), *GUEST_READS.split()):
        assert both.outcome(f"mfspr r3,{NUMBERS[name]}") is None, name
    assert both.cpu.msr == MSR.GS


@pytest.mark.parametrize("name", RENAMED)
def test_a_guest_means_its_own_register_by_the_name_of_the_hypervisors(both, name):
    hypervisors, guests = NUMBERS[name], NUMBERS[RENAMED[name]]
    both.write(hypervisors, 0x40)
    both.write(guests, 0x80)
    both.msr(MSR.GS)
    assert (both.read(hypervisors), both.read(guests)) == (0x80, 0x80)
    both.write(hypervisors, 0x100)
    assert both.read(guests) == 0x100
    both.write(guests, 0x200)
    both.msr(0)
    assert (both.read(hypervisors), both.read(guests)) == (0x40, 0x200)


@pytest.mark.parametrize("name", RENAMED_READS)
def test_a_guest_reads_what_the_hypervisor_lets_it_see(both, name):
    both.write(NUMBERS[RENAMED_READS[name]], 0x77)
    before = both.read(NUMBERS[name])
    assert before != 0x77
    for msr in (MSR.GS, *([MSR.GS | MSR.PR] if name == "SPRG3U" else [])):
        both.msr(msr)
        assert both.read(NUMBERS[name]) == 0x77
    both.msr(0)
    assert both.read(NUMBERS[name]) == before


# ---- bits ----------------------------------------------------------------------------------------------------------

EPCR32 = (
    EPCR.EXTGS | EPCR.DTLBGS | EPCR.ITLBGS | EPCR.DSIGS | EPCR.ISIGS | EPCR.DUVD | EPCR.DGTMI | EPCR.DMIUH
)  # fmt: skip
LPIDS = 0x3F  # MMUCFG[LPIDSIZE] is 6
BITS: dict[str, Callable[[Core], int]] = {
    # what all ones leave in a register, by core
    "EPCR": lambda core: EPCR32 | (EPCR.ICM | EPCR.GICM if core.bits == 64 else 0),
    "MSRP": lambda core: MSRP.UCLEP | MSRP.DEP | MSRP.PMMP,
    "LPIDR": lambda core: LPIDS,
    "MAS5": lambda core: MAS5.SGS | LPIDS,
    "MAS8": lambda core: MAS8.TGS | MAS8.VF | LPIDS,
    "EPLC": lambda core: EPLC.EPR | EPLC.EAS | EPLC.EGS | LPIDS << 16 | (1 << core.pid_bits) - 1,
    "EPSC": lambda core: EPLC.EPR | EPLC.EAS | EPLC.EGS | LPIDS << 16 | (1 << core.pid_bits) - 1,
    "GIVPR": lambda core: (1 << core.bits) - 0x10000,
    "IVPR": lambda core: (1 << core.bits) - 0x10000,
    "GIVOR2": lambda core: 0xFFF0, "GIVOR14": lambda core: 0xFFF0, "IVOR41": lambda core: 0xFFF0,
    "GSRR0": lambda core: (1 << core.bits) - 4,
    "GSRR1": lambda core: 0xFFFF_FFFF,
    "GSPRG2": lambda core: (1 << core.bits) - 1,
    "GDEAR": lambda core: (1 << core.bits) - 1,
    "GESR": lambda core: 0xFFFF_FFFF,
    "GPIR": lambda core: 0xFFFF_FFFF,
}  # fmt: skip


@pytest.mark.parametrize("name", BITS)
def test_reserved_bits_stay_zero(both, name):
    number = NUMBERS[name]
    both.write(number, ONES)
    assert both.read(number) == BITS[name](both.core)
    both.write(number, 0)
    assert both.read(number) == 0


def test_every_register_takes_any_value(both, make):
    """No value of any register is too much for the product; the oracle says what is left of it."""
    oracle = make(both.core.name)
    left_out = {SPR.TENC, SPR.DBCR0}  # stop the vCPU, enable debug events
    for row in rows(both.core):
        if "h" not in row.access or row.access[1] == "-" or row.number in left_out:
            continue
        for value in (ONES, 0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA, 0):
            seen = []
            for bench in (both, oracle):
                bench.cpu.pc = 0x1000
                bench.write(row.number, value)
                bench.cpu.exit_reason = bench.cpu.waiting = 0
                seen.append((bench.taken(), bench.read(row.number) if row.access[0] != "-" else None))
            assert seen[0] == seen[1], (row.name, hex(value))


def test_a_guest_aims_external_pid_accesses_at_its_own_partition_only(both):
    for number in (SPR.EPLC, SPR.EPSC):
        both.write(number, EPLC.EGS | 5 << 16)
        both.msr(MSR.GS)
        both.write(number, EPLC.EPR | EPLC.EAS | 9 << 16 | 7)
        both.msr(0)
        assert both.read(number) == EPLC.EPR | EPLC.EAS | EPLC.EGS | 5 << 16 | 7


# ---- instructions --------------------------------------------------------------------------------------------------

HYPERVISOR_INSTRUCTIONS = (
    "rfci", "rfdi", "rfmci", "tlbre", "tlbsx 0,r4", "tlbivax 0,r4", "tlbsync", "msgsnd r4", "msgclr r4",
)  # fmt: skip
GUEST_INSTRUCTIONS = ("rfi", "rfgi", "mfmsr r3", "mtmsr r3", "wrtee r3", "wrteei 0")


def test_the_hypervisors_instructions_trap_from_its_guests(both):
    more = ("mftmr r3,16", "mttmr 288,r3") if both.core.name == "e6500" else ()
    for text in (*HYPERVISOR_INSTRUCTIONS, *more):
        both.reset()
        both.cpu.gpr[4] = 31 << 27  # a message of no type
        assert outcomes(both, text) == {
            "hypervisor": None, "guest": IVOR.HYPERVISOR_PRIVILEGE, "user": IVOR.PROGRAM, "guest's user": IVOR.PROGRAM,
        }, text  # fmt: skip


def test_a_guests_supervisor_has_its_own_privileged_instructions(both):
    for text in GUEST_INSTRUCTIONS:
        both.reset()
        both.cpu.gpr[3] = 0
        assert outcomes(both, text) == {
            "hypervisor": None, "guest": None, "user": IVOR.PROGRAM, "guest's user": IVOR.PROGRAM,
        }, text  # fmt: skip


@pytest.mark.parametrize("msr", [0, MSR.PR, MSR.GS, MSR.GS | MSR.PR])
@pytest.mark.parametrize(
    ("text", "number", "pc"),
    [("sc 1", IVOR.HYPERVISOR_SYSTEM_CALL, 0x1004), ("ehpriv 0", IVOR.HYPERVISOR_PRIVILEGE, 0x1000)],
)
def test_the_hypervisor_is_called_from_every_state(both, msr, text, number, pc):
    both.msr(msr)
    assert both.outcome(text) == number and not both.guest_vector()
    assert [int(both.cpu.spr[n]) for n in (SPR.SRR0, SPR.SRR1)] == [pc, msr]


def test_ehpriv_carries_its_operand():
    assert [assemble(f"ehpriv {oc}") for oc in (0, 1, 0x7FFF)] == [0x7C00_021C, 0x7C00_0A1C, 0x7FFF_FA1C]


@pytest.mark.parametrize("text", ["rfi", "rfgi"])
def test_a_guest_returns_from_its_own_interrupts_only(both, text):
    for pair, pc in (((SPR.SRR0, SPR.SRR1), 0x4000), ((SPR.GSRR0, SPR.GSRR1), 0x3000)):
        both.cpu.spr[pair[0]], both.cpu.spr[pair[1]] = pc, MSR.RI
    both.msr(MSR.GS)
    both.do(text)
    assert (both.cpu.pc, both.cpu.msr) == (0x3000, MSR.GS | MSR.RI)


def test_rfgi_of_the_hypervisor_enters_the_guest_that_gsrr1_describes(both):
    both.cpu.spr[SPR.GSRR0], both.cpu.spr[SPR.GSRR1] = 0x3000, MSR.GS | MSR.UCLE | MSR.PMM | MSR.DE
    both.cpu.spr[SPR.MSRP] = MSRP.UCLEP | MSRP.PMMP | MSRP.DEP
    both.do("rfgi")
    assert (both.cpu.pc, both.cpu.msr) == (0x3000, MSR.GS | MSR.UCLE | MSR.PMM | MSR.DE)
