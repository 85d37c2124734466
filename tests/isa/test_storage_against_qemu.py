"""Integer loads, stores, multiples, strings and reservations: oracle and native code against QEMU's user mode."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from powervisor.insns import TABLE
from powervisor.isa import cores
from powervisor.isa.insn import Insn
from tests.support.native_user import native
from tests.support.oracle_user import differences, run_oracle
from tests.support.qemu_user import AREA, BUFFER, BUFFER_SIZE, Case, QemuUser, State, available

CORES = ("e500mc", "e5500", "e6500")
WIDTHS = {"b": 1, "h": 2, "w": 4, "d": 8}
NOT_IN_QEMU = ("ldbrx", "stdbrx")  # of its e5500 and e6500
REGISTERS = range(31)  # r31 is the driver's
MASK = (1 << 64) - 1


def entries(core: str, group: str) -> list[Insn]:
    """A family on a core; QEMU has no decorated storage."""
    table = TABLE.for_core(cores.get(core).categories)
    return [e for e in table if e.group == group and (group != "atomic" or "ar" in e.name or "cx" in e.name)]


def some_state(rng: random.Random) -> State:
    """Registers and memory at random."""
    state = State()
    state.gpr = [rng.getrandbits(64) for _ in range(32)]
    state.memory = bytearray(rng.randbytes(BUFFER_SIZE))
    state.cr, state.xer = rng.getrandbits(32), rng.getrandbits(3) << 29
    return state


def aim(entry: Insn, rng: random.Random, state: State, target: int, taken: set[int]) -> dict[str, int]:
    """Fields that make an instruction's address `target`, in registers outside `taken`, whose values are set."""
    free = [n for n in REGISTERS if n and n not in taken]
    ra, rb = rng.sample(free, 2)
    if "d" in entry.fields:
        where = entry.fields["d"]
        edge = 1 << where.width - 1
        d = rng.choice((-edge, edge - 1, 0, 1, rng.randrange(-edge, edge))) << where.scale
        state.gpr[ra] = (target - d) & MASK
        return {"ra": ra, "d": d}
    if "rb" not in entry.fields:
        state.gpr[ra] = target
        return {"ra": ra}
    if not entry.name.endswith("ux") and rng.randrange(4) == 0:
        state.gpr[rb] = target
        return {"ra": 0, "rb": rb}
    state.gpr[rb] = (target - state.gpr[ra]) & MASK
    return {"ra": ra, "rb": rb}


def access(entry: Insn, rng: random.Random) -> Case:
    """One load or store anywhere in the buffer, aligned or not."""
    state = some_state(rng)
    width = next(WIDTHS[letter] for letter in entry.name.removeprefix("st").removeprefix("l") if letter in WIDTHS)
    data = rng.choice(REGISTERS)
    target = BUFFER + rng.randrange(BUFFER_SIZE - width + 1)
    load = "rt" in entry.fields
    fields = aim(entry, rng, state, target, {data} if load or rng.random() < 0.8 else set())
    return Case([entry.encode(**fields, **{"rt" if load else "rs": data})], state)


