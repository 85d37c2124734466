"""Vectors of 128 bits of the native subset: lanes in guest order, lane 0 in the most significant bits.

`u8x16 .. i64x2` are immutable values whose operators work lane by lane and wrap; a bare literal stands for a vector
of equal lanes. `T(value)` reinterprets a `u128` or another vector, `u128(vector)` gives the bits back. The words
below do the rest; those on single-precision lanes take and give bit patterns in `u32x4`, by the host FPU, rounded to
nearest even; the sign and payload of the NaNs they make are not defined.
"""

from __future__ import annotations

import math
import operator
import struct as _struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, ClassVar

from .ints import i8, i16, i32, i64, u8, u16, u32, u64, u128
from .lang import word

Lanes = tuple[int, ...]


class Vector:
    """Base of the vector types; `lane` is the type of an element, `count` their number, `ir` the LLVM name."""

    bits: ClassVar[int] = 128
    size: ClassVar[int] = 16
    lane: ClassVar[Any]
    count: ClassVar[int]
    ir: ClassVar[str]
    __slots__ = ("lanes",)

    def __init__(self, value: Any = 0) -> None:
        if isinstance(value, Vector):
            bits = int(value)
        elif type(value) in (int, u128):
            bits = int(value) & (1 << 128) - 1
        else:
            raise TypeError(f"{type(self).__name__} of a {type(value).__name__}: only u128 and vectors have 128 bits")
        width, lane = self.lane.bits, self.lane
        self.lanes: Lanes = tuple(int(lane(bits >> 128 - width * (n + 1))) for n in range(self.count))

    @classmethod
    def of(cls, lanes: Iterable[int]) -> Any:
        """A vector of the given lanes, each reduced to the lane's width."""
        new = cls.__new__(cls)
        new.lanes = tuple(int(cls.lane(value)) for value in lanes)
        return new

    def __int__(self) -> int:
        value, width = 0, self.lane.bits
        for lane in self.lanes:
            value = value << width | lane & (1 << width) - 1
        return value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self):#034x})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.lanes == self.lanes

    def __hash__(self) -> int:
        return hash((type(self), self.lanes))

    def _lanewise(self, operation: Callable[[int, int], int], other: Any) -> Any:
        if type(other) is int:
            other = self.of((other,) * self.count)
        elif type(other) is not type(self):
            raise TypeError(f"{type(self).__name__} mixed with {type(other).__name__}: convert one of them")
        return self.of(map(operation, self.lanes, other.lanes))

    def _shift(self, operation: Callable[[int, int], int], other: Any) -> Any:
        amounts = (other,) if type(other) is int else other.lanes
        if not all(0 <= amount < self.lane.bits for amount in amounts):
            raise ValueError(f"shift of {type(self).__name__} by {amounts}")
        return self._lanewise(operation, other)

    def __add__(self, other: Any) -> Any:
        return self._lanewise(operator.add, other)

    def __sub__(self, other: Any) -> Any:
        return self._lanewise(operator.sub, other)

    def __mul__(self, other: Any) -> Any:
        return self._lanewise(operator.mul, other)

    def __and__(self, other: Any) -> Any:
        return self._lanewise(operator.and_, other)

    def __or__(self, other: Any) -> Any:
        return self._lanewise(operator.or_, other)

    def __xor__(self, other: Any) -> Any:
        return self._lanewise(operator.xor, other)

    def __lshift__(self, other: Any) -> Any:
        return self._shift(operator.lshift, other)

    def __rshift__(self, other: Any) -> Any:
        return self._shift(operator.rshift, other)

    def __invert__(self) -> Any:
        return self.of(~lane for lane in self.lanes)


def _build(lane: Any) -> Any:
    count = 128 // lane.bits
    name = f"{lane.__name__}x{count}"
    return type(name, (Vector,), {"lane": lane, "count": count, "ir": f"<{count} x {lane.ir}>", "__slots__": (),
                                  "__doc__": f"{count} lanes of {lane.__name__}.", "__module__": __name__})  # fmt: skip


