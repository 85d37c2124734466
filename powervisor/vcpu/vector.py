"""AltiVec beyond lanes: VSCR, CR6, quadword accesses, and the floating-point rules of VSCR[NJ] and NaNs.

Floating-point lanes are computed by the host and then put right (`exact...`), lane by lane without branches. The
stencils compute the same and leave to the handler when a lane is `unusual`, which puts it right.
"""

# Native functions return what the words give, which mypy knows as Any:
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from ..isa.registers import MAS2, VSCR
from ..native.ints import u8, u32, u64, u128
from ..native.lang import (
    at,
    host_f32_to_f64,
    host_fadd,
    host_feq,
    host_flt,
    host_fmul,
    host_fsub,
    likely,
    native,
    select,
)
from ..native.lang import load as load_host
from ..native.lang import store as store_host
from ..native.vectors import (
    host_fma4,
    lane,
    lanes,
    lanes_eq,
    lanes_gt,
    shuffle,
    splat,
    u8x16,
    u32x4,
)
from .access import load_slow, soft_entry, store_slow
from .mmu import READ, WRITE, data_space, soft_tag, translate
from .ops import EQ, LT, address, optimistic, to_handler
from .state import TlbEntry, Vcpu

ALL_ONES = (1 << 128) - 1

SIGN = 0x8000_0000
MAGNITUDE = 0x7FFF_FFFF
INFINITY = 0x7F80_0000
QUIET = 0x0040_0000
DEFAULT_NAN = 0x7FC0_0000
SMALLEST_NORMAL = 0x0080_0000
ONE = 0x3F80_0000


@native(inline=True)
def saturates(cpu: Vcpu, saturated: u128) -> None:
    """Set VSCR[SAT] when any bit of `saturated` is set."""
    cpu.vscr |= u32(saturated != 0)  # SAT is the lowest bit


@native(inline=True)
def record6(cpu: Vcpu, mask: u128) -> None:
    """CR6 of a compare: all lanes true, all lanes false (Book I, 6.6.3)."""
    cpu.cr[6] = select(mask == ALL_ONES, LT, u8(0)) | select(mask == 0, EQ, u8(0))


# ---- quadword accesses ---------------------------------------------------------------------------------------------


REVERSED = tuple(range(15, -1, -1))


@native(inline=True)
def reversed_bytes(value: u128) -> u128:
    """The other byte order, by a shuffle: a register stored in halves would stall its next reader."""
    return u128(shuffle(u8x16(value), u8x16(value), REVERSED))


@native(inline=True)
def load_vector(cpu: Vcpu, ea: u64) -> u128:
    """The quadword an effective address lies in."""
    where = address(cpu, ea) & 0xFFFF_FFFF_FFFF_FFF0
    soft = soft_entry(cpu, where)
    if likely(soft.read == soft_tag(where)):
        return reversed_bytes(load_host(u128, where + soft.addend))
    return load_vector_slow(cpu, where)


@native(inline=True)
def store_vector(cpu: Vcpu, ea: u64, value: u128) -> None:
    """Store the quadword an effective address lies in."""
    where = address(cpu, ea) & 0xFFFF_FFFF_FFFF_FFF0
    soft = soft_entry(cpu, where)
    if likely(soft.write == soft_tag(where)):
        store_host(u128, where + soft.addend, reversed_bytes(value))
    else:
        store_vector_slow(cpu, where, value)


@native(cold=True)
def load_vector_slow(cpu: Vcpu, ea: u64) -> u128:
    """Two doublewords, in the byte order of the page."""
    first = u128(load_slow(cpu, ea, u32(8)))
    second = u128(load_slow(cpu, ea + 8, u32(8)))
    return second << 64 | first if little_endian(cpu, ea, u32(READ)) else first << 64 | second


@native(cold=True)
def store_vector_slow(cpu: Vcpu, ea: u64, value: u128) -> None:
    """Two doublewords, in the byte order of the page."""
    little = little_endian(cpu, ea, u32(WRITE))
    store_slow(cpu, ea, u64(value) if little else u64(value >> 64), u32(8))
    store_slow(cpu, ea + 8, u64(value >> 64) if little else u64(value), u32(8))


@native(cold=True)
def little_endian(cpu: Vcpu, ea: u64, kind: u32) -> bool:
    """Whether an address lies in a page with the E attribute; READ or WRITE must be permitted."""
    return at(TlbEntry, translate(cpu, ea, data_space(cpu), kind, u32(0))).mas2 & MAS2.E != 0


@native(inline=True)
def element_place(cpu: Vcpu, ea: u64, size: u32) -> u64:
    """The byte of a register at which the element to store at an address begins: counted from the end in a page with
    the E attribute (Book I, 6.4)."""
    place = ea & (16 - u64(size))
    if not optimistic():
        if soft_entry(cpu, ea).write != soft_tag(ea) and little_endian(cpu, ea, u32(WRITE)):
            return place ^ (16 - u64(size))
    return place


# ---- single precision ----------------------------------------------------------------------------------------------