def multiple(entry: Insn, rng: random.Random) -> Case:
    """lmw and stmw, whose last register is always r31: a load finds there what the driver keeps in it."""
    state = some_state(rng)
    first = rng.randrange(1, 32)
    size = 4 * (32 - first)
    offset = rng.randrange((BUFFER_SIZE - size) // 4 + 1) * 4
    load = "rt" in entry.fields
    if load:
        first = max(first, 5)  # registers below hold the address
        state.memory[offset + 4 * (31 - first) : offset + 4 * (32 - first)] = AREA.to_bytes(4, "big")
        taken = set(range(first, 32))
    else:
        taken = set()
    fields = aim(entry, rng, state, BUFFER + offset, taken)
    return Case([entry.encode(**fields, **{"rt" if load else "rs": first})], state)


def string(entry: Insn, rng: random.Random) -> Case:
    """Loads and stores of 0 to 127 bytes; a load must spare r31 and its own address."""
    state = some_state(rng)
    load = "rt" in entry.fields
    count = rng.randrange(1, 33) if "nb" in entry.fields else rng.choice((0, 1, 3, 4, 5, rng.randrange(100)))
    span = -(-count // 4)
    first = rng.randrange(31 - span + 1) if load else rng.randrange(32)
    taken = set(range(first, first + max(span, 1))) if load else set()
    target = BUFFER + rng.randrange(BUFFER_SIZE - count + 1)
    state.xer |= count if "nb" not in entry.fields else rng.getrandbits(7)
    fields = aim(entry, rng, state, target, taken)
    if "nb" in entry.fields:
        fields["nb"] = count & 31
    return Case([entry.encode(**fields, **{"rt" if load else "rs": first})], state)


def reservation(pair: tuple[Insn, Insn], rng: random.Random) -> Case:
    """A conditional store after its load, after another one's, or alone; the third instruction finds it used up."""
    load, store = pair
    state = some_state(rng)
    width = WIDTHS[load.name[1]]
    address, data, result = rng.sample([n for n in REGISTERS if n], 3)
    state.gpr[address] = BUFFER + rng.randrange(BUFFER_SIZE // 8 - 1) * 8 + rng.choice([0, *range(0, 8, width)])
    reserve = load.encode(rt=result, ra=0, rb=address)
    write = store.encode(rs=data, ra=0, rb=address)
    again = store.encode(rs=result, ra=0, rb=address)
    return Case(rng.choice(([reserve, write], [write], [reserve, write, again], [reserve, reserve, write])), state)


def pairs(core: str) -> Iterator[tuple[Insn, Insn]]:
    """Load and reserve with the conditional store of its width."""
    table = {entry.name: entry for entry in entries(core, "atomic")}
    for letter in WIDTHS:
        if f"l{letter}arx" in table:
            yield table[f"l{letter}arx"], table[f"st{letter}cx_dot"]


def check(core: str, qemu_cpu: str, cases: list[tuple[str, Case]]) -> None:
    """Oracle, native code and QEMU agree on every case, in the mode of QEMU's CPU."""
    if not available(qemu_cpu):
        pytest.skip("qemu-user is not installed")
    qemu = QemuUser(qemu_cpu)
    bits = 64 if qemu.wide else 32
    for number, ((name, case), wanted) in enumerate(zip(cases, qemu.run(case for _, case in cases), strict=True)):
        what = f"{name} {' '.join(f'{word:#010x}' for word in case.words)}"
        cold = number % 3 == 0
        for side, got in (
            ("oracle", run_oracle(core, case, wanted.address, qemu.wide)),
            ("native", native(core).run(case, wanted.address, qemu.wide, cold)),
        ):
            problems = differences(got, wanted, bits)
            assert not problems, f"{what} ({side}): {problems}"


def storage_cases(core: str, seed: int, count: int, in_qemu: bool = True) -> list[tuple[str, Case]]:
    rng = random.Random(seed)
    chosen = [e for e in entries(core, "storage") if (e.name not in NOT_IN_QEMU) == in_qemu]
    return [(e.name, access(e, rng)) for e in chosen for _ in range(count)]


@pytest.mark.parametrize("core", CORES)
def test_loads_and_stores_are_as_in_qemu(core: str) -> None:
    check(core, core, storage_cases(core, 1, 6))


def test_a_64_bit_core_in_32_bit_mode_loads_and_stores_as_a_32_bit_core() -> None:
    check("e6500", "e500mc", storage_cases("e500mc", 2, 8))


@pytest.mark.parametrize("core", ["e5500", "e6500"])
def test_what_qemu_lacks_on_these_cores_is_as_on_power7(core: str) -> None:
    cases = storage_cases(core, 7, 60, in_qemu=False)
    assert len(cases) == 60 * len(NOT_IN_QEMU)
    check(core, "power7", cases)


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_many_more_loads_and_stores_are_as_in_qemu(core: str) -> None:
    check(core, core, storage_cases(core, 3, 300))


@pytest.mark.parametrize("core", CORES)
def test_multiples_are_as_in_qemu(core: str) -> None:
    rng = random.Random(4)
    chosen = [e for e in entries(core, "strings") if e.name in ("lmw", "stmw")]
    assert len(chosen) == 2
    check(core, core, [(e.name, multiple(e, rng)) for e in chosen for _ in range(60)])


@pytest.mark.parametrize(("core", "qemu_cpu"), [("e500mc", "7448"), ("e5500", "power7")])
def test_strings_are_as_in_qemus_cores_that_have_them(core: str, qemu_cpu: str) -> None:
    rng = random.Random(5)
    chosen = [e for e in entries(core, "strings") if e.name not in ("lmw", "stmw")]
    assert len(chosen) == 4
    check(core, qemu_cpu, [(e.name, string(e, rng)) for e in chosen for _ in range(60)])


@pytest.mark.parametrize("core", CORES)
def test_reservations_are_as_in_qemu(core: str) -> None:
    rng = random.Random(6)
    chosen = list(pairs(core))
    assert len(chosen) == {"e500mc": 1, "e5500": 2, "e6500": 4}[core]
    check(core, core, [(pair[0].name, reservation(pair, rng)) for pair in chosen for _ in range(60)])


@pytest.mark.parametrize("core", CORES)
def test_misaligned_reservations_are_alignment_faults_as_in_qemu(core: str) -> None:
    state = State()
    state.gpr[4] = BUFFER + 1
    loads = [load for load, _ in pairs(core) if load.name != "lbarx"]
    check(core, core, [(e.name, Case([e.encode(rt=3, ra=0, rb=4)], state)) for e in loads])
