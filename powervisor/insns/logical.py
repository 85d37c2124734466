"""Fixed-point logic, sign extension and bit counts (Book I, 3.3.12)."""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i8, i16, i32, u32, u64
from ..native.lang import clz, native, popcount
from ..vcpu.ops import record0
from ..vcpu.state import Vcpu
from .fixed import finish


@native(field_function=True)
def lower(ui: u32) -> u64:
    """An unsigned halfword immediate."""
    return u64(ui)


@native(field_function=True)
def upper(ui: u32) -> u64:
    """An unsigned halfword immediate in the upper half of the word."""
    return u64(ui) << 16


@native(field_function=True)
def upper_word(ui: u32) -> u32:
    """The same as a word: masks are shorter in host code as words, what is or-ed in is as a doubleword."""
    return ui << 16


# ---- with an immediate ---------------------------------------------------------------------------------------------


@insn("28 rs:5 ra:5 ui:16", "andi. ra,rs,ui", hot=True)
def andi(cpu: Vcpu, rs: u32, ra: u32, ui: u32) -> None:
    """AND Immediate and Record"""
    v = cpu.gpr[rs] & u64(ui)
    cpu.gpr[ra] = v
    record0(cpu, v)


@insn("29 rs:5 ra:5 ui:16", "andis. ra,rs,ui", hot=True)
def andis(cpu: Vcpu, rs: u32, ra: u32, ui: u32) -> None:
    """AND Immediate Shifted and Record"""
    v = cpu.gpr[rs] & u64(upper_word(ui))
    cpu.gpr[ra] = v
    record0(cpu, v)


@insn("24 rs:5 ra:5 ui:16", "ori ra,rs,ui", hot=True)
def ori(cpu: Vcpu, rs: u32, ra: u32, ui: u32) -> None:
    """OR Immediate"""
    cpu.gpr[ra] = cpu.gpr[rs] | lower(ui)


@insn("25 rs:5 ra:5 ui:16", "oris ra,rs,ui", hot=True)
def oris(cpu: Vcpu, rs: u32, ra: u32, ui: u32) -> None:
    """OR Immediate Shifted"""
    cpu.gpr[ra] = cpu.gpr[rs] | upper(ui)


@insn("26 rs:5 ra:5 ui:16", "xori ra,rs,ui", hot=True)
def xori(cpu: Vcpu, rs: u32, ra: u32, ui: u32) -> None:
    """XOR Immediate"""
    cpu.gpr[ra] = cpu.gpr[rs] ^ lower(ui)


@insn("27 rs:5 ra:5 ui:16", "xoris ra,rs,ui", hot=True)
def xoris(cpu: Vcpu, rs: u32, ra: u32, ui: u32) -> None:
    """XOR Immediate Shifted"""
    cpu.gpr[ra] = cpu.gpr[rs] ^ upper(ui)


# ---- register and register -----------------------------------------------------------------------------------------


