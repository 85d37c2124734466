"""The exact operations against rational arithmetic, and their two lives - Python and native - against each other."""

from __future__ import annotations

import random
from typing import Any

import pytest

from powervisor.isa.registers import ESR, FPSCR, MSR, SPR
from powervisor.native.ints import u32, u64
from powervisor.translate.oracle import Oracle
from powervisor.vcpu.modes import update_mode
from powervisor.vcpu.softfloat_convert import double_of, single_of
from tests.support.fpvalues import DOUBLES, SINGLE_BITS, SINGLES, random_double, random_single, single

from .programs import ENTRIES, FRA, FRB, FRC, FRT, handlers, operands
from .reference import after, is_nan, reference, summary, value

REFERENCED = [
    name for name in ENTRIES
    if ENTRIES[name].group == "float" and name not in ("fres", "frsqrte", "fcmpu", "fcmpo")
]  # fmt: skip
OLD = 0x4011_2233_4455_6677


@pytest.fixture(scope="module")
def cpu() -> Any:
    oracle = Oracle("e5500")
    oracle.cpu.fpr[FRT] = 0
    yield oracle.cpu


def prepare(cpu: Any, a: int, b: int, c: int, fpscr: int = 0, extra_msr: int = 0) -> None:
    cpu.fpr[FRT], cpu.fpr[FRA], cpu.fpr[FRB], cpu.fpr[FRC] = OLD, a, b, c
    cpu.fpscr, cpu.fp_pending = summary(fpscr), 0
    cpu.msr = int(MSR.FP | extra_msr)
    cpu.pc = 0x1000
    update_mode(cpu)


def execute(cpu: Any, name: str, a: int, b: int, c: int, fpscr: int, **given: int) -> tuple[int, int]:
    """FRT and FPSCR after the compiled handler."""
    prepare(cpu, a, b, c, fpscr)
    handlers().run(ENTRIES[name].function, cpu, *operands(ENTRIES[name], **given))
    return int(cpu.fpr[FRT]), int(cpu.fpscr)


def check(cpu: Any, name: str, a: int, b: int, c: int, fpscr: int) -> None:
    got = execute(cpu, name, a, b, c, fpscr)
    wanted = after(*reference(name, a, b, c, fpscr), summary(fpscr), OLD)
    assert got == wanted, (
        f"{name} a={a:#x} b={b:#x} c={c:#x} fpscr={fpscr:#x}: "
        f"{got[0]:#x} {FPSCR.describe(got[1])}, wanted {wanted[0]:#x} {FPSCR.describe(wanted[1])}"
    )


@pytest.mark.parametrize("name", REFERENCED)
def test_boundary_values_are_rounded_as_exact_arithmetic_says(cpu: Any, name: str) -> None:
    rng = random.Random(name)
    values = SINGLES if name.endswith("s") else DOUBLES
    for a in values:
        for b in rng.sample(values, 8):
            check(cpu, name, a, b, rng.choice(values), rng.randrange(4))


@pytest.mark.parametrize("name", REFERENCED)
def test_random_values_enables_and_sticky_bits(cpu: Any, name: str) -> None:
    rng = random.Random(name)
    for _ in range(500):
        pick = random_single if name.endswith("s") and rng.randrange(4) else random_double
        check(cpu, name, pick(rng), pick(rng), pick(rng), rng.getrandbits(32) & rng.getrandbits(32) & ~0x800)


def test_cancellation_and_ties_of_fused_operations(cpu: Any) -> None:
    """b close to -a*c, where every bit of the product counts."""
    rng = random.Random(5)
    for _ in range(1500):
        a, c = random_double(rng), random_double(rng)
        if is_nan(a) or is_nan(c) or not -2000 < (a >> 52 & 0x7FF) + (c >> 52 & 0x7FF) - 2046 < 900:
            continue
        product, _ = reference("fmul", a, 0, c, 0)
        b = product + rng.choice((-1, 0, 1)) & (1 << 64) - 1
        check(cpu, rng.choice(("fmsub", "fnmsub", "fmsubs")), a, b, c, rng.randrange(4))


