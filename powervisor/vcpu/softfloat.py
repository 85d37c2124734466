"""Binary floating point on bit patterns, exactly as Power ISA 2.06 Book I, 4.3 - 4.4 and 4.6 define it: the parts.

Every operation returns (result, status): the FPR pattern and the FPSCR bits the operation causes (exceptions without
FX, FEX and VX; FR; FI; FPRF). `control` is FPSCR; only its enable bits and RN are looked at. `single` is 1 for the
single-precision forms, whose results are rounded once, to single, and kept in double format.

A finite number is worked on as (sign at bit 63, exponent, significand with bit 63 set): significand / 2**63 *
2**exponent; bit 0 also stands for everything lost below it.
"""

from __future__ import annotations

from ..isa.registers import FPSCR
from ..native.ints import i32, u32, u64, u128
from ..native.lang import clz, native

SIGN = 0x8000_0000_0000_0000
MAGNITUDE = 0x7FFF_FFFF_FFFF_FFFF
NEXT_EXPONENT = 1 << 52
"""Adding it makes the last exponent field zero, so that a test finds it without a comparison."""
INFINITY = 0x7FF0_0000_0000_0000
QUIET = 0x0008_0000_0000_0000
DEFAULT_NAN = 0x7FF8_0000_0000_0000
LARGEST = 0x7FEF_FFFF_FFFF_FFFF
LARGEST_SINGLE = 0x47EF_FFFF_E000_0000
BELOW_SINGLE = 0x1FFF_FFFF
"""Significand bits a double has and a single has not."""

ZERO_EXPONENT = -20000
"""Exponent `unpack` gives to zero: far below every other."""


class FPRF:
    """FPSCR[FPRF] in place: C and the condition code FL, FG, FE, FU (Book I, figure 35)."""

    QUIET_NAN = 0x11000
    C = 0x10000
    FL = 0x08000
    FG = 0x04000
    FE = 0x02000
    FU = 0x01000
    FPCC = 0x0F000


@native(inline=True)
def is_special(a: u64) -> bool:
    """Infinity or NaN."""
    return a + NEXT_EXPONENT & INFINITY == 0


@native(inline=True)
def is_nan(a: u64) -> bool:
    """Quiet or signalling NaN."""
    return a & MAGNITUDE > INFINITY


@native(inline=True)
def is_signalling(a: u64) -> bool:
    """Signalling NaN."""
    return is_nan(a) and a & QUIET == 0


@native(inline=True)
def is_zero(a: u64) -> bool:
    """Zero of either sign."""
    return a & MAGNITUDE == 0


@native(inline=True)
def unpack(a: u64) -> tuple[i32, u64]:
    """Exponent and significand of a finite number; (ZERO_EXPONENT, 0) of zero."""
    field = i32(a >> 52 & 0x7FF)
    if field != 0:
        return field - 1023, a << 11 | SIGN
    fraction = a << 12
    if fraction == 0:
        return i32(ZERO_EXPONENT), u64(0)
    n = clz(fraction)
    return i32(-1023) - i32(n), fraction << n


@native(inline=True)
def shift_sticky(value: u64, count: u32) -> u64:
    """Shift right by any count, keeping in bit 0 that something was lost."""
    if count == 0:
        return value
    if count > 63:
        return u64(value != 0)
    return value >> u64(count) | u64(value & (u64(1) << u64(count)) - 1 != 0)


@native(inline=True)
def shift_sticky_wide(value: u128, count: u32) -> u128:
    """`shift_sticky` of 128 bits."""
    if count == 0:
        return value
    if count > 127:
        return u128(value != 0)
    return value >> u128(count) | u128(value & (u128(1) << u128(count)) - 1 != 0)


# ---- results -------------------------------------------------------------------------------------------------------


@native(inline=True)
def class_infinity(sign: u64) -> u32:
    """FPRF of an infinity."""
    return u32(FPRF.FL | FPRF.FU) if sign else u32(FPRF.FG | FPRF.FU)


@native(inline=True)
def class_zero(sign: u64) -> u32:
    """FPRF of a zero."""
    return u32(FPRF.C | FPRF.FE) if sign else u32(FPRF.FE)


@native(inline=True)
def class_normal(sign: u64) -> u32:
    """FPRF of a normalised number; a denormalised one has C too."""
    return u32(FPRF.FL) if sign else u32(FPRF.FG)


@native(inline=True)
def infinity(sign: u64, status: u32) -> tuple[u64, u32]:
    """An infinity."""
    return sign | INFINITY, status | class_infinity(sign)


