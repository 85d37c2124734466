"""Rotates and shifts (Book I, 3.3.13)."""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i32, i64, u8, u32, u64
from ..native.lang import native, rotl
from ..vcpu.state import Vcpu
from .fixed import finish


@native(field_function=True)
def mask64(first: u32, last: u32) -> u64:
    """Ones from bit `first` to bit `last` (0 is the most significant), wrapping round when first > last."""
    left = u64(0xFFFF_FFFF_FFFF_FFFF) >> u64(first)
    right = u64(0xFFFF_FFFF_FFFF_FFFF) << u64(63 - last)
    if first <= last:
        return left & right
    return left | right


@native(field_function=True)
def mask_word(mb: u32, me: u32) -> u64:
    """The mask of the 32-bit rotates: it wraps through the upper word when mb > me."""
    return mask64(mb + 32, me + 32)


@native(field_function=True)
def mask_from(mb: u32) -> u64:
    """Ones from bit mb to bit 63."""
    return mask64(mb, u32(63))


@native(field_function=True)
def mask_to(me: u32) -> u64:
    """Ones from bit 0 to bit me."""
    return mask64(u32(0), me)


@native(field_function=True)
def mask_between(mb: u32, sh: u32) -> u64:
    """Ones from bit mb to bit 63-sh."""
    return mask64(mb, 63 - sh)


@native(field_function=True)
def wraps(mb: u32, me: u32) -> u32:
    """Whether the mask of a 32-bit rotate wraps round."""
    return u32(mb > me)


@native(field_function=True)
def mask_low(mb: u32, me: u32) -> u32:
    """The low word of the mask of a 32-bit rotate."""
    return u32(mask_word(mb, me))


@native(inline=True)
def under_mask(word: u32, mb: u32, me: u32) -> u64:
    """A rotated word, repeated in both halves, under the mask, which reaches the upper half when it wraps."""
    if wraps(mb, me) != 0:
        return (u64(word) << 32 | u64(word)) & mask_word(mb, me)
    return u64(word & mask_low(mb, me))


@insn("21 rs:5 ra:5 sh:5 mb:5 me:5 rc:1", "rlwinm{rc} ra,rs,sh,mb,me", hot=True, split="sh", decided=wraps)
def rlwinm(cpu: Vcpu, rs: u32, ra: u32, sh: u32, mb: u32, me: u32, rc: u32) -> None:
    """Rotate Left Word Immediate then AND with Mask"""
    if sh == 0:
        finish(cpu, ra, under_mask(u32(cpu.gpr[rs]), mb, me), rc)
    else:
        finish(cpu, ra, under_mask(rotl(u32(cpu.gpr[rs]), sh), mb, me), rc)


@insn("23 rs:5 ra:5 rb:5 mb:5 me:5 rc:1", "rlwnm{rc} ra,rs,rb,mb,me", hot=True, decided=wraps)
def rlwnm(cpu: Vcpu, rs: u32, ra: u32, rb: u32, mb: u32, me: u32, rc: u32) -> None:
    """Rotate Left Word then AND with Mask"""
    finish(cpu, ra, under_mask(rotl(u32(cpu.gpr[rs]), u32(cpu.gpr[rb]) & 31), mb, me), rc)


@insn("20 rs:5 ra:5 sh:5 mb:5 me:5 rc:1", "rlwimi{rc} ra,rs,sh,mb,me", hot=True, decided=wraps)
def rlwimi(cpu: Vcpu, rs: u32, ra: u32, sh: u32, mb: u32, me: u32, rc: u32) -> None:
    """Rotate Left Word Immediate then Mask Insert"""
    a, word = cpu.gpr[ra], rotl(u32(cpu.gpr[rs]), sh)
    if wraps(mb, me) != 0:
        finish(cpu, ra, under_mask(word, mb, me) | a & ~mask_word(mb, me), rc)
    else:
        finish(cpu, ra, u64((u32(a) ^ word) & mask_low(mb, me)) ^ a, rc)


@insn("30 rs:5 ra:5 sh[4:0] mb[4:0] mb[5] 0:3 sh[5] rc:1", "rldicl{rc} ra,rs,sh,mb", needs="64", hot=True)
def rldicl(cpu: Vcpu, rs: u32, ra: u32, sh: u32, mb: u32, rc: u32) -> None:
    """Rotate Left Doubleword Immediate then Clear Left"""
    finish(cpu, ra, rotl(cpu.gpr[rs], sh) & mask_from(mb), rc)


@insn("30 rs:5 ra:5 sh[4:0] me[4:0] me[5] 1:3 sh[5] rc:1", "rldicr{rc} ra,rs,sh,me", needs="64", hot=True)
def rldicr(cpu: Vcpu, rs: u32, ra: u32, sh: u32, me: u32, rc: u32) -> None:
    """Rotate Left Doubleword Immediate then Clear Right"""
    finish(cpu, ra, rotl(cpu.gpr[rs], sh) & mask_to(me), rc)


@insn("30 rs:5 ra:5 sh[4:0] mb[4:0] mb[5] 2:3 sh[5] rc:1", "rldic{rc} ra,rs,sh,mb", needs="64", hot=True)
def rldic(cpu: Vcpu, rs: u32, ra: u32, sh: u32, mb: u32, rc: u32) -> None:
    """Rotate Left Doubleword Immediate then Clear"""
    finish(cpu, ra, rotl(cpu.gpr[rs], sh) & mask_between(mb, sh), rc)


