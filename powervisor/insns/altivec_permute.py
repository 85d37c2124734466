"""AltiVec permutation: merges, packs, unpacks, splats, vperm, vsel, whole-register shifts, and moves (Book I, 6.8)."""

# Annotations name static parameters that are types:
# ruff: noqa: F821
# mypy: disable-error-code="name-defined, attr-defined, operator, no-any-return"

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..isa.registers import VSCR
from ..native.ints import i64, u8, u16, u32, u64, u128
from ..native.lang import Static, native
from ..native.vectors import (
    i16x8,
    i32x4,
    lanes,
    lanes_eq,
    lanes_max,
    lanes_min,
    lookup,
    shuffle,
    splat,
    u8x16,
    u16x8,
    u32x4,
    u64x2,
)
from ..vcpu.ops import require_altivec
from ..vcpu.state import Vcpu
from .altivec import WIDTHS, va, vx, vx_saturating, vx_unary
from .storage import named

COUNTING = u8x16(0x00010203_04050607_08090A0B_0C0D0E0F)
"""Byte n holds n."""

# ---- merge ---------------------------------------------------------------------------------------------------------


def merge(name: str, title: str, xo: int, T: Any, start: int) -> None:
    """Declare an interleaving of half the lanes of two registers, from lane `start`."""
    indices = tuple(n + side for n in range(start, start + T.count // 2) for side in (0, T.count))

    @native(inline=True)
    def interleave(T: Static, a: T, b: T) -> T:
        return shuffle(a, b, indices)

    vx(name, title, xo, T, interleave, hot=True)


for _row, _kind in enumerate((u8x16, u16x8, u32x4)):
    _width = WIDTHS[_kind.lane.bits]
    _letter = _width[0].lower()
    merge(f"vmrgh{_letter}", f"Vector Merge High {_width}", 12 + 64 * _row, _kind, 0)
    merge(f"vmrgl{_letter}", f"Vector Merge Low {_width}", 268 + 64 * _row, _kind, _kind.count // 2)

# ---- pack ----------------------------------------------------------------------------------------------------------

LOW_BYTES, LOW_HALFWORDS = tuple(range(1, 32, 2)), tuple(range(1, 16, 2))
"""The lower halves of the lanes of two registers."""


@native(inline=True)
def lower_halves(T: Static, a: T, b: T) -> u128:
    """The lower halves of the lanes of two registers."""
    if T.lane.bits == 16:
        return u128(shuffle(u8x16(a), u8x16(b), LOW_BYTES))
    return u128(shuffle(u16x8(a), u16x8(b), LOW_HALFWORDS))


@native(inline=True)
def pack_modulo(T: Static, a: T, b: T) -> T:
    """Each lane truncated to half its width."""
    return T(lower_halves(T, a, b))


def pack(name: str, title: str, xo: int, T: Any, signed: bool) -> None:
    """Declare a saturating pack to half the width, with results of a signedness."""
    half = T.lane.bits // 2
    low, high = (-(1 << half - 1), (1 << half - 1) - 1) if signed else (0, (1 << half) - 1)

    @native(inline=True)
    def held(T: Static, x: T) -> T:
        if T.lane.signed:
            return lanes_max(lanes_min(x, high), low)
        return lanes_min(x, high)

    @native(inline=True)
    def pack_saturate(T: Static, a: T, b: T) -> tuple[u128, u128]:
        return lower_halves(T, held(T, a), held(T, b)), u128((held(T, a) ^ a) | (held(T, b) ^ b))

    vx_saturating(name, title, xo, T, pack_saturate, hot=True)


vx("vpkuhum", "Vector Pack Unsigned Halfword Unsigned Modulo", 14, u16x8, pack_modulo, hot=True)
vx("vpkuwum", "Vector Pack Unsigned Word Unsigned Modulo", 78, u32x4, pack_modulo, hot=True)
pack("vpkuhus", "Vector Pack Unsigned Halfword Unsigned Saturate", 142, u16x8, False)
pack("vpkuwus", "Vector Pack Unsigned Word Unsigned Saturate", 206, u32x4, False)
pack("vpkshus", "Vector Pack Signed Halfword Unsigned Saturate", 270, i16x8, False)
pack("vpkswus", "Vector Pack Signed Word Unsigned Saturate", 334, i32x4, False)
pack("vpkshss", "Vector Pack Signed Halfword Signed Saturate", 398, i16x8, True)
pack("vpkswss", "Vector Pack Signed Word Signed Saturate", 462, i32x4, True)


@native(inline=True)
def pixel16(x: u32x4) -> u32x4:
    """8:8:8:8 pixels to 1:5:5:5: the lowest bit of the first byte, the upper five of the others."""
    return (x >> 9 & 0xFC00) | (x >> 6 & 0x03E0) | (x >> 3 & 0x001F)


@native(inline=True)
def pack_pixel(T: Static, a: T, b: T) -> T:
    """Two registers of pixels to one."""
    return T(lower_halves(T, pixel16(a), pixel16(b)))


vx("vpkpx", "Vector Pack Pixel", 782, u32x4, pack_pixel)

# ---- unpack --------------------------------------------------------------------------------------------------------


def unpack(name: str, title: str, xo: int, T: Any, narrow: Any, start: int, pixel: bool = False) -> None:
    """Declare an unpack of half the lanes of a register of `narrow` lanes, from lane `start`, to signed lanes `T`."""
    indices = tuple(n for n in range(start, start + T.count) for _ in range(2))

    @native(inline=True)
    def widen(T: Static, b: T) -> u128:
        wide = T(shuffle(narrow(b), narrow(b), indices)) >> (T.lane.bits // 2)
        if pixel:
            return u128((wide & -0x100_0000) | (wide << 6 & 0x1F_0000) | (wide << 3 & 0x1F00) | (wide & 0x1F))
        return u128(wide)

    vx_unary(name, title, xo, T, widen, hot=not pixel)


unpack("vupkhsb", "Vector Unpack High Signed Byte", 526, i16x8, u8x16, 0)
unpack("vupklsb", "Vector Unpack Low Signed Byte", 654, i16x8, u8x16, 8)
unpack("vupkhsh", "Vector Unpack High Signed Halfword", 590, i32x4, u16x8, 0)
unpack("vupklsh", "Vector Unpack Low Signed Halfword", 718, i32x4, u16x8, 4)
unpack("vupkhpx", "Vector Unpack High Pixel", 846, i32x4, u16x8, 0, pixel=True)
unpack("vupklpx", "Vector Unpack Low Pixel", 974, i32x4, u16x8, 4, pixel=True)

# ---- splat ---------------------------------------------------------------------------------------------------------


@native(field_function=True)
def byte_chosen(uim: u32) -> u32:
    """Four times the number of the byte."""
    return (uim & 15) * 0x0101_0101


@native(field_function=True)
def halfword_chosen(uim: u32) -> u32:
    """Twice the numbers of the halfword's bytes."""
    return (uim & 7) * 0x0202_0202 + 0x0001_0001


@native(field_function=True)
def word_chosen(uim: u32) -> u32:
    """The numbers of the word's bytes."""
    return (uim & 3) * 0x0404_0404 + 0x0001_0203


def splat_lane(name: str, title: str, encoding: str, chosen: Any) -> None:
    """Declare a splat of one lane."""

    @insn(f"4 vrt:5 {encoding}:11", f"{name} vrt,vrb,uim", needs="altivec", hot=True)
    @named(name, title)
    def splat_one(cpu: Vcpu, vrt: u32, uim: u32, vrb: u32) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = u128(lookup(u8x16(cpu.vr[vrb]), u8x16(splat(u32x4, chosen(uim)))))


splat_lane("vspltb", "Vector Splat Byte", "/:1 uim:4 vrb:5 524", byte_chosen)
splat_lane("vsplth", "Vector Splat Halfword", "/:2 uim:3 vrb:5 588", halfword_chosen)
splat_lane("vspltw", "Vector Splat Word", "/:3 uim:2 vrb:5 652", word_chosen)


@native(field_function=True)
def bytes_of(sim: i64) -> u32:
    """Four equal bytes."""
    return u32(u8(sim)) * 0x0101_0101


@native(field_function=True)
def halfwords_of(sim: i64) -> u32:
    """Two equal halfwords."""
    return u32(u16(sim)) * 0x0001_0001


@native(field_function=True)
def word_of(sim: i64) -> u32:
    """The word."""
    return u32(sim)


def splat_immediate(name: str, title: str, xo: int, word: Any) -> None:
    """Declare a splat of an immediate."""

    @insn(f"4 vrt:5 sim:s5 /:5 {xo}:11", f"{name} vrt,sim", needs="altivec", hot=True)
    @named(name, title)
    def splat_value(cpu: Vcpu, vrt: u32, sim: i64) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = u128(splat(u32x4, word(sim)))


splat_immediate("vspltisb", "Vector Splat Immediate Signed Byte", 780, bytes_of)
splat_immediate("vspltish", "Vector Splat Immediate Signed Halfword", 844, halfwords_of)
splat_immediate("vspltisw", "Vector Splat Immediate Signed Word", 908, word_of)

# ---- permute and select --------------------------------------------------------------------------------------------


@native(inline=True)
def permute(T: Static, a: T, b: T, c: T) -> T:
    """For each byte of c, the byte of a (0 .. 15) or b (16 .. 31) that its low five bits number."""
    from_a = lanes_eq(c & 16, 0)
    return (lookup(a, c) & from_a) | (lookup(b, c) & ~from_a)


@native(inline=True)
def select_bits(T: Static, a: T, b: T, c: T) -> T:
    """The bits of b where c has ones, of a elsewhere."""
    return (a & ~c) | (b & c)


va("vperm", "Vector Permute", 43, u8x16, permute, hot=True)
va("vsel", "Vector Select", 42, u32x4, select_bits, hot=True)

# ---- shifts of the whole register ----------------------------------------------------------------------------------


@native(field_function=True)
def first_chosen(sh: u32) -> u64:
    """The numbers of the eight bytes from `sh` on."""
    return u64(sh) * 0x0101_0101_0101_0101 + 0x0001_0203_0405_0607


@native(field_function=True)
def last_chosen(sh: u32) -> u64:
    """The numbers of the next eight."""
    return u64(sh) * 0x0101_0101_0101_0101 + 0x0809_0A0B_0C0D_0E0F


@insn("4 vrt:5 vra:5 vrb:5 /:1 sh:4 44:6", "vsldoi vrt,vra,vrb,sh", needs="altivec", hot=True)
def vsldoi(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, sh: u32) -> None:
    """Vector Shift Left Double by Octet Immediate"""
    require_altivec(cpu)
    chosen = u8x16(lanes(u64x2, first_chosen(sh), last_chosen(sh)))
    cpu.vr[vrt] = u128(permute(u8x16, u8x16(cpu.vr[vra]), u8x16(cpu.vr[vrb]), chosen))


@insn("4 vrt:5 vra:5 vrb:5 452:11", "vsl vrt,vra,vrb", needs="altivec")
def vsl(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
    """Vector Shift Left"""
    require_altivec(cpu)
    cpu.vr[vrt] = cpu.vr[vra] << (cpu.vr[vrb] & 7)


@insn("4 vrt:5 vra:5 vrb:5 708:11", "vsr vrt,vra,vrb", needs="altivec")
def vsr(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
    """Vector Shift Right"""
    require_altivec(cpu)
    cpu.vr[vrt] = cpu.vr[vra] >> (cpu.vr[vrb] & 7)


@insn("4 vrt:5 vra:5 vrb:5 1036:11", "vslo vrt,vra,vrb", needs="altivec")
def vslo(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
    """Vector Shift Left by Octet"""
    require_altivec(cpu)
    cpu.vr[vrt] = cpu.vr[vra] << (cpu.vr[vrb] & 0x78)


@insn("4 vrt:5 vra:5 vrb:5 1100:11", "vsro vrt,vra,vrb", needs="altivec")
def vsro(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
    """Vector Shift Right by Octet"""
    require_altivec(cpu)
    cpu.vr[vrt] = cpu.vr[vra] >> (cpu.vr[vrb] & 0x78)


# ---- status, and moves from general registers ----------------------------------------------------------------------


@insn("4 vrt:5 /:5 /:5 1540:11", "mfvscr vrt", needs="altivec")
def mfvscr(cpu: Vcpu, vrt: u32) -> None:
    """Move From Vector Status and Control Register"""
    require_altivec(cpu)
    cpu.vr[vrt] = u128(cpu.vscr)


@insn("4 /:5 /:5 vrb:5 1604:11", "mtvscr vrb", needs="altivec")
def mtvscr(cpu: Vcpu, vrb: u32) -> None:
    """Move To Vector Status and Control Register"""
    require_altivec(cpu)
    cpu.vscr = u32(cpu.vr[vrb]) & (VSCR.NJ | VSCR.SAT)


@insn("31 vrt:5 ra:5 rb:5 46:10 /:1", "mviwsplt vrt,ra,rb", needs="altivec")
def mviwsplt(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
    """Move to Vector from Integer Word and Splat"""
    require_altivec(cpu)
    value = u128(cpu.gpr[ra] << 32 | cpu.gpr[rb] & 0xFFFF_FFFF)
    cpu.vr[vrt] = value << 64 | value


@insn("31 vrt:5 ra:5 rb:5 110:10 /:1", "mvidsplt vrt,ra,rb", needs="altivec 64")
def mvidsplt(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
    """Move to Vector from Integer Doubleword and Splat"""
    require_altivec(cpu)
    cpu.vr[vrt] = u128(cpu.gpr[ra]) << 64 | u128(cpu.gpr[rb])