u8x16, u16x8, u32x4, u64x2 = (_build(lane) for lane in (u8, u16, u32, u64))
i8x16, i16x8, i32x4, i64x2 = (_build(lane) for lane in (i8, i16, i32, i64))


def is_vector(kind: Any) -> bool:
    """Whether a kind is a vector type."""
    return isinstance(kind, type) and issubclass(kind, Vector)


# ---- making and taking apart ---------------------------------------------------------------------------------------


@word
def splat(kind: Any, value: Any) -> Any:
    """A vector with a value of the lane's type in every lane."""
    if type(value) is not int and type(value) is not kind.lane:
        raise TypeError(f"splat of a {type(value).__name__} into {kind.__name__}")
    return kind.of((value,) * kind.count)


@word
def lane(vector: Any, index: int) -> Any:
    """Lane `index`, a compile-time number."""
    return vector.lane(vector.lanes[index])


@word
def lanes(kind: Any, *values: Any) -> Any:
    """A vector of values of the lane's type."""
    if len(values) != kind.count or any(type(value) not in (int, kind.lane) for value in values):
        raise TypeError(f"{kind.__name__} is made of {kind.count} {kind.lane.__name__}")
    return kind.of(values)


@word
def shuffle(a: Any, b: Any, indices: tuple[int, ...]) -> Any:
    """Lanes chosen from those of `a` (0 ..) followed by those of `b`, by compile-time numbers."""
    both = a.lanes + b.lanes
    return a.of(both[index] for index in indices)


@word
def lookup(table: Any, index: Any) -> Any:
    """For each byte of `index`, the byte of `table` that its low four bits number; both `u8x16`."""
    return u8x16.of(table.lanes[n & 15] for n in index.lanes)


# ---- lane by lane --------------------------------------------------------------------------------------------------


def _same(a: Any, b: Any) -> Any:
    if type(b) is int:
        return splat(type(a), b)
    if type(a) is not type(b):
        raise TypeError(f"{type(a).__name__} mixed with {type(b).__name__}: convert one of them")
    return b


@word
def lanes_eq(a: Any, b: Any) -> Any:
    """All ones in the lanes where a == b, zeros elsewhere."""
    return a.of(-(x == y) for x, y in zip(a.lanes, _same(a, b).lanes, strict=True))


@word
def lanes_gt(a: Any, b: Any) -> Any:
    """All ones in the lanes where a > b, in the lane's signedness."""
    return a.of(-(x > y) for x, y in zip(a.lanes, _same(a, b).lanes, strict=True))


@word
def lanes_min(a: Any, b: Any) -> Any:
    """The smaller of each pair."""
    return a.of(map(min, a.lanes, _same(a, b).lanes))


@word
def lanes_max(a: Any, b: Any) -> Any:
    """The larger of each pair."""
    return a.of(map(max, a.lanes, _same(a, b).lanes))


def _saturated(kind: Any, values: Iterable[int]) -> Any:
    low = -(1 << kind.lane.bits - 1) if kind.lane.signed else 0
    high = low + (1 << kind.lane.bits) - 1
    return kind.of(min(max(value, low), high) for value in values)


@word
def add_saturated(a: Any, b: Any) -> Any:
    """a + b held within the lane's range."""
    return _saturated(type(a), map(operator.add, a.lanes, _same(a, b).lanes))


@word
def sub_saturated(a: Any, b: Any) -> Any:
    """a - b held within the lane's range."""
    return _saturated(type(a), map(operator.sub, a.lanes, _same(a, b).lanes))


@word
def lanes_rotl(a: Any, amount: Any) -> Any:
    """Each lane rotated left by its amount, modulo the width; unsigned lanes."""
    width = a.lane.bits
    return a.of(x << (n % width) | x >> (width - n % width) for x, n in zip(a.lanes, amount.lanes, strict=True))


# ---- single precision ----------------------------------------------------------------------------------------------


def _float(bits: int) -> float:
    value: float = _struct.unpack("<f", _struct.pack("<I", bits))[0]
    return value


