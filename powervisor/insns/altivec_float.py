"""AltiVec single precision (Book I, 6.11): round to nearest, no exceptions, NaNs and denormals as VSCR[NJ] says.

Hot entries compute by the host and leave a stencil for the handler where a lane is unusual; see vcpu.vector.
"""

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..native.ints import i32, i64, u32, u64, u128
from ..native.lang import clz, host_f64_to_f32, host_fmul, host_i64_to_f64, native, static
from ..native.vectors import (
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
    i32x4,
    lane,
    lanes,
    lanes_gt,
    lanes_min,
    splat,
    u32x4,
)
from ..vcpu.fpscr import lend_host_flags
from ..vcpu.ops import optimistic, require_altivec
from ..vcpu.state import Vcpu
from ..vcpu.vector import (
    DEFAULT_NAN,
    INFINITY,
    MAGNITUDE,
    ONE,
    SIGN,
    choose,
    exact1,
    exact2,
    exact_fused,
    is_nan,
    leave_if_unusual,
    operand,
    quiet,
    rank,
    record6,
    saturates,
)
from .storage import named

# ---- arithmetic ----------------------------------------------------------------------------------------------------


def arithmetic(name: str, title: str, xo: int, host: Any) -> None:
    """Declare vaddfp or vsubfp."""

    @insn(f"4 vrt:5 vra:5 vrb:5 {xo}:11", f"{name} vrt,vra,vrb", needs="altivec", hot=True)
    @named(name, title)
    def two(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
        require_altivec(cpu)
        lend_host_flags(cpu)
        if optimistic():
            p, q = u32x4(cpu.vr[vra]), u32x4(cpu.vr[vrb])
            x = host(p, q)
            leave_if_unusual(x, lanes_min(rank(p), rank(q)))
            cpu.vr[vrt] = u128(x)
        else:
            a, b = operand(cpu, vra), operand(cpu, vrb)
            cpu.vr[vrt] = u128(exact2(cpu, host(a, b), a, b))


arithmetic("vaddfp", "Vector Add Single-Precision", 10, host_add4)
arithmetic("vsubfp", "Vector Subtract Single-Precision", 74, host_sub4)


def fused(name: str, title: str, xo: int, negative: bool) -> None:
    """Declare vmaddfp (a * c + b) or vnmsubfp (-(a * c - b))."""

    @insn(f"4 vrt:5 vra:5 vrb:5 vrc:5 {xo}:6", f"{name} vrt,vra,vrc,vrb", needs="altivec", hot=True)
    @named(name, title)
    def three(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, vrc: u32) -> None:
        require_altivec(cpu)
        lend_host_flags(cpu)
        if optimistic():
            p, q, r = u32x4(cpu.vr[vra]), u32x4(cpu.vr[vrb]), u32x4(cpu.vr[vrc])
            x = host_fma4(p, r, q ^ SIGN) ^ SIGN if negative else host_fma4(p, r, q)
            leave_if_unusual(x, lanes_min(rank(p), lanes_min(rank(q), rank(r))))
            cpu.vr[vrt] = u128(x)
        else:
            a, b, c = operand(cpu, vra), operand(cpu, vrb), operand(cpu, vrc)
            if negative:
                y = exact_fused(cpu, a, c, b, b ^ SIGN)
                cpu.vr[vrt] = u128(choose(is_nan(y), y, y ^ SIGN))
            else:
                cpu.vr[vrt] = u128(exact_fused(cpu, a, c, b, b))


fused("vmaddfp", "Vector Multiply-Add Single-Precision", 46, False)
fused("vnmsubfp", "Vector Negative Multiply-Subtract Single-Precision", 47, True)


@native(inline=True)
def ordered(x: u32x4) -> i32x4:
    """Integers in the order of the singles, -0 below +0."""
    return i32x4(x) ^ i32x4(i32x4(x) >> 31 & MAGNITUDE)


def extreme(name: str, title: str, xo: int, largest: bool) -> None:
    """Declare vmaxfp or vminfp: +0 is above -0, a NaN prevails."""

    @insn(f"4 vrt:5 vra:5 vrb:5 {xo}:11", f"{name} vrt,vra,vrb", needs="altivec", hot=True)
    @named(name, title)
    def two(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
        require_altivec(cpu)
        a, b = operand(cpu, vra), operand(cpu, vrb)
        above = u32x4(lanes_gt(ordered(a), ordered(b)))
        x = choose(above, a, b) if largest else choose(above, b, a)
        cpu.vr[vrt] = u128(quiet(a, quiet(b, x)))


extreme("vmaxfp", "Vector Maximum Single-Precision", 1034, True)
extreme("vminfp", "Vector Minimum Single-Precision", 1098, False)

# ---- compares ------------------------------------------------------------------------------------------------------


def comparison(name: str, title: str, xo: int, host: Any) -> None:
    """Declare a compare; it is false of NaNs."""

    @insn(f"4 vrt:5 vra:5 vrb:5 rc:1 {xo}:10", f"{name}{{rc}} vrt,vra,vrb", needs="altivec", hot=True)
    @named(name, title)
    def compare(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, rc: u32) -> None:
        require_altivec(cpu)
        mask = u128(host(operand(cpu, vra), operand(cpu, vrb)))
        cpu.vr[vrt] = mask
        if rc:
            record6(cpu, mask)


comparison("vcmpeqfp", "Vector Compare Equal To Single-Precision", 198, host_eq4)
comparison("vcmpgefp", "Vector Compare Greater Than or Equal To Single-Precision", 454, host_ge4)
comparison("vcmpgtfp", "Vector Compare Greater Than Single-Precision", 710, host_gt4)


@insn("4 vrt:5 vra:5 vrb:5 rc:1 966:10", "vcmpbfp{rc} vrt,vra,vrb", needs="altivec")
def vcmpbfp(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, rc: u32) -> None:
    """Vector Compare Bounds Single-Precision"""
    require_altivec(cpu)
    a, b = operand(cpu, vra), operand(cpu, vrb)
    above, below = ~host_ge4(b, a), ~host_ge4(a, b ^ SIGN)
    outside = u128((above & 0x8000_0000) | (below & 0x4000_0000))
    cpu.vr[vrt] = outside
    if rc:
        record6(cpu, u128(outside != 0))  # CR6[EQ]: all within bounds; CR6[LT] never


# ---- conversions ---------------------------------------------------------------------------------------------------


@native(field_function=True)
def scale_down(uim: u32) -> u32:
    """The single 2^-uim."""
    return (127 - uim) << 23


@native(field_function=True)
def scale_up(uim: u32) -> u32:
    """The single 2^uim."""
    return (127 + uim) << 23


def from_integer(name: str, title: str, xo: int, T: Any, host: Any) -> None:
    """Declare vcfsx or vcfux: the integer over 2^uim."""

    @insn(f"4 vrt:5 uim:5 vrb:5 {xo}:11", f"{name} vrt,vrb,uim", needs="altivec", hot=True)
    @named(name, title)
    def convert(cpu: Vcpu, vrt: u32, uim: u32, vrb: u32) -> None:
        require_altivec(cpu)
        lend_host_flags(cpu)
        cpu.vr[vrt] = u128(host_mul4(host(T(cpu.vr[vrb])), splat(u32x4, scale_down(uim))))


from_integer("vcfux", "Vector Convert From Unsigned Fixed-Point Word", 778, u32x4, host_from_unsigned4)
from_integer("vcfsx", "Vector Convert From Signed Fixed-Point Word", 842, i32x4, host_from_signed4)


def to_integer(name: str, title: str, xo: int, host: Any, low: int, high: int) -> None:
    """Declare vctsxs or vctuxs: the number times 2^uim toward zero, saturated; 0 for a NaN.

    The result saturates of singles up to `low` and from `high` on.
    """

    @insn(f"4 vrt:5 uim:5 vrb:5 {xo}:11", f"{name} vrt,vrb,uim", needs="altivec", hot=True)
    @named(name, title)
    def convert(cpu: Vcpu, vrt: u32, uim: u32, vrb: u32) -> None:
        require_altivec(cpu)
        lend_host_flags(cpu)
        x = host_mul4(u32x4(cpu.vr[vrb]), splat(u32x4, scale_up(uim)))
        saturates(cpu, u128(host_ge4(splat(u32x4, u32(low)), x) | host_ge4(x, splat(u32x4, u32(high)))))
        cpu.vr[vrt] = u128(host(x))


MINUS_ONE, TWO_TO_32, TWO_TO_31, BELOW_MINUS_TWO_TO_31 = 0xBF80_0000, 0x4F80_0000, 0x4F00_0000, 0xCF00_0001
to_integer(
    "vctuxs", "Vector Convert To Unsigned Fixed-Point Word Saturate", 906, host_to_unsigned4, MINUS_ONE, TWO_TO_32
)
to_integer(
    "vctsxs", "Vector Convert To Signed Fixed-Point Word Saturate", 970, host_to_signed4,
    BELOW_MINUS_TWO_TO_31, TWO_TO_31,
)  # fmt: skip

# ---- rounding to integers ------------------------------------------------------------------------------------------

TWO_TO_23 = 0x4B00_0000
"""Singles from here on are integers."""


@native(inline=True)
def integral(x: u32x4, rounded: u32x4) -> u32x4:
    """`x` where it has no fraction, else `rounded` with the sign of x; NaNs are quiet."""
    return quiet(x, choose(lanes_gt(x & MAGNITUDE, TWO_TO_23 - 1), x, rounded | (x & SIGN)))


@native(inline=True)
def truncated(x: u32x4) -> u32x4:
    """Toward zero."""
    return integral(x, host_from_signed4(host_to_signed4(x)))


@native(inline=True)
def nearest(x: u32x4) -> u32x4:
    """To nearest even: adding 2^23 leaves no room for a fraction."""
    big = splat(u32x4, u32(TWO_TO_23))
    return integral(x, host_sub4(host_add4(x & MAGNITUDE, big), big))


@native(inline=True)
def upward(x: u32x4) -> u32x4:
    """Toward +infinity."""
    whole, one = truncated(x), splat(u32x4, u32(ONE))
    return choose(host_gt4(x, whole), host_add4(whole, one), whole)


@native(inline=True)
def downward(x: u32x4) -> u32x4:
    """Toward -infinity."""
    whole, one = truncated(x), splat(u32x4, u32(ONE))
    return choose(host_gt4(whole, x), host_sub4(whole, one), whole)


def unary(name: str, title: str, xo: int, operation: Any) -> None:
    """Declare `operation(u32x4) -> u32x4` on one register, right but for NaNs made and denormals."""

    @insn(f"4 vrt:5 /:5 vrb:5 {xo}:11", f"{name} vrt,vrb", needs="altivec")
    @named(name, title)
    def one(cpu: Vcpu, vrt: u32, vrb: u32) -> None:
        require_altivec(cpu)
        lend_host_flags(cpu)
        b = operand(cpu, vrb)
        cpu.vr[vrt] = u128(exact1(cpu, operation(b), b))


unary("vrfin", "Vector Round to Single-Precision Integer Nearest", 522, nearest)
unary("vrfiz", "Vector Round to Single-Precision Integer toward Zero", 586, truncated)
unary("vrfip", "Vector Round to Single-Precision Integer toward +Infinity", 650, upward)
unary("vrfim", "Vector Round to Single-Precision Integer toward -Infinity", 714, downward)

# ---- estimates -----------------------------------------------------------------------------------------------------
# Better than the 1/4096 (reciprocals), 1/16 (power) and 1/32 (logarithm) the architecture asks for; the tables of the
# silicon are not published.


@native(inline=True)
def reciprocal(x: u32x4) -> u32x4:
    """1 / x."""
    return host_div4(splat(u32x4, u32(ONE)), x)


@native(inline=True)
def reciprocal_root(x: u32x4) -> u32x4:
    """1 / sqrt(x)."""
    return host_div4(splat(u32x4, u32(ONE)), host_sqrt4(x))


ROOTS = tuple((32 - n, u64(round(2 ** (30 + 2.0**-n)))) for n in range(1, 25))
"""2^(2^-n) with 30 bits of fraction, and the bit that stands for 2^-n in a fraction of 32 bits."""


@native
def power(x: u32) -> u32:
    """2^x of a single that is no NaN."""
    exponent = x >> 23 & 0xFF
    negative = x >> 31 != 0
    if exponent >= 127 + 8:  # |x| >= 256
        return u32(0) if negative else u32(INFINITY)
    if exponent < 127 - 32:
        return u32(ONE)
    fixed = i64(x & 0x7F_FFFF | 0x80_0000) << 16 >> i64(127 + 7 - exponent)  # 32 bits of fraction
    if negative:
        fixed = -fixed
    fraction = u64(fixed) & 0xFFFF_FFFF
    root = u64(1 << 30)
    for bit, factor in static(ROOTS):
        if fraction >> bit & 1:
            root = root * factor >> 30
    whole = i32(fixed >> 32)
    significand = u32(root + 64 >> 7)
    if whole >= 128:
        return u32(INFINITY)
    if whole < -150:
        return u32(0)
    if whole < -126:
        shift = u32(-126 - whole)
        return (significand >> (shift - 1)) + 1 >> 1
    return (u32(whole + 127) << 23) + (significand - 0x80_0000)


@native
def logarithm(x: u32) -> u32:
    """log2 of a single that is no NaN."""
    if x & MAGNITUDE == 0:
        return u32(INFINITY | SIGN)
    if x & SIGN:
        return u32(DEFAULT_NAN)
    if x == INFINITY:
        return x
    significand = x & 0x7F_FFFF
    exponent = i64(x >> 23) - 127
    if x < 0x80_0000:
        shift = clz(significand) - 8
        significand = significand << shift
        exponent = -126 - i64(shift)
    value = u64(significand | 0x80_0000) << 8  # 31 bits of fraction
    fixed = exponent
    for _ in range(26):
        value = value * value >> 31
        high = value >> 32
        fixed = fixed << 1 | i64(high)
        value = value >> high
    return host_f64_to_f32(host_fmul(host_i64_to_f64(fixed), u64(TWO_TO_MINUS_26)))


TWO_TO_MINUS_26 = (1023 - 26) << 52
"""As a double."""


@native(inline=True)
def powers(x: u32x4) -> u32x4:
    """2^x."""
    return lanes(u32x4, power(lane(x, 0)), power(lane(x, 1)), power(lane(x, 2)), power(lane(x, 3)))


@native(inline=True)
def logarithms(x: u32x4) -> u32x4:
    """log2 of x."""
    return lanes(u32x4, logarithm(lane(x, 0)), logarithm(lane(x, 1)), logarithm(lane(x, 2)), logarithm(lane(x, 3)))


unary("vrefp", "Vector Reciprocal Estimate Single-Precision", 266, reciprocal)
unary("vrsqrtefp", "Vector Reciprocal Square Root Estimate Single-Precision", 330, reciprocal_root)
unary("vexptefp", "Vector 2 Raised to the Exponent Estimate Single-Precision", 394, powers)
unary("vlogefp", "Vector Log Base 2 Estimate Single-Precision", 458, logarithms)
