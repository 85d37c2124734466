"""Fixed-point, CR and branch instructions: the oracle against QEMU's user mode, boundary values and random ones."""

from __future__ import annotations

import random

import pytest

from powervisor.insns import TABLE
from powervisor.isa import cores
from powervisor.isa.insn import Insn
from tests.support.oracle_user import differences, run_oracle
from tests.support.qemu_user import Case, QemuUser, State, available

FAMILIES = ("fixed", "logical", "compare", "rotate", "condition", "branch")
CORES = ("e500mc", "e5500", "e6500")
NOT_IN_QEMU = ("cmpb", "prtyw", "prtyd")  # of its e6500
NOP = 0x6000_0000

BOUNDARY = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFE,
    0xFFFF_FFFF, 0x1_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0x8000_0000_0000_0001,
    0xFFFF_FFFF_7FFF_FFFF, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FFFF_FFFF,
)  # fmt: skip
REGISTERS = (0, 1, 3, 4, 5, 6, 12, 30)


def some_value(rng: random.Random) -> int:
    how = rng.randrange(4)
    if how < 2:
        return rng.choice(BOUNDARY)
    if how == 2:
        return rng.getrandbits(6) + rng.choice((0, 1 << 32, 64, 1 << 63))
    return rng.getrandbits(64)


def some_state(rng: random.Random) -> State:
    state = State()
    for n in REGISTERS:
        state.gpr[n] = some_value(rng)
    state.cr, state.ctr = rng.getrandbits(32), rng.choice((0, 1, 2, 1 << 32, (1 << 32) + 1, rng.getrandbits(64)))
    state.xer = rng.getrandbits(3) << 29 | rng.getrandbits(7)
    return state


def some_word(entry: Insn, rng: random.Random) -> int:
    values = {}
    for name, where in entry.fields.items():
        if name in ("rt", "ra", "rb", "rs"):
            values[name] = rng.choice(REGISTERS)
        elif where.signed:
            edges = (-1 << where.width - 1, -1, 0, 1, (1 << where.width - 1) - 1)
            values[name] = rng.choice((*edges, rng.getrandbits(where.width) - (1 << where.width - 1))) << where.scale
        elif name == "fxm":
            values[name] = 0x80 >> rng.randrange(8)
        else:
            values[name] = rng.choice((0, (1 << where.width) - 1, rng.getrandbits(where.width)))
    return entry.encode(**values)


def some_branch(entry: Insn, rng: random.Random, address: int) -> Case:
    """A branch over one of two additions, so that r3 tells where it went."""
    state = some_state(rng)
    values = {"lk": rng.getrandbits(1)}
    if "bo" in entry.fields:
        values["bo"] = rng.choice([bo for bo in range(32) if entry.name != "bcctr" or bo & 4])
        values["bi"] = rng.getrandbits(5)
    if "bh" in entry.fields:
        target = address + 8 | rng.getrandbits(2)
        if entry.name == "bcctr":
            state.ctr = target
        else:
            state.lr = target
    else:
        values["li" if "li" in entry.fields else "bd"] = 8
        if entry.name == "b" and rng.getrandbits(1):
            values["aa"], values["li"] = 1, address + 8
    return Case([entry.encode(**values), 0x3863_0001, 0x3863_0010], state)  # addi r3,r3,1; addi r3,r3,16


def check(core: str, qemu_cpu: str, cases: list[tuple[Insn, Case]]) -> None:
    """Oracle and QEMU agree on every case, in the mode of QEMU's CPU."""
    if not available(qemu_cpu):
        pytest.skip("qemu-user is not installed")
    bits = cores.get(qemu_cpu).bits if qemu_cpu in cores.CORES else 64
    for (entry, case), wanted in zip(cases, QemuUser(qemu_cpu).run(case for _, case in cases), strict=True):
        problems = differences(run_oracle(core, case, wanted.address, bits == 64), wanted, bits)
        registers = {n: hex(v) for n, v in enumerate(case.before.gpr) if v}
        assert not problems, f"{entry.name} {case.words[0]:#010x} {registers} xer={case.before.xer:#x}: {problems}"


def entries(core: str) -> list[Insn]:
    table = TABLE.for_core(cores.get(core).categories)
    return [entry for entry in table if entry.group in FAMILIES]


def straight(core: str, seed: int, count: int) -> None:
    rng = random.Random(seed)
    chosen = [e for e in entries(core) if e.group != "branch" and "to" not in e.fields and e.name not in NOT_IN_QEMU]
    assert len(chosen) > 60
    check(core, core, [(e, Case([some_word(e, rng)], some_state(rng))) for e in chosen for _ in range(count)])


@pytest.mark.parametrize("core", CORES)
def test_integer_results_and_flags_are_as_in_qemu(core: str) -> None:
    straight(core, 1, 12)


def test_a_64_bit_core_in_32_bit_mode_computes_as_a_32_bit_core() -> None:
    rng = random.Random(6)
    chosen = [e for e in entries("e500mc") if e.group != "branch" and "to" not in e.fields]
    check("e6500", "e500mc", [(e, Case([some_word(e, rng)], some_state(rng))) for e in chosen for _ in range(12)])


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_many_more_integer_results_and_flags_are_as_in_qemu(core: str) -> None:
    straight(core, 2, 300)


def test_instructions_qemu_lacks_on_the_e6500_are_as_on_power7() -> None:
    rng = random.Random(3)
    cases = [(e, Case([some_word(e, rng)], some_state(rng))) for e in entries("e6500") if e.name in NOT_IN_QEMU
             for _ in range(100)]  # fmt: skip
    assert len(cases) == 100 * len(NOT_IN_QEMU)
    check("e6500", "power7", cases)


@pytest.mark.parametrize("core", ["e500mc", "e5500"])
def test_traps_trap_when_qemus_do(core: str) -> None:
    rng = random.Random(4)
    traps = [entry for entry in entries(core) if "to" in entry.fields]
    check(core, core, [(e, Case([some_word(e, rng)], some_state(rng))) for e in traps for _ in range(20)])


@pytest.mark.parametrize("core", ["e500mc", "e5500"])
def test_branches_go_where_qemus_go(core: str) -> None:
    rng = random.Random(5)
    chosen = [entry for entry in entries(core) if entry.group == "branch"]
    assert [entry.name for entry in chosen] == ["b", "bc", "bclr", "bcctr"]
    # Where a case's words stand follows from the words before it: find out with a first run of as many words.
    kinds = [entry for entry in chosen for _ in range(200)]
    plain = QemuUser(core).run([Case([NOP] * 3, State())] * len(kinds)) if available(core) else []
    check(core, core, [(e, some_branch(e, rng, at.address)) for e, at in zip(kinds, plain, strict=False)])


def test_decrementing_bcctr_is_illegal() -> None:
    check("e5500", "e5500", [(e, Case([e.encode(bo=16)], State())) for e in entries("e5500") if e.name == "bcctr"])
