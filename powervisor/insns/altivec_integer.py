"""AltiVec integer arithmetic, compares and logic (Book I, 6.8 - 6.10), and the absolute differences of e6500."""

# Annotations name static parameters that are types:
# ruff: noqa: F821
# mypy: disable-error-code="name-defined, attr-defined, operator, no-any-return"

from __future__ import annotations

from typing import Any

from ..native.ints import u128
from ..native.lang import Static, native
from ..native.vectors import (
    add_saturated,
    i8x16,
    i16x8,
    i32x4,
    lanes_eq,
    lanes_gt,
    lanes_max,
    lanes_min,
    lanes_rotl,
    sub_saturated,
    u8x16,
    u16x8,
    u32x4,
)
from .altivec import WIDTHS, vc, vx, vx_saturating

UNSIGNED = (u8x16, u16x8, u32x4)
SIGNED = (i8x16, i16x8, i32x4)

# ---- add and subtract ----------------------------------------------------------------------------------------------


@native(inline=True)
def add(T: Static, a: T, b: T) -> T:
    """Modulo addition."""
    return a + b


@native(inline=True)
def subtract(T: Static, a: T, b: T) -> T:
    """Modulo subtraction."""
    return a - b


@native(inline=True)
def add_saturating(T: Static, a: T, b: T) -> tuple[u128, u128]:
    """Saturating addition, and the lanes that saturated."""
    value = add_saturated(a, b)
    return u128(value), u128(value ^ (a + b))


@native(inline=True)
def subtract_saturating(T: Static, a: T, b: T) -> tuple[u128, u128]:
    """Saturating subtraction, and the lanes that saturated."""
    value = sub_saturated(a, b)
    return u128(value), u128(value ^ (a - b))


@native(inline=True)
def carry_of_sum(T: Static, a: T, b: T) -> T:
    """1 where a + b carries out of the lane."""
    return lanes_gt(a, a + b) & 1


@native(inline=True)
def carry_of_difference(T: Static, a: T, b: T) -> T:
    """1 where a - b does not borrow."""
    return ~lanes_gt(b, a) & 1


# ---- average, minimum, maximum, difference -------------------------------------------------------------------------


@native(inline=True)
def average(T: Static, a: T, b: T) -> T:
    """(a + b + 1) >> 1 without the ninth bit."""
    return (a | b) - ((a ^ b) >> 1)


@native(inline=True)
def maximum(T: Static, a: T, b: T) -> T:
    """The larger."""
    return lanes_max(a, b)


@native(inline=True)
def minimum(T: Static, a: T, b: T) -> T:
    """The smaller."""
    return lanes_min(a, b)


@native(inline=True)
def absolute_difference(T: Static, a: T, b: T) -> T:
    """|a - b|."""
    return lanes_max(a, b) - lanes_min(a, b)


# ---- shifts and rotates --------------------------------------------------------------------------------------------


@native(inline=True)
def rotate(T: Static, a: T, b: T) -> T:
    """Each lane of a rotated left by that of b."""
    return lanes_rotl(a, b)


@native(inline=True)
def shift_left(T: Static, a: T, b: T) -> T:
    """Each lane of a shifted left by that of b modulo the width."""
    return a << (b & (T.lane.bits - 1))


@native(inline=True)
def shift_right(T: Static, a: T, b: T) -> T:
    """Each lane of a shifted right by that of b modulo the width, in the lane's signedness."""
    return a >> (b & (T.lane.bits - 1))


# ---- logic ---------------------------------------------------------------------------------------------------------


@native(inline=True)
def logical_and(T: Static, a: T, b: T) -> T:
    """a & b."""
    return a & b


@native(inline=True)
def logical_andc(T: Static, a: T, b: T) -> T:
    """a & ~b."""
    return a & ~b


@native(inline=True)
def logical_or(T: Static, a: T, b: T) -> T:
    """a | b."""
    return a | b


@native(inline=True)
def logical_xor(T: Static, a: T, b: T) -> T:
    """a ^ b."""
    return a ^ b


@native(inline=True)
def logical_nor(T: Static, a: T, b: T) -> T:
    """~(a | b)."""
    return ~(a | b)


# ---- compares ------------------------------------------------------------------------------------------------------