@insn("30 rs:5 ra:5 sh[4:0] mb[4:0] mb[5] 3:3 sh[5] rc:1", "rldimi{rc} ra,rs,sh,mb", needs="64", hot=True)
def rldimi(cpu: Vcpu, rs: u32, ra: u32, sh: u32, mb: u32, rc: u32) -> None:
    """Rotate Left Doubleword Immediate then Mask Insert"""
    m = mask_between(mb, sh)
    finish(cpu, ra, rotl(cpu.gpr[rs], sh) & m | cpu.gpr[ra] & ~m, rc)


@insn("30 rs:5 ra:5 rb:5 mb[4:0] mb[5] 8:4 rc:1", "rldcl{rc} ra,rs,rb,mb", needs="64", hot=True)
def rldcl(cpu: Vcpu, rs: u32, ra: u32, rb: u32, mb: u32, rc: u32) -> None:
    """Rotate Left Doubleword then Clear Left"""
    finish(cpu, ra, rotl(cpu.gpr[rs], cpu.gpr[rb] & 63) & mask_from(mb), rc)


@insn("30 rs:5 ra:5 rb:5 me[4:0] me[5] 9:4 rc:1", "rldcr{rc} ra,rs,rb,me", needs="64", hot=True)
def rldcr(cpu: Vcpu, rs: u32, ra: u32, rb: u32, me: u32, rc: u32) -> None:
    """Rotate Left Doubleword then Clear Right"""
    finish(cpu, ra, rotl(cpu.gpr[rs], cpu.gpr[rb] & 63) & mask_to(me), rc)


# ---- shifts --------------------------------------------------------------------------------------------------------


@insn("31 rs:5 ra:5 rb:5 24:10 rc:1", "slw{rc} ra,rs,rb", hot=True)
def slw(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Shift Left Word"""
    wide = (cpu.gpr[rs] & 0xFFFF_FFFF) << (cpu.gpr[rb] & 63)
    finish(cpu, ra, wide & 0xFFFF_FFFF, rc)


@insn("31 rs:5 ra:5 rb:5 536:10 rc:1", "srw{rc} ra,rs,rb", hot=True)
def srw(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Shift Right Word"""
    finish(cpu, ra, (cpu.gpr[rs] & 0xFFFF_FFFF) >> (cpu.gpr[rb] & 63), rc)


@native(inline=True)
def shift_algebraic(cpu: Vcpu, ra: u32, s: i64, n: u64, rc: u32) -> None:
    """ra = s >> n (n < 64); XER[CA] when s is negative and a one bit was shifted out."""
    v = s >> n
    cpu.ca = u8((s < 0) & (v << n != s))
    finish(cpu, ra, u64(v), rc)


@insn("31 rs:5 ra:5 rb:5 792:10 rc:1", "sraw{rc} ra,rs,rb", hot=True)
def sraw(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Shift Right Algebraic Word"""
    shift_algebraic(cpu, ra, i64(i32(cpu.gpr[rs])), cpu.gpr[rb] & 63, rc)


@insn("31 rs:5 ra:5 sh:5 824:10 rc:1", "srawi{rc} ra,rs,sh", hot=True)
def srawi(cpu: Vcpu, rs: u32, ra: u32, sh: u32, rc: u32) -> None:
    """Shift Right Algebraic Word Immediate"""
    shift_algebraic(cpu, ra, i64(i32(cpu.gpr[rs])), u64(sh), rc)


@insn("31 rs:5 ra:5 rb:5 27:10 rc:1", "sld{rc} ra,rs,rb", needs="64", hot=True)
def sld(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Shift Left Doubleword"""
    n = cpu.gpr[rb] & 127
    finish(cpu, ra, cpu.gpr[rs] << (n & 63) if n < 64 else u64(0), rc)


@insn("31 rs:5 ra:5 rb:5 539:10 rc:1", "srd{rc} ra,rs,rb", needs="64", hot=True)
def srd(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Shift Right Doubleword"""
    n = cpu.gpr[rb] & 127
    finish(cpu, ra, cpu.gpr[rs] >> (n & 63) if n < 64 else u64(0), rc)


@insn("31 rs:5 ra:5 rb:5 794:10 rc:1", "srad{rc} ra,rs,rb", needs="64", hot=True)
def srad(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Shift Right Algebraic Doubleword"""
    s, n = i64(cpu.gpr[rs]), cpu.gpr[rb] & 127
    if n < 64:
        shift_algebraic(cpu, ra, s, n & 63, rc)
    else:
        cpu.ca = u8(s < 0)
        finish(cpu, ra, u64(s >> 63), rc)


@insn("31 rs:5 ra:5 sh[4:0] 413:9 sh[5] rc:1", "sradi{rc} ra,rs,sh", needs="64", hot=True)
def sradi(cpu: Vcpu, rs: u32, ra: u32, sh: u32, rc: u32) -> None:
    """Shift Right Algebraic Doubleword Immediate"""
    shift_algebraic(cpu, ra, i64(cpu.gpr[rs]), u64(sh), rc)