def _bits(value: float) -> int:
    try:
        bits: int = _struct.unpack("<I", _struct.pack("<f", value))[0]
    except OverflowError:
        return 0xFF80_0000 if value < 0 else 0x7F80_0000
    return bits


def _pairs(operation: Callable[[float, float], float], a: Any, b: Any) -> Any:
    # A double holds a sum, product, quotient or root of singles so closely that rounding it again to single is exact.
    return u32x4.of(_bits(operation(_float(x), _float(y))) for x, y in zip(a.lanes, b.lanes, strict=True))


def _quotient(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)


def _round(value: Fraction) -> int:
    """Bits of the single nearest to a number that is not zero."""
    size = abs(value)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length(), -126)
    if size < Fraction(2) ** exponent and exponent > -126:
        exponent -= 1
    steps = round(size / Fraction(2) ** (exponent - 23))  # round() goes to even
    bits = min(((exponent + 126) << 23) + steps, 0x7F80_0000)
    return bits | (0x8000_0000 if value < 0 else 0)


def _fused(a: float, b: float, c: float) -> int:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return _bits(a * b + c)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return _round(exact) if exact else _bits(a * b + c)


@word
def host_add4(a: Any, b: Any) -> Any:
    """Four singles a + b."""
    return _pairs(operator.add, a, b)


@word
def host_sub4(a: Any, b: Any) -> Any:
    """Four singles a - b."""
    return _pairs(operator.sub, a, b)


@word
def host_mul4(a: Any, b: Any) -> Any:
    """Four singles a * b."""
    return _pairs(operator.mul, a, b)


@word
def host_div4(a: Any, b: Any) -> Any:
    """Four singles a / b."""
    return _pairs(_quotient, a, b)


@word
def host_fma4(a: Any, b: Any, c: Any) -> Any:
    """Four singles a * b + c with one rounding."""
    rows = zip(a.lanes, b.lanes, c.lanes, strict=True)
    return u32x4.of(_fused(_float(x), _float(y), _float(z)) for x, y, z in rows)


@word
def host_sqrt4(a: Any) -> Any:
    """Square roots of four singles."""
    return _pairs(lambda x, _: math.sqrt(x) if x >= 0 else math.nan, a, a)


@word
def host_from_signed4(a: Any) -> Any:
    """Four singles nearest to the lanes of an `i32x4`."""
    return u32x4.of(_bits(float(x)) for x in a.lanes)


@word
def host_from_unsigned4(a: Any) -> Any:
    """Four singles nearest to the lanes of a `u32x4`."""
    return u32x4.of(_bits(float(x)) for x in a.lanes)


def _integer(kind: Any, value: float) -> int:
    low = -(1 << 31) if kind.lane.signed else 0
    high = low + (1 << 32) - 1
    if value != value:
        return 0
    return int(min(max(value, low), high))


@word
def host_to_signed4(a: Any) -> Any:
    """`i32x4` of four singles, toward zero, held within the range; 0 for a NaN."""
    return i32x4.of(_integer(i32x4, _float(x)) for x in a.lanes)


@word
def host_to_unsigned4(a: Any) -> Any:
    """`u32x4` of four singles, toward zero, held within the range; 0 for a NaN."""
    return u32x4.of(_integer(u32x4, _float(x)) for x in a.lanes)


@word
def host_gt4(a: Any, b: Any) -> Any:
    """All ones in the lanes where the single a > b, zeros also where unordered."""
    return u32x4.of(-(_float(x) > _float(y)) for x, y in zip(a.lanes, b.lanes, strict=True))


@word
def host_ge4(a: Any, b: Any) -> Any:
    """All ones in the lanes where the single a >= b, zeros also where unordered."""
    return u32x4.of(-(_float(x) >= _float(y)) for x, y in zip(a.lanes, b.lanes, strict=True))


@word
def host_eq4(a: Any, b: Any) -> Any:
    """All ones in the lanes where the single a == b, zeros also where unordered."""
    return u32x4.of(-(_float(x) == _float(y)) for x, y in zip(a.lanes, b.lanes, strict=True))
