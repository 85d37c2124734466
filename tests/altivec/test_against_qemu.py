"""AltiVec in the oracle against QEMU's user mode: boundary and random operands, VSCR and CR6 included."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import pytest

from powervisor.insns import TABLE
from powervisor.isa.insn import Insn
from powervisor.isa.registers import VSCR
from tests.altivec.values import integers, singles
from tests.support.oracle_user import differences, run_oracle
from tests.support.qemu_user import BUFFER, BUFFER_OFFSET, BUFFER_SIZE, Case, QemuUser, State, available

CPU = "e6500"
OWN = frozenset(("vabsdub", "vabsduh", "vabsduw", "mviwsplt", "mvidsplt"))
"""e6500's own instructions, which QEMU's e6500 lacks."""
WRONG = frozenset(("vexptefp",))
"""QEMU 7.2 sums a short series, which fails beyond a few units."""
TOLERANCE = {"vlogefp": 1e-5}
"""QEMU estimates otherwise: equal within this, relative to the larger of 1 and the result."""

pytestmark = pytest.mark.skipif(not available(CPU), reason="qemu-ppc64 is not installed")

COMPUTING = [
    entry for entry in TABLE
    if entry.group in ("altivec_integer", "altivec_multiply", "altivec_permute", "altivec_float")
    and entry.name not in OWN | WRONG | {"mfvscr", "mtvscr"}
]  # fmt: skip
SOURCES, TARGETS, STATUS, WANTED_VSCR = range(6), range(6, 14), range(14, 22), 30
TABLE_OF = {entry.name: entry for entry in TABLE}


def word(rng: random.Random, entry: Insn, target: int) -> int:
    """An encoding with random sources and immediates."""
    values = {name: rng.choice(SOURCES) for name in ("vra", "vrb", "vrc") if name in entry.fields}
    for name in ("uim", "sh", "rc"):
        if name in entry.fields:
            values[name] = rng.randrange(1 << entry.fields[name].width)
    if "sim" in entry.fields:
        values["sim"] = rng.randrange(-16, 16)
    return entry.encode(vrt=target, **values)


def case(rng: random.Random, entry: Insn) -> Case:
    """Eight executions, each from a fresh VSCR and followed by a copy of it."""
    before, words = State(), []
    make = singles if entry.group == "altivec_float" and not entry.name.startswith("vcf") else integers
    for n in SOURCES:
        before.vr[n] = make(rng)
    before.vr[WANTED_VSCR] = rng.choice((0, VSCR.NJ))
    for target, status in zip(TARGETS, STATUS, strict=True):
        words += [TABLE_OF["mtvscr"].encode(vrb=WANTED_VSCR), word(rng, entry, target)]
        words.append(TABLE_OF["mfvscr"].encode(vrt=status))
    return Case(words, before)


def close(name: str, got: int, wanted: int) -> bool:
    """Whether two registers of estimates agree, exactly where they are not ordinary numbers."""
    for shift in range(0, 128, 32):
        a, b = (single(value >> shift & 0xFFFF_FFFF) for value in (got, wanted))
        if math.isfinite(a) and math.isfinite(b):
            if abs(a - b) > TOLERANCE[name] * max(1, abs(b)):
                return False
        elif (got ^ wanted) >> shift & 0xFFFF_FFFF:
            return False
    return True


def single(bits: int) -> float:
    """The number of a pattern."""
    value: float = struct.unpack(">f", bits.to_bytes(4, "big"))[0]
    return value


def forgive(entry: Insn, got: Any, wanted: Any) -> None:
    """Overwrite in `got` what may differ."""
    for n in TARGETS:
        if entry.name in TOLERANCE and close(entry.name, got.vr[n], wanted.vr[n]):
            got.vr[n] = wanted.vr[n]


@pytest.mark.parametrize("entry", COMPUTING, ids=lambda entry: entry.name)
def test_instruction_does_as_qemu(entry: Insn) -> None:
    rng = random.Random(entry.name)
    cases = [case(rng, entry) for _ in range(30 if entry.group == "altivec_float" else 12)]
    for one, wanted in zip(cases, QemuUser(CPU).run(cases), strict=True):
        got = run_oracle(CPU, one, wanted.address)
        assert got.after is not None and wanted.after is not None, (got.signal, wanted.signal)
        forgive(entry, got.after, wanted.after)
        assert not differences(got, wanted), f"{differences(got, wanted)} of {told(one)}"


def told(one: Case) -> str:
    """A case as people read it."""
    sources = [f"v{n}={one.before.vr[n]:#034x}" for n in (*SOURCES, WANTED_VSCR)]
    return " ".join(sources + [f"{word:#010x}" for word in one.words])


ELEMENT_LOADS = {"lvebx": 1, "lvehx": 2, "lvewx": 4}
STORAGE = [entry for entry in TABLE if entry.group == "altivec_storage" and {"vrt", "vrs"} & set(entry.fields)]


@pytest.mark.parametrize("entry", STORAGE, ids=lambda entry: entry.name)
def test_access_does_as_qemu(entry: Insn) -> None:
    rng, cases = random.Random(entry.name), []
    for offset in range(48):
        before = State(memory=bytearray(rng.randbytes(BUFFER_SIZE)), vr=[rng.getrandbits(128) for _ in range(32)])
        before.gpr[5], before.gpr[6] = BUFFER_OFFSET + offset, BUFFER + offset
        register = {name: 7 for name in ("vrt", "vrs") if name in entry.fields}
        cases.append(Case([entry.encode(ra=31, rb=5, **register), entry.encode(ra=0, rb=6, **register)], before))
    for one, wanted in zip(cases, QemuUser(CPU).run(cases), strict=True):
        got = run_oracle(CPU, one, wanted.address)
        if entry.name in ELEMENT_LOADS and got.after is not None and wanted.after is not None:
            forgive_undefined(ELEMENT_LOADS[entry.name], one.before.gpr[6], got.after, wanted.after)
        assert not differences(got, wanted), f"{differences(got, wanted)} of {told(one)}"


def forgive_undefined(size: int, address: int, got: State, wanted: State) -> None:
    """Overwrite the elements beside the one loaded."""
    defined = (1 << 8 * size) - 1 << 8 * (16 - size - (address & 16 - size))
    got.vr[7] = got.vr[7] & defined | wanted.vr[7] & ~defined


@pytest.mark.parametrize("name", ("dss", "dssall"))
def test_stopping_a_stream_changes_nothing(name: str) -> None:
    one = Case([TABLE_OF[name].encode()], State(vr=[n * 0x1111 for n in range(32)]))
    [wanted] = QemuUser(CPU).run([one])
    assert not differences(run_oracle(CPU, one, wanted.address), wanted)