@pytest.mark.parametrize("name", [name for name, e in ENTRIES.items() if e.group != "float_storage"])
def test_python_and_native_do_the_same(name: str) -> None:
    entry, rng = ENTRIES[name], random.Random(name)
    oracles = [Oracle("e5500"), Oracle("e5500")]
    for _ in range(25):
        pick = rng.choice((random_single, random_double))
        fprs, fpscr = [pick(rng) for _ in range(32)], summary(rng.getrandbits(32) & rng.getrandbits(32) & ~0x800)
        fields = {field: rng.getrandbits(f.width) for field, f in entry.fields.items()}
        mode = rng.choice((0, MSR.FE0, MSR.FE0 | MSR.FE1))
        aborted = []
        for number, oracle in enumerate(oracles):
            prepare(oracle.cpu, 0, 0, 0, fpscr, mode)
            oracle.cpu.spr[SPR.SRR0] = oracle.cpu.spr[SPR.ESR] = 0
            for n in range(32):
                oracle.cpu.fpr[n] = fprs[n]
            if number:
                handlers().run(entry.function, oracle.cpu, *fields.values())
            else:
                oracle.execute(entry.encode(**fields))
            aborted.append(oracle.cpu.spr[SPR.SRR0])
        one, other = (
            ([int(o.cpu.fpr[n]) for n in range(32)], int(o.cpu.fpscr), [int(o.cpu.cr[n]) for n in range(8)],
             int(o.cpu.mode), int(o.cpu.msr), int(o.cpu.spr[SPR.ESR])) for o in oracles
        )  # fmt: skip
        assert one == other and aborted[0] == aborted[1], f"{name} {fields} fpscr={fpscr:#x}"


# ---- enabled exceptions ----------------------------------------------------------------------------------------------

CAUSES = [
    ("fadd", 0x7FF << 52, 0xFFF << 52, 0, FPSCR.VE, False),
    ("fdiv", 0x3FF << 52, 0, 0, FPSCR.ZE, False),
    ("fmul", 0x7FE << 52, 0, 0x7FE << 52, FPSCR.OE, True),
    ("fmul", 1 << 52, 0, 1 << 52, FPSCR.UE, True),
    ("fdiv", 0x3FF << 52, 0x4008 << 48, 0, FPSCR.XE, True),
    ("fctiw", 0, 0x7FF << 52, 0, FPSCR.VE, False),
]


@pytest.mark.parametrize(("name", "a", "b", "c", "enable", "written"), CAUSES)
def test_an_enabled_exception_interrupts_at_the_instruction(
    name: str, a: int, b: int, c: int, enable: int, written: bool
) -> None:
    oracle = Oracle("e5500")
    entry = ENTRIES[name]
    prepare(oracle.cpu, a, b, c, enable, MSR.FE0 | MSR.FE1)
    oracle.execute(entry.encode(**dict(zip(entry.fields, operands(entry, rc=1), strict=True))))
    assert oracle.cpu.spr[SPR.SRR0] == 0x1000 and oracle.cpu.spr[SPR.ESR] == ESR.FP
    assert oracle.cpu.spr[SPR.SRR1] & MSR.FP and not oracle.cpu.msr & MSR.FP
    assert oracle.cpu.fpscr & FPSCR.FEX and oracle.cpu.cr[1] & 4
    assert (oracle.cpu.fpr[FRT] != OLD) == written


@pytest.mark.parametrize(("name", "a", "b", "c", "enable", "written"), CAUSES)
def test_ignore_exceptions_mode_only_records(name: str, a: int, b: int, c: int, enable: int, written: bool) -> None:
    oracle = Oracle("e5500")
    entry = ENTRIES[name]
    prepare(oracle.cpu, a, b, c, enable)
    oracle.execute(entry.encode(**dict(zip(entry.fields, operands(entry), strict=True))))
    assert oracle.cpu.pc == 0x1004 and oracle.cpu.fpscr & FPSCR.FEX
    assert (oracle.cpu.fpr[FRT] != OLD) == written


def test_a_sticky_exception_of_the_past_does_not_interrupt_again() -> None:
    oracle = Oracle("e5500")
    prepare(oracle.cpu, 0x3FF << 52, 0x3FF << 52, 0, FPSCR.VE | FPSCR.VXISI | FPSCR.FX, MSR.FE0 | MSR.FE1)
    oracle.execute(ENTRIES["fadd"].encode(frt=FRT, fra=FRA, frb=FRB))
    assert oracle.cpu.pc == 0x1004