@insn("31 rs:5 ra:5 rb:5 28:10 rc:1", "and{rc} ra,rs,rb", hot=True)
def and_(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """AND"""
    finish(cpu, ra, cpu.gpr[rs] & cpu.gpr[rb], rc)


@insn("31 rs:5 ra:5 rb:5 60:10 rc:1", "andc{rc} ra,rs,rb", hot=True)
def andc(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """AND with Complement"""
    finish(cpu, ra, cpu.gpr[rs] & ~cpu.gpr[rb], rc)


@insn("31 rs:5 ra:5 rb:5 444:10 rc:1", "or{rc} ra,rs,rb", hot=True)
def or_(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """OR"""
    finish(cpu, ra, cpu.gpr[rs] | cpu.gpr[rb], rc)


@insn("31 rs:5 ra:5 rb:5 412:10 rc:1", "orc{rc} ra,rs,rb", hot=True)
def orc(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """OR with Complement"""
    finish(cpu, ra, cpu.gpr[rs] | ~cpu.gpr[rb], rc)


@insn("31 rs:5 ra:5 rb:5 316:10 rc:1", "xor{rc} ra,rs,rb", hot=True)
def xor(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """XOR"""
    finish(cpu, ra, cpu.gpr[rs] ^ cpu.gpr[rb], rc)


@insn("31 rs:5 ra:5 rb:5 476:10 rc:1", "nand{rc} ra,rs,rb", hot=True)
def nand(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """NAND"""
    finish(cpu, ra, ~(cpu.gpr[rs] & cpu.gpr[rb]), rc)


@insn("31 rs:5 ra:5 rb:5 124:10 rc:1", "nor{rc} ra,rs,rb", hot=True)
def nor(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """NOR"""
    finish(cpu, ra, ~(cpu.gpr[rs] | cpu.gpr[rb]), rc)


@insn("31 rs:5 ra:5 rb:5 284:10 rc:1", "eqv{rc} ra,rs,rb", hot=True)
def eqv(cpu: Vcpu, rs: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Equivalent"""
    finish(cpu, ra, ~(cpu.gpr[rs] ^ cpu.gpr[rb]), rc)


# ---- sign extension, counts ----------------------------------------------------------------------------------------


@insn("31 rs:5 ra:5 /:5 954:10 rc:1", "extsb{rc} ra,rs", hot=True)
def extsb(cpu: Vcpu, rs: u32, ra: u32, rc: u32) -> None:
    """Extend Sign Byte"""
    finish(cpu, ra, u64(i8(cpu.gpr[rs])), rc)


@insn("31 rs:5 ra:5 /:5 922:10 rc:1", "extsh{rc} ra,rs", hot=True)
def extsh(cpu: Vcpu, rs: u32, ra: u32, rc: u32) -> None:
    """Extend Sign Halfword"""
    finish(cpu, ra, u64(i16(cpu.gpr[rs])), rc)


@insn("31 rs:5 ra:5 /:5 986:10 rc:1", "extsw{rc} ra,rs", needs="64", hot=True)
def extsw(cpu: Vcpu, rs: u32, ra: u32, rc: u32) -> None:
    """Extend Sign Word"""
    finish(cpu, ra, u64(i32(cpu.gpr[rs])), rc)


@insn("31 rs:5 ra:5 /:5 26:10 rc:1", "cntlzw{rc} ra,rs", hot=True)
def cntlzw(cpu: Vcpu, rs: u32, ra: u32, rc: u32) -> None:
    """Count Leading Zeros Word"""
    finish(cpu, ra, u64(clz(u32(cpu.gpr[rs]))), rc)


@insn("31 rs:5 ra:5 /:5 58:10 rc:1", "cntlzd{rc} ra,rs", needs="64", hot=True)
def cntlzd(cpu: Vcpu, rs: u32, ra: u32, rc: u32) -> None:
    """Count Leading Zeros Doubleword"""
    finish(cpu, ra, clz(cpu.gpr[rs]), rc)


@native(inline=True)
def count_bytes(x: u64) -> u64:
    """The number of one bits of every byte, in that byte."""
    pairs = x - (x >> 1 & 0x5555_5555_5555_5555)
    nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333)
    return (nibbles + (nibbles >> 4)) & 0x0F0F_0F0F_0F0F_0F0F


@insn("31 rs:5 ra:5 /:5 122:10 /:1", "popcntb ra,rs", needs="popcnt")
def popcntb(cpu: Vcpu, rs: u32, ra: u32) -> None:
    """Population Count Bytes"""
    cpu.gpr[ra] = count_bytes(cpu.gpr[rs])


@insn("31 rs:5 ra:5 /:5 378:10 /:1", "popcntw ra,rs", needs="popcnt")
def popcntw(cpu: Vcpu, rs: u32, ra: u32) -> None:
    """Population Count Words"""
    s = cpu.gpr[rs]
    cpu.gpr[ra] = popcount(s >> 32) << 32 | popcount(s & 0xFFFF_FFFF)


@insn("31 rs:5 ra:5 /:5 506:10 /:1", "popcntd ra,rs", needs="64 popcnt")
def popcntd(cpu: Vcpu, rs: u32, ra: u32) -> None:
    """Population Count Doubleword"""
    cpu.gpr[ra] = popcount(cpu.gpr[rs])


@insn("31 rs:5 ra:5 /:5 154:10 /:1", "prtyw ra,rs", needs="prty")
def prtyw(cpu: Vcpu, rs: u32, ra: u32) -> None:
    """Parity Word: of the least significant bits of the bytes of each word"""
    s = cpu.gpr[rs] & 0x0101_0101_0101_0101
    cpu.gpr[ra] = (popcount(s >> 32) & 1) << 32 | popcount(s & 0xFFFF_FFFF) & 1


@insn("31 rs:5 ra:5 /:5 186:10 /:1", "prtyd ra,rs", needs="64 prty")
def prtyd(cpu: Vcpu, rs: u32, ra: u32) -> None:
    """Parity Doubleword: of the least significant bits of the bytes"""
    cpu.gpr[ra] = popcount(cpu.gpr[rs] & 0x0101_0101_0101_0101) & 1


@insn("31 rs:5 ra:5 rb:5 508:10 /:1", "cmpb ra,rs,rb", needs="cmpb")
def cmpb(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
    """Compare Bytes"""
    differ = cpu.gpr[rs] ^ cpu.gpr[rb]
    low = 0x7F7F_7F7F_7F7F_7F7F
    nonzero = ((differ & low) + low | differ) & ~u64(low)  # 0x80 in every byte that differs
    cpu.gpr[ra] = ~((nonzero >> 7) * 0xFF)


@insn("31 rs:5 ra:5 rb:5 252:10 /:1", "bpermd ra,rs,rb", needs="64")
def bpermd(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
    """Bit Permute Doubleword: the bits of rb selected by the bytes of rs, most significant first"""
    selectors, bits = cpu.gpr[rs], cpu.gpr[rb]
    v = u64(0)
    for n in range(8):
        index = selectors >> (u32(56) - 8 * n) & 0xFF
        v = v << 1
        if index < 64:
            v |= bits >> (63 - index) & 1
    cpu.gpr[ra] = v
