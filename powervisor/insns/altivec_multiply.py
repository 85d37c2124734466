"""AltiVec integer multiplies, multiply-adds, multiply-sums and sums across lanes (Book I, 6.8.1.3 - 6.8.1.5).

Odd and even lanes are taken as lanes of twice the width: the even one is the upper half.
"""

# Annotations name static parameters that are types:
# ruff: noqa: F821
# mypy: disable-error-code="name-defined, attr-defined, operator, no-any-return"

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i64, u32, u128
from ..native.lang import Static, native
from ..native.vectors import (
    add_saturated,
    i16x8,
    i32x4,
    i64x2,
    lane,
    lanes,
    lanes_eq,
    lanes_gt,
    lanes_max,
    lanes_min,
    u16x8,
    u32x4,
)
from ..vcpu.ops import require_altivec
from ..vcpu.state import Vcpu
from ..vcpu.vector import saturates
from .altivec import va, va_saturating, vx, vx_saturating

WORD_MIN, WORD_MAX = -(1 << 31), (1 << 31) - 1


@native(inline=True)
def part(W: Static, x: W, bits: Static, at: Static) -> W:
    """The `bits` bits of each lane that lie `at` bits above its lowest, extended in the lane's signedness."""
    return x << (W.lane.bits - bits - at) >> (W.lane.bits - bits)


# ---- products ------------------------------------------------------------------------------------------------------