def test_mtfsf_that_enables_a_recorded_exception_interrupts() -> None:
    oracle = Oracle("e5500")
    prepare(oracle.cpu, 0, FPSCR.VE, 0, FPSCR.VXSNAN, MSR.FE0)
    oracle.execute(ENTRIES["mtfsf"].encode(flm=0x03, frb=FRB))
    assert oracle.cpu.spr[SPR.ESR] == ESR.FP and oracle.cpu.spr[SPR.SRR0] == 0x1000


def test_no_floating_point_instruction_runs_without_msr_fp() -> None:
    for entry in ENTRIES.values():
        oracle = Oracle("e5500")
        oracle.cpu.msr = 0
        update_mode(oracle.cpu)
        oracle.cpu.spr[SPR.IVOR0 + 7] = 0x700
        oracle.execute(entry.encode())
        assert oracle.cpu.pc == 0x700, entry.name


# ---- estimates, compares, formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parts"), [("fres", 256), ("frsqrte", 32)])
def test_estimates_are_as_precise_as_the_manual_asks(cpu: Any, name: str, parts: int) -> None:
    rng = random.Random(name)
    for _ in range(500):
        b = 1023 + rng.randrange(-100, 100) << 52 | rng.getrandbits(52)
        result, fpscr = execute(cpu, name, 0, b, 0, 0)
        exact = 1 / float(value(b)) if name == "fres" else float(value(b)) ** -0.5
        assert abs(float(value(result)) / exact - 1) < 1 / parts
        assert fpscr == 0x4000


@pytest.mark.parametrize(
    ("name", "b", "result", "exception"),
    [
        ("fres", 0, 0x7FF << 52, FPSCR.ZX), ("fres", 1 << 63, 0xFFF << 52, FPSCR.ZX), ("fres", 0x7FF << 52, 0, 0),
        ("fres", 0xFFF << 52, 1 << 63, 0), ("frsqrte", 0, 0x7FF << 52, FPSCR.ZX),
        ("frsqrte", 1 << 63, 0xFFF << 52, FPSCR.ZX), ("frsqrte", 0x7FF << 52, 0, 0),
        ("frsqrte", 0xFFF << 52, 0x7FF8 << 48, FPSCR.VXSQRT), ("frsqrte", 0xBFF << 52, 0x7FF8 << 48, FPSCR.VXSQRT),
        ("frsqrte", 0x7FF1 << 48, 0x7FF9 << 48, FPSCR.VXSNAN),
    ],
)  # fmt: skip
def test_estimates_of_special_operands(cpu: Any, name: str, b: int, result: int, exception: int) -> None:
    got, fpscr = execute(cpu, name, 0, b, 0, 0)
    assert got == result
    assert fpscr & ~FPSCR.FPRF == summary(exception | (FPSCR.FX if exception else 0))


@pytest.mark.parametrize("name", ["fcmpu", "fcmpo"])
def test_compares(cpu: Any, name: str) -> None:
    rng = random.Random(name)
    snan, qnan = 0x7FF1 << 48, 0x7FF8 << 48
    for a in DOUBLES:
        for b in (*rng.sample(DOUBLES, 20), a, a ^ 1 << 63):
            before = rng.choice((0, FPSCR.VE, FPSCR.FR | FPSCR.FI | 0x1F000))
            _, fpscr = execute(cpu, name, a, b, 0, before, bf=2)
            caused = 0
            if is_nan(a) or is_nan(b):
                field = 1
                signalling = any(is_nan(v) and not v >> 51 & 1 for v in (a, b))
                caused = FPSCR.VXSNAN if signalling else 0
                if name == "fcmpo" and (not signalling or not before & FPSCR.VE):
                    caused |= FPSCR.VXVC
            else:
                field = 8 if value(a) < value(b) else 4 if value(a) > value(b) else 2
            assert cpu.cr[2] == field
            wanted = before & ~0xF000 | field << 12 | caused | (FPSCR.FX if caused else 0)
            assert fpscr == summary(wanted), f"{name} {a:#x} {b:#x}"
    assert is_nan(snan) and is_nan(qnan)


def test_singles_in_memory_and_registers() -> None:
    for bits in SINGLE_BITS:
        assert double_of(u32(bits)) == single(bits)
        assert single_of(u64(single(bits))) == bits
    assert single_of(u64(0x3FF0_0000_1FFF_FFFF)) == 0x3F80_0000  # truncates what a single has not
    assert single_of(u64(0x8000_0000_0000_0001)) == 0x8000_0000
