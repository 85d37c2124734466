"""Floating-point loads and stores: formats, address forms, and the three ways to run them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from powervisor.isa.insn import Insn
from powervisor.isa.registers import IVOR, SPR
from powervisor.vcpu.modes import update_mode
from tests.support.fpvalues import DOUBLES, SINGLE_BITS, SINGLES, random_double, random_single
from tests.support.oracle_user import differences, oracle, run_oracle, user_msr
from tests.support.qemu_user import BUFFER, Case, QemuUser, State, available

from .programs import STORAGE, fast_paths, handlers

NAMES = [entry.name for entry in STORAGE]


def tiny(bits: int) -> bool:
    """A non-zero double below every single, for which stfs is undefined."""
    return 0 < bits & ~(1 << 63) < 0x36A << 52


def cases(entry: Insn, rng: random.Random) -> Iterator[Case]:
    """Boundary values through one instruction, and random ones; every address form."""
    values = [*DOUBLES, *SINGLES, *(random_double(rng) for _ in range(40)), *(random_single(rng) for _ in range(40))]
    for number, value in enumerate(values):
        if entry.name.startswith("stfs") and tiny(value):
            continue
        before, offset = State(), rng.randrange(0, 256)
        before.memory[:] = rng.randbytes(512)
        word = SINGLE_BITS[number % len(SINGLE_BITS)]
        before.memory[offset : offset + 8] = (
            word.to_bytes(4, "big") + bytes(4) if entry.name.startswith("lfs") else value.to_bytes(8, "big")
        )
        before.fpr = [random_double(rng) for _ in range(32)]
        before.fpr[7] = value
        displacement = rng.randrange(-0x4000, 0x4000)
        fields = {"frt" if "frt" in entry.fields else "frs": 7, "ra": 9}
        if "d" in entry.fields:
            fields["d"], before.gpr[9] = displacement, BUFFER + offset - displacement
        else:
            fields["rb"], before.gpr[9], before.gpr[10] = 10, displacement, BUFFER + offset - displacement
            if not entry.name.endswith("ux") and rng.randrange(3) == 0:
                fields["ra"], before.gpr[10] = 0, BUFFER + offset
        before.gpr = [value & (1 << 64) - 1 for value in before.gpr]
        yield Case([entry.encode(**fields)], before)


@pytest.mark.parametrize("core", ["e500mc", "e5500"])
@pytest.mark.parametrize("entry", STORAGE, ids=NAMES)
def test_against_qemu(entry: Insn, core: str) -> None:
    if not available(core):
        pytest.skip("qemu-user is not installed")
    bits = 32 if core == "e500mc" else 64
    given = list(cases(entry, random.Random(entry.name)))
    for case, wanted in zip(given, QemuUser(core).run(given), strict=True):
        rows = differences(run_oracle(core, case, wanted.address), wanted, bits)
        assert not rows, f"{entry.name} {case.words[0]:#x} f7={case.before.fpr[7]:#x}: {rows}"


@pytest.mark.parametrize("entry", STORAGE, ids=NAMES)
def test_compiled_and_fast_paths_do_what_python_does(entry: Insn) -> None:
    machine = oracle("e5500", True)
    cpu = machine.cpu
    left = 0
    for case in cases(entry, random.Random(entry.name)):
        fields = entry.operands(case.words[0]).values()
        outcomes = []
        wanted = run_oracle("e5500", case)
        assert wanted.after is not None
        for program in (handlers(), fast_paths()):
            for n in range(32):
                cpu.gpr[n], cpu.fpr[n] = case.before.gpr[n], case.before.fpr[n]
            machine.ram[BUFFER : BUFFER + 512] = bytes(case.before.memory)
            cpu.msr = user_msr("e5500", True)
            update_mode(cpu)
            if program.run(entry.function, cpu, *(int(f) for f in fields)) and program is fast_paths():
                left += 1
                handlers().run(entry.function, cpu, *(int(f) for f in fields))
            outcomes.append(
                ([int(cpu.fpr[n]) for n in range(32)], [int(cpu.gpr[n]) for n in range(31)],
                 machine.ram[BUFFER : BUFFER + 512])
            )  # fmt: skip
        expected = wanted.after.fpr, wanted.after.gpr[:31], bytes(wanted.after.memory)
        assert outcomes == [expected, expected], f"{entry.name} {case.words[0]:#x} f7={case.before.fpr[7]:#x}"
    assert left < 60  # NaNs through lfs, denormals through stfs


@pytest.mark.parametrize("entry", [e for e in STORAGE if "u" in e.name[3:]], ids=lambda e: e.name)
def test_update_forms_that_fault_change_nothing(entry: Insn) -> None:
    machine = oracle("e5500", True)
    cpu = machine.cpu
    cpu.msr = user_msr("e5500", True)
    update_mode(cpu)
    cpu.pc = 0x1000
    cpu.gpr[9], cpu.gpr[10], cpu.fpr[7] = 0x5000_0000, 0x10, 0x1234
    fields = {"frt": 7, "frs": 7, "ra": 9, "rb": 10}
    machine.execute(entry.encode(**{name: value for name, value in fields.items() if name in entry.fields}))
    assert cpu.pc & 0xFFFF == IVOR.DATA_TLB << 4 and cpu.spr[SPR.SRR0] == 0x1000
    assert cpu.gpr[9] == 0x5000_0000 and cpu.fpr[7] == 0x1234