@native(inline=True)
def is_nan(x: u32x4) -> u32x4:
    """All ones in NaN lanes."""
    return lanes_gt(x & MAGNITUDE, INFINITY)


@native(inline=True)
def rank(x: u32x4) -> u32x4:
    """Integers in the order of the magnitudes, but with zero on top: denormals are the lowest."""
    return (x & MAGNITUDE) - 1


@native(inline=True)
def is_denormal(x: u32x4) -> u32x4:
    """All ones in denormal lanes."""
    return lanes_gt(splat(u32x4, u32(SMALLEST_NORMAL - 1)), rank(x))


@native(inline=True)
def choose(mask: u32x4, yes: u32x4, no: u32x4) -> u32x4:
    """`yes` where the mask is set, `no` elsewhere."""
    return yes & mask | no & ~mask


@native(inline=True)
def leave_if_unusual(result: u32x4, lowest: u32x4) -> None:
    """In a stencil, leave to the handler for a NaN, whose payload the host chose, for a result that may be below the
    normal numbers, and for operands (`lowest` is the least of their ranks) that VSCR[NJ] may turn into zeros."""
    tiny = lanes_gt(splat(u32x4, u32(SMALLEST_NORMAL)), rank(result))
    if u128(is_nan(result) | tiny | lanes_gt(splat(u32x4, u32(SMALLEST_NORMAL - 1)), lowest)) != 0:
        to_handler()


@native(inline=True)
def flush(cpu: Vcpu, x: u32x4) -> u32x4:
    """Denormals replaced by zeros of their sign when VSCR[NJ]=1."""
    nj = splat(u32x4, u32(0) - (cpu.vscr >> 16 & 1))
    return x & ~(is_denormal(x) & nj & MAGNITUDE)


@native(inline=True)
def operand(cpu: Vcpu, n: u32) -> u32x4:
    """A register as four singles."""
    return flush(cpu, u32x4(cpu.vr[n]))


@native(inline=True)
def quiet(a: u32x4, x: u32x4) -> u32x4:
    """The quiet form of a's NaNs, `x` elsewhere."""
    return choose(is_nan(a), a | QUIET, x)


@native(inline=True)
def exact1(cpu: Vcpu, x: u32x4, a: u32x4) -> u32x4:
    """The right result of an operation on `a` whose host result is `x` (AltiVec manual, 3.2.3)."""
    return flush(cpu, quiet(a, choose(is_nan(x), splat(u32x4, u32(DEFAULT_NAN)), x)))


@native(inline=True)
def exact2(cpu: Vcpu, x: u32x4, a: u32x4, b: u32x4) -> u32x4:
    """The right result of an operation on `a` and `b`: the first NaN operand prevails."""
    return quiet(a, exact1(cpu, x, b))


@native
def below_normal(a: u32, b: u32, c: u32) -> bool:
    """Whether |a * b + c|, which rounds to the smallest normal single, is below it.

    The product is exact in double precision; the error of the sum (Knuth's two-sum) tells on which side it lies.
    """
    p = host_fmul(host_f32_to_f64(a), host_f32_to_f64(b))
    c8 = host_f32_to_f64(c)
    total = host_fadd(p, c8)
    part = host_fsub(total, p)
    error = host_fadd(host_fsub(p, host_fsub(total, part)), host_fsub(c8, part))
    limit = host_f32_to_f64(u32(SMALLEST_NORMAL))
    sign = total & 0x8000_0000_0000_0000
    size = total ^ sign
    if host_feq(size, limit):
        return host_flt(error ^ sign, u64(0))
    return host_flt(size, limit)


@native(cold=True)
def flush_rounded(x: u32x4, a: u32x4, b: u32x4, c: u32x4) -> u32x4:
    """Zeros in place of the smallest normals that a * b + c reached only by rounding: tininess precedes rounding."""
    kept0 = select(below_normal(lane(a, 0), lane(b, 0), lane(c, 0)), u32(SIGN), u32(0xFFFF_FFFF))
    kept1 = select(below_normal(lane(a, 1), lane(b, 1), lane(c, 1)), u32(SIGN), u32(0xFFFF_FFFF))
    kept2 = select(below_normal(lane(a, 2), lane(b, 2), lane(c, 2)), u32(SIGN), u32(0xFFFF_FFFF))
    kept3 = select(below_normal(lane(a, 3), lane(b, 3), lane(c, 3)), u32(SIGN), u32(0xFFFF_FFFF))
    edge = lanes_eq(x & MAGNITUDE, SMALLEST_NORMAL)
    return choose(edge, x & lanes(u32x4, kept0, kept1, kept2, kept3), x)


@native(inline=True)
def exact_fused(cpu: Vcpu, a: u32x4, c: u32x4, b: u32x4, addend: u32x4) -> u32x4:
    """a * c + addend, where `addend` is `b` or its negative: NaNs prevail in the order a, b, c."""
    x = host_fma4(a, c, addend)
    if cpu.vscr & VSCR.NJ:
        x = flush_rounded(x, a, c, addend)
    return quiet(a, quiet(b, exact1(cpu, x, c)))
