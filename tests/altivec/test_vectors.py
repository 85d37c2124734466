"""Vector types of the native subset: Python and compiled code agree on every word."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from powervisor.native import vector_intrinsics
from powervisor.native.codespace import CodeSpace
from powervisor.native.compile import Module
from powervisor.native.elf import Object
from powervisor.native.ints import u8, u32, u64, u128
from powervisor.native.lang import native
from powervisor.native.llvm import compile_object
from powervisor.native.struct import Array, Struct
from powervisor.native.values import CompileError
from powervisor.native.vectors import (
    Vector,
    add_saturated,
    host_add4,
    host_div4,
    host_eq4,
    host_fma4,
    host_from_signed4,
    host_from_unsigned4,
    host_ge4,
    host_gt4,
    host_mul4,
    host_sqrt4,
    host_sub4,
    host_to_signed4,
    host_to_unsigned4,
    i8x16,
    i16x8,
    i32x4,
    i64x2,
    lane,
    lanes,
    lanes_eq,
    lanes_gt,
    lanes_max,
    lanes_min,
    lanes_rotl,
    lookup,
    shuffle,
    splat,
    sub_saturated,
    u8x16,
    u16x8,
    u32x4,
    u64x2,
)  # fmt: skip

UNSIGNED = (u8x16, u16x8, u32x4, u64x2)
KINDS = (*UNSIGNED, i8x16, i16x8, i32x4, i64x2)
MIXED = (3, 17, 0, 31, 15, 16, 8, 7, 1, 30, 2, 29, 9, 10, 20, 21)
FIRST_BYTES = u8x16(0x000102030405060708090A0B0C0D0E0F)


class Box(Struct):
    """Operands and results."""

    a: u128
    b: u128
    c: u128
    out: Array[u128, 200]
    word: u32


def operators(T: Any) -> Any:
    """A native function that uses every lane-wise word on lanes of a type."""
    count, bits = T.count, T.lane.bits
    pick = tuple(n % (2 * count) for n in MIXED[:count])

    @native
    def body(box: Box) -> None:
        a, b = T(box.a), T(box.b)
        box.out[0] = u128(a + b)
        box.out[1] = u128(a - b)
        box.out[2] = u128(a * b)
        box.out[3] = u128(a & b | ~a)
        box.out[4] = u128(a ^ 5)
        box.out[5] = u128(a << 3)
        box.out[6] = u128(a >> 3)
        box.out[7] = u128(a >> (b & (bits - 1)))
        box.out[8] = u128(lanes_eq(a, b & a))
        box.out[9] = u128(lanes_gt(a, b))
        box.out[10] = u128(lanes_min(a, b))
        box.out[11] = u128(lanes_max(a, 7))
        box.out[12] = u128(add_saturated(a, b))
        box.out[13] = u128(sub_saturated(a, b))
        box.out[14] = u128(shuffle(a, b, pick))
        box.out[15] = u128(splat(T, lane(a, 1)))
        box.out[16] = u128(a << (b & (bits - 1)))

    return body


@native
def singles(box: Box) -> None:
    """Every single-precision word."""
    a, b, c = u32x4(box.a), u32x4(box.b), u32x4(box.c)
    box.out[0] = u128(host_add4(a, b))
    box.out[1] = u128(host_sub4(a, b))
    box.out[2] = u128(host_mul4(a, b))
    box.out[3] = u128(host_div4(a, b))
    box.out[4] = u128(host_fma4(a, b, c))
    box.out[5] = u128(host_sqrt4(a))
    box.out[6] = u128(host_from_signed4(i32x4(a)))
    box.out[7] = u128(host_from_unsigned4(a))
    box.out[8] = u128(host_to_signed4(a))
    box.out[9] = u128(host_to_unsigned4(a))
    box.out[10] = u128(host_gt4(a, b))
    box.out[11] = u128(host_ge4(a, b))
    box.out[12] = u128(host_eq4(a, b))


@native
def others(box: Box) -> None:
    """The words that have one type."""
    a, b = u8x16(box.a), u8x16(box.b)
    box.out[0] = u128(lookup(a, b))
    box.out[1] = u128(lookup(a, FIRST_BYTES + splat(u8x16, u8(box.b))))
    box.out[2] = u128(lanes_rotl(u32x4(a), u32x4(b)))
    box.out[3] = u128(lanes_rotl(u8x16(a), u8x16(b)))
    box.out[4] = u128(lanes(u32x4, u32(box.word), lane(u32x4(b), 3), u32(7), lane(u32x4(a), 0)))
    box.out[5] = u128(i16x8(u32x4(a)) >> 15)


@contextmanager
def compiled(function: Any) -> Iterator[Any]:
    """The machine code of a native function, as a callable."""
    module = Module()
    symbol = module.require(function, export=True)
    space = CodeSpace(1 << 20)

    def missing(name: str) -> int:
        raise AssertionError(f"{name} is not in the object")

    addresses = Object(compile_object(module.emit())).load(space.take, missing)
    yield ctypes.CFUNCTYPE(None, ctypes.c_void_p)(addresses[symbol])
    space.close()


FLOATS = (
    0, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 1, 0x8000_0001, 0x007F_FFFF,
    0x0080_0000, 0x7F7F_FFFF, 0x4F00_0000, 0xCF00_0000, 0x4F7F_FFFF, 0x4F80_0000, 0x3F00_0000, 0x4EFF_FFFF,
)  # fmt: skip


def operands(rng: random.Random, floats: bool) -> list[int]:
    if floats and rng.random() < 0.8:
        return [int(u32x4.of(rng.choice(FLOATS) ^ rng.choice((0, 1, 0x800000, 0x80000000)) for _ in range(4)))
                for _ in range(3)]  # fmt: skip
    if rng.random() < 0.3:
        return [int(u8x16.of(rng.choice((0, 1, 0x7F, 0x80, 0xFF)) for _ in range(16))) for _ in range(3)]
    return [rng.getrandbits(128) for _ in range(3)]


def without_nans(value: int) -> int:
    """Singles with one pattern for every NaN: the words leave it open."""
    return int(u32x4.of(0x7FC0_0000 if x & 0x7FFF_FFFF > 0x7F80_0000 else x for x in u32x4(value).lanes))


@pytest.mark.parametrize("T", KINDS, ids=lambda kind: kind.__name__)
def test_python_and_machine_code_agree_on_lanes(T: Any) -> None:
    check(operators(T), floats=False)


def test_python_and_machine_code_agree_on_singles() -> None:
    check(singles, floats=True)


def test_fused_singles_need_no_such_instruction_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_intrinsics, "host_fuses", lambda: False)
    check(singles, floats=True, times=2000)


def test_python_and_machine_code_agree_on_other_words() -> None:
    check(others, floats=False)


def check(function: Any, floats: bool, times: int = 200) -> None:
    rng = random.Random(3)
    with compiled(function) as call:
        for _ in range(times):
            check_once(function, call, operands(rng, floats), floats)


def check_once(function: Any, call: Any, values: list[int], floats: bool) -> None:
    here, there = Box.new(), Box.new()
    for box in (here, there):
        box.word = 0x89ABCDEF
    for name, value in zip("abc", values, strict=True):
        setattr(here, name, value)
        setattr(there, name, value)
    function(here)
    call(there.address)
    for n in range(20):
        expected, got = int(here.out[n]), int(there.out[n])
        if floats and n < 8:
            expected, got = without_nans(expected), without_nans(got)
        assert got == expected, f"result {n} of {here.a!r} {here.b!r} {here.c!r}: {got:#034x}, not {expected:#034x}"


def test_lane_zero_is_the_most_significant() -> None:
    value = u8x16(u128(0x00112233445566778899AABBCCDDEEFF))
    assert value.lanes[0] == 0 and value.lanes[1] == 0x11 and value.lanes[15] == 0xFF
    assert u32x4(value).lanes == (0x00112233, 0x44556677, 0x8899AABB, 0xCCDDEEFF)
    assert u128(value) == 0x00112233445566778899AABBCCDDEEFF


def test_mixing_types_is_refused_by_python_and_by_the_compiler() -> None:
    with pytest.raises(TypeError):
        u8x16(1) + u16x8(1)
    with pytest.raises(TypeError):
        u8x16(u64(1))

    @native
    def mixed(box: Box) -> None:
        box.out[0] = u128(u8x16(box.a) + u16x8(box.b))

    module = Module()
    module.require(mixed, export=True)
    with pytest.raises(CompileError, match="mixed with u16x8"):
        module.emit()


def test_comparing_vectors_with_equals_is_refused_by_the_compiler() -> None:
    @native
    def compared(box: Box) -> None:
        if u8x16(box.a) == u8x16(box.b):
            box.word = u32(1)

    module = Module()
    module.require(compared, export=True)
    with pytest.raises(CompileError, match="lanes_eq"):
        module.emit()


def test_a_shift_by_the_width_is_an_error() -> None:
    with pytest.raises(ValueError):
        u8x16(1) << 8


def test_fused_singles_round_once() -> None:
    # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last bit survives only with one rounding
    a, c = splat(u32x4, 0x3F80_0800), splat(u32x4, 0xBF80_1000)
    assert host_fma4(a, a, c).lanes[0] == 0x3380_0000
    assert isinstance(host_fma4(a, a, c), Vector)