@native(inline=True)
def equal(T: Static, a: T, b: T) -> T:
    """All ones where equal."""
    return lanes_eq(a, b)


@native(inline=True)
def greater(T: Static, a: T, b: T) -> T:
    """All ones where a is greater."""
    return lanes_gt(a, b)


# ---- the table -----------------------------------------------------------------------------------------------------


def each(
    kinds: tuple[Any, ...], stem: str, tail: str, title: str, xo: int, operation: Any, form: Any = vx, hot: bool = False
) -> None:
    """Declare an operation for bytes, halfwords and words; their opcodes are 64 apart."""
    for row, T in enumerate(kinds):
        width = WIDTHS[T.lane.bits]
        form(f"{stem}{width[0].lower()}{tail}", title.format(width), xo + 64 * row, T, operation, hot=hot)


each(UNSIGNED, "vaddu", "m", "Vector Add Unsigned {} Modulo", 0, add, hot=True)
each(UNSIGNED, "vsubu", "m", "Vector Subtract Unsigned {} Modulo", 1024, subtract, hot=True)
each(UNSIGNED, "vaddu", "s", "Vector Add Unsigned {} Saturate", 512, add_saturating, vx_saturating, hot=True)
each(SIGNED, "vadds", "s", "Vector Add Signed {} Saturate", 768, add_saturating, vx_saturating, hot=True)
each(UNSIGNED, "vsubu", "s", "Vector Subtract Unsigned {} Saturate", 1536, subtract_saturating, vx_saturating, hot=True)
each(SIGNED, "vsubs", "s", "Vector Subtract Signed {} Saturate", 1792, subtract_saturating, vx_saturating, hot=True)
vx("vaddcuw", "Vector Add and Write Carry-Out Unsigned Word", 384, u32x4, carry_of_sum)
vx("vsubcuw", "Vector Subtract and Write Carry-Out Unsigned Word", 1408, u32x4, carry_of_difference)

each(UNSIGNED, "vavgu", "", "Vector Average Unsigned {}", 1026, average, hot=True)
each(SIGNED, "vavgs", "", "Vector Average Signed {}", 1282, average)
each(UNSIGNED, "vmaxu", "", "Vector Maximum Unsigned {}", 2, maximum, hot=True)
each(SIGNED, "vmaxs", "", "Vector Maximum Signed {}", 258, maximum, hot=True)
each(UNSIGNED, "vminu", "", "Vector Minimum Unsigned {}", 514, minimum, hot=True)
each(SIGNED, "vmins", "", "Vector Minimum Signed {}", 770, minimum, hot=True)
each(UNSIGNED, "vabsdu", "", "Vector Absolute Difference Unsigned {}", 1027, absolute_difference)

each(UNSIGNED, "vrl", "", "Vector Rotate Left {}", 4, rotate, hot=True)
each(UNSIGNED, "vsl", "", "Vector Shift Left {}", 260, shift_left, hot=True)
each(UNSIGNED, "vsr", "", "Vector Shift Right {}", 516, shift_right, hot=True)
each(SIGNED, "vsra", "", "Vector Shift Right Algebraic {}", 772, shift_right, hot=True)

vx("vand", "Vector Logical AND", 1028, u32x4, logical_and, hot=True)
vx("vandc", "Vector Logical AND with Complement", 1092, u32x4, logical_andc, hot=True)
vx("vor", "Vector Logical OR", 1156, u32x4, logical_or, hot=True)
vx("vxor", "Vector Logical XOR", 1220, u32x4, logical_xor, hot=True)
vx("vnor", "Vector Logical NOR", 1284, u32x4, logical_nor, hot=True)

for _row, (_unsigned, _signed) in enumerate(zip(UNSIGNED, SIGNED, strict=True)):
    _width = WIDTHS[_unsigned.lane.bits]
    _letter = _width[0].lower()
    vc(f"vcmpequ{_letter}", f"Vector Compare Equal to Unsigned {_width}", 6 + 64 * _row, _unsigned, equal)
    vc(f"vcmpgtu{_letter}", f"Vector Compare Greater Than Unsigned {_width}", 518 + 64 * _row, _unsigned, greater)
    vc(f"vcmpgts{_letter}", f"Vector Compare Greater Than Signed {_width}", 774 + 64 * _row, _signed, greater)
