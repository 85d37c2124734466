"""Exact addition, multiplication, division and fused multiply-add (Book I, 4.6.6); see `softfloat` for the terms."""

from __future__ import annotations

from ..isa.registers import FPSCR
from ..native.ints import i32, u32, u64, u128
from ..native.lang import clz, native
from .softfloat import (
    INFINITY,
    SIGN,
    infinity,
    invalid,
    is_nan,
    is_special,
    is_zero,
    propagate,
    round_pack,
    shift_sticky,
    shift_sticky_wide,
    unpack,
    zero,
    zero_of_sum,
)


@native(inline=True)
def is_infinite(a: u64) -> bool:
    """Infinity of either sign."""
    return a << 1 == u64(INFINITY) << 1


@native
def add(a: u64, b: u64, single: u32, control: u32) -> tuple[u64, u32]:
    """a + b."""
    if is_special(a) or is_special(b):
        if is_nan(a) or is_nan(b):
            return propagate(a, b, u64(0), single, u32(0))
        if is_infinite(a) and is_infinite(b) and a != b:
            return invalid(u32(FPSCR.VXISI))
        return infinity((a if is_infinite(a) else b) & SIGN, u32(0))
    sign, other = a & SIGN, b & SIGN
    exponent, x = unpack(a)
    less, y = unpack(b)
    if exponent < less or (exponent == less and x < y):
        sign, other = other, sign
        exponent, less = less, exponent
        x, y = y, x
    x = x >> 1  # room for the carry; 10 zero bits remain below, enough for a sticky bit
    y = shift_sticky(y >> 1, u32(exponent - less))
    z = x + y if sign == other else x - y
    if z == 0:
        if sign == other:
            return zero(sign)
        return zero_of_sum(control)
    n = clz(z)
    return round_pack(sign, exponent + 1 - i32(n), z << n, single, control)


@native
def multiply(a: u64, c: u64, single: u32, control: u32) -> tuple[u64, u32]:
    """a * c."""
    sign = (a ^ c) & SIGN
    if is_special(a) or is_special(c):
        if is_nan(a) or is_nan(c):
            return propagate(a, c, u64(0), single, u32(0))
        if is_zero(a) or is_zero(c):
            return invalid(u32(FPSCR.VXIMZ))
        return infinity(sign, u32(0))
    if is_zero(a) or is_zero(c):
        return zero(sign)
    exponent, x = unpack(a)
    more, y = unpack(c)
    product = u128(x) * u128(y)
    z = u64(product >> 64)
    n = clz(z)  # 0 or 1
    product = product << u128(n)
    z = u64(product >> 64) | u64(u64(product) != 0)
    return round_pack(sign, exponent + more + 1 - i32(n), z, single, control)


@native
def divide(a: u64, b: u64, single: u32, control: u32) -> tuple[u64, u32]:
    """a / b."""
    sign = (a ^ b) & SIGN
    if is_special(a) or is_special(b):
        if is_nan(a) or is_nan(b):
            return propagate(a, b, u64(0), single, u32(0))
        if is_infinite(a):
            if is_infinite(b):
                return invalid(u32(FPSCR.VXIDI))
            return infinity(sign, u32(0))
        return zero(sign)
    if is_zero(b):
        if is_zero(a):
            return invalid(u32(FPSCR.VXZDZ))
        return infinity(sign, u32(FPSCR.ZX))
    if is_zero(a):
        return zero(sign)
    exponent, x = unpack(a)
    less, y = unpack(b)
    exponent -= less
    rest = x >> 11
    divisor = y >> 11
    if rest < divisor:
        rest = rest << 1
        exponent -= 1
    rest -= divisor
    quotient = u64(1)
    for _ in range(u32(5)):  # 11 bits a step: the rest has at most 53
        rest = rest << 11
        digit = rest // divisor
        rest -= digit * divisor
        quotient = quotient << 11 | digit
    return round_pack(sign, exponent, quotient << 8 | u64(rest != 0), single, control)


@native
def multiply_add(a: u64, c: u64, b: u64, single: u32, control: u32) -> tuple[u64, u32]:
    """a * c + b with one rounding."""
    sign, other = (a ^ c) & SIGN, b & SIGN
    if is_special(a) or is_special(c) or is_special(b):
        status = u32(0)
        if (is_infinite(a) and is_zero(c)) or (is_zero(a) and is_infinite(c)):
            status = u32(FPSCR.VXIMZ)
        if is_nan(a) or is_nan(b) or is_nan(c):
            return propagate(a, b, c, single, status)
        if status:
            return invalid(status)
        if is_infinite(a) or is_infinite(c):
            if is_infinite(b) and sign != other:
                return invalid(u32(FPSCR.VXISI))
            return infinity(sign, u32(0))
        return infinity(other, u32(0))
    exponent, x = unpack(a)
    more, y = unpack(c)
    addend, w = unpack(b)
    if x == 0 or y == 0:
        if w != 0:
            return round_pack(other, addend, w, single, control)
        if sign == other:
            return zero(sign)
        return zero_of_sum(control)
    exponent += more
    # Both terms with their leading bit at 124 (the product's at 124 or 125): 20 zero bits below the product.
    p = u128(x >> 11) * u128(y >> 11) << 20
    q = u128(w >> 11) << 72
    if exponent >= addend:
        q = shift_sticky_wide(q, u32(exponent - addend))
    else:
        p = shift_sticky_wide(p, u32(addend - exponent))
        exponent = addend
    z = p + q
    if sign != other:
        z = p - q
        if p == q:
            return zero_of_sum(control)
        if p < q:
            z = q - p
            sign = other
    n = clz(z)
    z = z << n
    return round_pack(sign, exponent + 3 - i32(n), u64(z >> 64) | u64(u64(z) != 0), single, control)


@native
def square_root(a: u64, control: u32) -> tuple[u64, u32]:
    """Square root of a positive finite number, rounded to double."""
    exponent, x = unpack(a)
    # value = (x >> 11) * 2**(exponent - 52); an even power of two is taken out so that the root has 57 bits
    shift = u32(60) + (u32(exponent) & 1)
    rest = u128(x >> 11) << u128(shift)
    root = u128(0)
    bit = u128(1) << 112
    while bit != 0:
        trial = root + bit
        root = root >> 1
        if rest >= trial:
            rest -= trial
            root += bit
        bit = bit >> 2
    significand = u64(root)
    n = clz(significand)
    significand = significand << n | u64(rest != 0)
    half = (exponent - 52 - i32(shift)) >> 1
    return round_pack(u64(0), half + 63 - i32(n), significand, u32(0), control)