@native(inline=True)
def multiply_even(W: Static, a: W, b: W) -> W:
    """Products of even lanes."""
    return (a >> (W.lane.bits // 2)) * (b >> (W.lane.bits // 2))


@native(inline=True)
def multiply_odd(W: Static, a: W, b: W) -> W:
    """Products of odd lanes."""
    return part(W, a, W.lane.bits // 2, 0) * part(W, b, W.lane.bits // 2, 0)


for _row, (_unsigned, _signed, _letter, _name) in enumerate(
    ((u16x8, i16x8, "b", "Byte"), (u32x4, i32x4, "h", "Halfword"))
):
    _step = 64 * _row
    vx(f"vmuleu{_letter}", f"Vector Multiply Even Unsigned {_name}", 520 + _step, _unsigned, multiply_even, hot=True)
    vx(f"vmules{_letter}", f"Vector Multiply Even Signed {_name}", 776 + _step, _signed, multiply_even, hot=True)
    vx(f"vmulou{_letter}", f"Vector Multiply Odd Unsigned {_name}", 8 + _step, _unsigned, multiply_odd, hot=True)
    vx(f"vmulos{_letter}", f"Vector Multiply Odd Signed {_name}", 264 + _step, _signed, multiply_odd, hot=True)


# ---- multiply and add halfwords ------------------------------------------------------------------------------------


@native(inline=True)
def halfword_range(x: i32x4) -> i32x4:
    """Words held within the range of signed halfwords."""
    return lanes_max(lanes_min(x, 32767), -32768)


@native(inline=True)
def multiply_high_add(a: u128, b: u128, c: u128, rounding: Static) -> tuple[u128, u128]:
    """(a * b + rounding >> 15) + c of signed halfwords, saturated."""
    product_even = i32x4(multiply_even(i32x4, i32x4(a), i32x4(b)))
    product_odd = i32x4(multiply_odd(i32x4, i32x4(a), i32x4(b)))
    even = ((product_even + rounding) >> 15) + part(i32x4, i32x4(c), 16, 16)
    odd = ((product_odd + rounding) >> 15) + part(i32x4, i32x4(c), 16, 0)
    lost = (halfword_range(even) ^ even) | (halfword_range(odd) ^ odd)
    return u128((halfword_range(even) << 16) | (halfword_range(odd) & 0xFFFF)), u128(lost)


@native(inline=True)
def vmhaddshs(T: Static, a: T, b: T, c: T) -> tuple[u128, u128]:
    """Upper part of the product plus c."""
    return multiply_high_add(u128(a), u128(b), u128(c), 0)


@native(inline=True)
def vmhraddshs(T: Static, a: T, b: T, c: T) -> tuple[u128, u128]:
    """The same of the rounded product."""
    return multiply_high_add(u128(a), u128(b), u128(c), 0x4000)


@native(inline=True)
def vmladduhm(T: Static, a: T, b: T, c: T) -> T:
    """a * b + c modulo the lane."""
    return a * b + c


va_saturating("vmhaddshs", "Vector Multiply-High-Add Signed Halfword Saturate", 32, i16x8, vmhaddshs)
va_saturating("vmhraddshs", "Vector Multiply-High-Round-Add Signed Halfword Saturate", 33, i16x8, vmhraddshs)
va("vmladduhm", "Vector Multiply-Low-Add Unsigned Halfword Modulo", 34, u16x8, vmladduhm, hot=True)


# ---- multiply-sums into words --------------------------------------------------------------------------------------


@native(inline=True)
def vmsumubm(T: Static, a: T, b: T, c: T) -> T:
    """Sum of four products of unsigned bytes."""
    return (
        c
        + part(u32x4, a, 8, 0) * part(u32x4, b, 8, 0)
        + part(u32x4, a, 8, 8) * part(u32x4, b, 8, 8)
        + part(u32x4, a, 8, 16) * part(u32x4, b, 8, 16)
        + part(u32x4, a, 8, 24) * part(u32x4, b, 8, 24)
    )


@native(inline=True)
def signed_bytes(a: i32x4, b: i32x4, at: Static) -> i32x4:
    """Product of a signed byte of a and an unsigned one of b."""
    return part(i32x4, a, 8, at) * ((b >> at) & 0xFF)


@native(inline=True)
def vmsummbm(T: Static, a: T, b: T, c: T) -> T:
    """Sum of four products of signed by unsigned bytes."""
    return c + signed_bytes(a, b, 0) + signed_bytes(a, b, 8) + signed_bytes(a, b, 16) + signed_bytes(a, b, 24)


@native(inline=True)
def multiply_sum(T: Static, a: T, b: T, c: T) -> T:
    """Sum of two products of halfwords, modulo."""
    return c + multiply_even(T, a, b) + multiply_odd(T, a, b)


@native(inline=True)
def vmsumuhs(T: Static, a: T, b: T, c: T) -> tuple[u128, u128]:
    """Sum of two products of unsigned halfwords, saturated: no partial sum exceeds the whole one."""
    first, second = multiply_even(T, a, b), multiply_odd(T, a, b)
    products = add_saturated(first, second)
    total = add_saturated(products, c)
    return u128(total), u128(products ^ (first + second)) | u128(total ^ (products + c))


@native(inline=True)
def vmsumshs(T: Static, a: T, b: T, c: T) -> tuple[u128, u128]:
    """Sum of two products of signed halfwords, saturated.

    Two products add up to 2^31 at most, and only then wrap, to -2^31: that lane becomes 2^31-1, and c one larger.
    """
    products = multiply_even(T, a, b) + multiply_odd(T, a, b)
    wrapped = lanes_eq(products, WORD_MIN)
    negative = lanes_gt(c ^ c, c)
    products = products + wrapped
    addend = c - (wrapped & negative)
    total = add_saturated(products, addend)
    return u128(total), u128(total ^ (products + addend)) | u128(wrapped & ~negative)


va("vmsumubm", "Vector Multiply-Sum Unsigned Byte Modulo", 36, u32x4, vmsumubm)
va("vmsummbm", "Vector Multiply-Sum Mixed Byte Modulo", 37, i32x4, vmsummbm)
va("vmsumuhm", "Vector Multiply-Sum Unsigned Halfword Modulo", 38, u32x4, multiply_sum)
va_saturating("vmsumuhs", "Vector Multiply-Sum Unsigned Halfword Saturate", 39, u32x4, vmsumuhs)
va("vmsumshm", "Vector Multiply-Sum Signed Halfword Modulo", 40, i32x4, multiply_sum, hot=True)
va_saturating("vmsumshs", "Vector Multiply-Sum Signed Halfword Saturate", 41, i32x4, vmsumshs)


# ---- sums across lanes ---------------------------------------------------------------------------------------------


@native(inline=True)
def sum_bytes(T: Static, a: T, b: T) -> tuple[u128, u128]:
    """b plus the four bytes of each word of a, saturated."""
    inner = part(T, a, 8, 0) + part(T, a, 8, 8) + part(T, a, 8, 16) + part(T, a, 8, 24)
    total = add_saturated(inner, b)
    return u128(total), u128(total ^ (inner + b))


@native(inline=True)
def sum_halfwords(T: Static, a: T, b: T) -> tuple[u128, u128]:
    """b plus the two halfwords of each word of a, saturated."""
    inner = part(T, a, 16, 0) + part(T, a, 16, 16)
    total = add_saturated(inner, b)
    return u128(total), u128(total ^ (inner + b))


@native(inline=True)
def word_range(x: i64x2) -> i64x2:
    """Doublewords held within the range of signed words."""
    return lanes_max(lanes_min(x, WORD_MAX), WORD_MIN)


@native(inline=True)
def sum_words(T: Static, a: T, b: T) -> tuple[u128, u128]:
    """The odd word of each doubleword: both words of a and the odd one of b, saturated."""
    total = part(T, a, 32, 32) + part(T, a, 32, 0) + part(T, b, 32, 0)
    held = word_range(total)
    return u128(held & 0xFFFF_FFFF), u128(held ^ total)


vx_saturating("vsum4ubs", "Vector Sum across Quarter Unsigned Byte Saturate", 1544, u32x4, sum_bytes)
vx_saturating("vsum4sbs", "Vector Sum across Quarter Signed Byte Saturate", 1800, i32x4, sum_bytes)
vx_saturating("vsum4shs", "Vector Sum across Quarter Signed Halfword Saturate", 1608, i32x4, sum_halfwords)
vx_saturating("vsum2sws", "Vector Sum across Half Signed Word Saturate", 1672, i64x2, sum_words)


@insn("4 vrt:5 vra:5 vrb:5 1928:11", "vsumsws vrt,vra,vrb", needs="altivec")
def vsumsws(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
    """Vector Sum across Signed Word Saturate"""
    require_altivec(cpu)
    a = i64x2(cpu.vr[vra])
    pairs = part(i64x2, a, 32, 32) + part(i64x2, a, 32, 0)
    total = lane(pairs, 0) + lane(pairs, 1) + lane(part(i64x2, i64x2(cpu.vr[vrb]), 32, 0), 1)
    whole = lanes(i64x2, i64(0), total)
    held = word_range(whole)
    saturates(cpu, u128(held ^ whole))
    cpu.vr[vrt] = u128(held & 0xFFFF_FFFF)