@native(inline=True)
def zero(sign: u64) -> tuple[u64, u32]:
    """An exact zero."""
    return sign, class_zero(sign)


@native(inline=True)
def zero_of_sum(control: u32) -> tuple[u64, u32]:
    """The zero of x - x: negative only when rounding toward -infinity."""
    return zero(u64(SIGN) if control & FPSCR.RN == 3 else u64(0))


@native(inline=True)
def invalid(exception: u32) -> tuple[u64, u32]:
    """The generated quiet NaN of an invalid operation."""
    return u64(DEFAULT_NAN), exception | FPRF.QUIET_NAN


@native
def propagate(a: u64, b: u64, c: u64, single: u32, status: u32) -> tuple[u64, u32]:
    """The NaN a result is when operands are NaNs: the first of FRA, FRB, FRC, made quiet (Book I, 4.3.2)."""
    result = c
    if is_nan(a):
        result = a
    elif is_nan(b):
        result = b
    if is_signalling(a) or is_signalling(b) or is_signalling(c):
        status |= FPSCR.VXSNAN
    if single:
        result &= ~u64(BELOW_SINGLE)
    return result | QUIET, status | FPRF.QUIET_NAN


@native(inline=True)
def rounds_up(sign: u64, rest: u64, half: u64, odd: bool, control: u32) -> bool:
    """Whether a magnitude with a non-zero rest is rounded away from zero."""
    mode = control & FPSCR.RN
    if mode == 0:
        return rest > half or (rest == half and odd)
    if mode == 1:
        return False
    return (mode == 3) == (sign != 0)


@native
def round_pack(sign: u64, exponent: i32, significand: u64, single: u32, control: u32) -> tuple[u64, u32]:
    """Round a non-zero number to its precision and pack it (Book I, 4.3.6, 4.4.3 - 4.4.5).

    Tininess is detected before rounding. With UE or OE the exponent is adjusted instead of denormalising or
    overflowing; an adjusted exponent that leaves the double format (single forms on operands no single can hold,
    which the manual leaves undefined) wraps.
    """
    drop = u64(40) if single else u64(11)
    low = i32(-126) if single else i32(-1022)
    high = i32(127) if single else i32(1023)
    adjust = i32(192) if single else i32(1536)
    status = u32(0)
    denormalised = False
    if exponent < low:
        if control & FPSCR.UE:
            status = u32(FPSCR.UX)
            exponent += adjust
        else:
            denormalised = True
            significand = shift_sticky(significand, u32(low - exponent))
            exponent = low
    unit = u64(1) << drop
    rest = significand & (unit - 1)
    significand -= rest
    if rest != 0:
        status |= FPSCR.XX | FPSCR.FI
        if denormalised:
            status |= FPSCR.UX
        if rounds_up(sign, rest, unit >> 1, significand & unit != 0, control):
            status |= FPSCR.FR
            significand += unit
            if significand == 0:
                significand = u64(SIGN)
                exponent += 1
    if exponent > high:
        if control & FPSCR.OE == 0:
            return overflow(sign, single, control)
        status |= FPSCR.OX
        exponent -= adjust
    if significand & SIGN == 0:
        if significand == 0:
            return sign, status | class_zero(sign)
        status |= FPRF.C | class_normal(sign)
        if single == 0:
            return sign | significand >> 11, status
        n = clz(significand)
        significand = significand << n
        exponent -= i32(n)
    else:
        status |= class_normal(sign)
    return sign | (u64(exponent + 1023) & 0x7FF) << 52 | significand << 1 >> 12, status


@native
def overflow(sign: u64, single: u32, control: u32) -> tuple[u64, u32]:
    """The result of a disabled overflow: infinity or the largest number. FR, undefined there, tells which."""
    status = u32(FPSCR.OX | FPSCR.XX | FPSCR.FI)
    mode = control & FPSCR.RN
    if mode == 1 or (mode == 2 and sign != 0) or (mode == 3 and sign == 0):
        largest = u64(LARGEST_SINGLE) if single else u64(LARGEST)
        return sign | largest, status | class_normal(sign)
    return infinity(sign, status | FPSCR.FR)


@native(inline=True)
def negated(result: u64, status: u32) -> tuple[u64, u32]:
    """The negative of a rounded result and of its class; a NaN stays as it is."""
    if is_nan(result):
        return result, status
    change = u32(FPRF.C) if status & FPRF.FE else u32(FPRF.FL | FPRF.FG)
    return result ^ SIGN, status ^ change


@native(inline=True)
def minus(a: u64) -> u64:
    """The negative of an operand; a NaN stays as it is."""
    return a if is_nan(a) else a ^ SIGN
