"""Exact conversions, compares and estimates (Book I, 4.6.7 - 4.6.9, appendix A); see `softfloat` for the terms."""

from __future__ import annotations

from ..isa.registers import FPSCR
from ..native.ints import i32, i64, u8, u32, u64
from ..native.lang import clz, native
from .softfloat import (
    MAGNITUDE,
    SIGN,
    infinity,
    invalid,
    is_nan,
    is_signalling,
    is_special,
    is_zero,
    propagate,
    round_pack,
    rounds_up,
    unpack,
    zero,
)
from .softfloat_arith import divide, square_root

ONE = 0x3FF0_0000_0000_0000
ESTIMATE_EFFECTS = ~(FPSCR.XX | FPSCR.FR | FPSCR.FI) & 0xFFFF_FFFF
"""Estimates leave XX alone; FR and FI, undefined after them, become 0."""


@native
def round_to_single(b: u64, control: u32) -> tuple[u64, u32]:
    """frsp."""
    if is_special(b):
        if is_nan(b):
            return propagate(u64(0), b, u64(0), u32(1), u32(0))
        return infinity(b & SIGN, u32(0))
    if is_zero(b):
        return zero(b)
    exponent, significand = unpack(b)
    return round_pack(b & SIGN, exponent, significand, u32(1), control)


@native
def to_integer(b: u64, wide: u32, control: u32) -> tuple[u64, u32]:
    """fctid (`wide`) and fctiw: FPRF, undefined after them, becomes 0; a word is sign-extended."""
    largest = u64(0x7FFF_FFFF_FFFF_FFFF) if wide else u64(0x7FFF_FFFF)
    if is_nan(b):
        return ~largest, u32(FPSCR.VXCVI | FPSCR.VXSNAN) if is_signalling(b) else u32(FPSCR.VXCVI)
    sign = b & SIGN
    exponent, significand = unpack(b)
    if exponent > 63:
        return ~largest if sign else largest, u32(FPSCR.VXCVI)
    whole = u64(0)
    rest = u64(significand != 0)
    if exponent == 63:
        whole = significand
        rest = u64(0)
    elif exponent >= 0:
        whole = significand >> u64(63 - exponent)
        rest = significand << u64(exponent + 1)
    elif exponent == -1:
        rest = significand
    status = u32(0)
    if rest != 0:
        status = u32(FPSCR.XX | FPSCR.FI)
        if rounds_up(sign, rest, u64(SIGN), whole & 1 != 0, control):
            status |= FPSCR.FR
            whole += 1
    if whole > largest + u64(sign != 0):
        return ~largest if sign else largest, u32(FPSCR.VXCVI)
    return -whole if sign else whole, status


@native
def from_integer(b: u64, control: u32) -> tuple[u64, u32]:
    """fcfid."""
    if b == 0:
        return zero(b)
    sign = b & SIGN
    magnitude = -b if sign else b
    n = clz(magnitude)
    return round_pack(sign, i32(63) - i32(n), magnitude << n, u32(0), control)


@native
def compare(a: u64, b: u64) -> u8:
    """The CR field of a comparison: 8 less, 4 greater, 2 equal, 1 unordered."""
    if is_nan(a) or is_nan(b):
        return u8(1)
    if a == b or (a | b) & MAGNITUDE == 0:
        return u8(2)
    if (a ^ b) & SIGN:
        return u8(8) if a & SIGN else u8(4)
    return u8(8) if (a < b) == (a & SIGN == 0) else u8(4)


@native
def reciprocal_estimate(b: u64, control: u32) -> tuple[u64, u32]:
    """fres: the cores' tables are not public; this is 1/b correctly rounded, where 1 in 256 is asked for."""
    result, status = divide(u64(ONE), b, u32(1), control)
    return result, status & ESTIMATE_EFFECTS


@native
def root_estimate(b: u64, control: u32) -> tuple[u64, u32]:
    """frsqrte: 1 over the root, both correctly rounded, where 1 in 32 is asked for."""
    if is_nan(b):
        return propagate(u64(0), b, u64(0), u32(0), u32(0))
    if is_zero(b):
        return infinity(b & SIGN, u32(FPSCR.ZX))
    if i64(b) < 0:
        return invalid(u32(FPSCR.VXSQRT))
    if is_special(b):
        return zero(u64(0))
    root, _ = square_root(b, control)
    result, status = divide(u64(ONE), root, u32(0), control)
    return result, status & ESTIMATE_EFFECTS


@native
def double_of(word: u32) -> u64:
    """DOUBLE(): a single's bits in double format, as lfs loads them (Book I, 4.6.2); SNaNs stay what they are."""
    sign = u64(word & 0x8000_0000) << 32
    magnitude = u64(word & 0x7FFF_FFFF)
    if magnitude >= 0x7F80_0000:
        return sign | magnitude << 29 | 0x7000_0000_0000_0000
    if magnitude >= 0x0080_0000:
        return sign | (magnitude << 29) + 0x3800_0000_0000_0000
    if magnitude == 0:
        return sign
    n = clz(magnitude)
    return sign | (u64(937) - n) << 52 | magnitude << n << 1 >> 12


@native
def single_of(a: u64) -> u32:
    """SINGLE(): what stfs stores (Book I, 4.6.3). Numbers below the smallest single, undefined there, become 0."""
    exponent = u32(a >> 52 & 0x7FF)
    if exponent > 896 or is_zero(a):
        return u32(a >> 32 & 0xC000_0000) | u32(a >> 29 & 0x3FFF_FFFF)
    sign = u32(a >> 32 & 0x8000_0000)
    if exponent < 874:
        return sign
    return sign | u32((a & 0x000F_FFFF_FFFF_FFFF | 0x0010_0000_0000_0000) >> u64(926 - exponent))
