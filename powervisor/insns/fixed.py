"""Fixed-point arithmetic (Book I, 3.3.8): sums, products, quotients; XER[CA, OV, SO].

Results are computed on 64 bits in both modes; the mode decides which word gives CA, OV and CR0.
"""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i32, i64, i128, u8, u32, u64, u128
from ..native.lang import native
from ..vcpu.ops import mode64, record0, set_overflow
from ..vcpu.state import Vcpu

ALL_ONES = 0xFFFF_FFFF_FFFF_FFFF


@native(inline=True)
def sum_overflows(cpu: Vcpu, a: u64, b: u64, v: u64) -> bool:
    """Whether v = a + b (+ carry) left the signed range of the mode."""
    sign = (a ^ v) & (b ^ v)
    return (sign >> 63 if mode64(cpu) else sign >> 31 & 1) != 0


@native(inline=True)
def finish(cpu: Vcpu, rt: u32, v: u64, rc: u32) -> None:
    """Write the result, and CR0 when recording."""
    cpu.gpr[rt] = v
    if rc:
        record0(cpu, v)


@native(inline=True)
def add_carrying(cpu: Vcpu, rt: u32, a: u64, b: u64, carry: u64, oe: u32, rc: u32) -> None:
    """rt = a + b + carry with XER[CA]: the carry out of the doubleword, or of the low word in 32-bit mode."""
    wide = u128(a) + u128(b) + u128(carry)
    v = u64(wide)
    if oe:
        set_overflow(cpu, sum_overflows(cpu, a, b, v))
    if mode64(cpu):
        cpu.ca = u8(wide >> 64)
    else:
        cpu.ca = u8((u64(u32(a)) + u64(u32(b)) + carry) >> 32)
    finish(cpu, rt, v, rc)


# ---- sums ----------------------------------------------------------------------------------------------------------


@insn("14 rt:5 ra:5 si:s16", "addi rt,ra0,si", hot=True, split="ra")
def addi(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Add Immediate"""
    if ra == 0:
        cpu.gpr[rt] = u64(si)
    else:
        cpu.gpr[rt] = cpu.gpr[ra] + u64(si)


@native(field_function=True)
def shifted(si: i64) -> u64:
    """A halfword immediate in the upper half of the word."""
    return u64(si) << 16


@insn("15 rt:5 ra:5 si:s16", "addis rt,ra0,si", hot=True, split="ra")
def addis(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Add Immediate Shifted"""
    if ra == 0:
        cpu.gpr[rt] = shifted(si)
    else:
        cpu.gpr[rt] = cpu.gpr[ra] + shifted(si)


@insn("31 rt:5 ra:5 rb:5 oe:1 266:9 rc:1", "add{oe}{rc} rt,ra,rb", hot=True)
def add(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Add"""
    a, b = cpu.gpr[ra], cpu.gpr[rb]
    v = a + b
    if oe:
        set_overflow(cpu, sum_overflows(cpu, a, b, v))
    finish(cpu, rt, v, rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 40:9 rc:1", "subf{oe}{rc} rt,ra,rb", hot=True)
def subf(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Subtract From"""
    a, b = cpu.gpr[ra], cpu.gpr[rb]
    v = b - a
    if oe:
        set_overflow(cpu, sum_overflows(cpu, ~a, b, v))
    finish(cpu, rt, v, rc)


@insn("12 rt:5 ra:5 si:s16", "addic rt,ra,si", hot=True)
def addic(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Add Immediate Carrying"""
    add_carrying(cpu, rt, cpu.gpr[ra], u64(si), u64(0), u32(0), u32(0))


@insn("13 rt:5 ra:5 si:s16", "addic. rt,ra,si", hot=True)
def addic_record(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Add Immediate Carrying and Record"""
    add_carrying(cpu, rt, cpu.gpr[ra], u64(si), u64(0), u32(0), u32(1))


@insn("8 rt:5 ra:5 si:s16", "subfic rt,ra,si", hot=True)
def subfic(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Subtract From Immediate Carrying"""
    add_carrying(cpu, rt, ~cpu.gpr[ra], u64(si), u64(1), u32(0), u32(0))


@insn("31 rt:5 ra:5 rb:5 oe:1 10:9 rc:1", "addc{oe}{rc} rt,ra,rb", hot=True)
def addc(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Add Carrying"""
    add_carrying(cpu, rt, cpu.gpr[ra], cpu.gpr[rb], u64(0), oe, rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 8:9 rc:1", "subfc{oe}{rc} rt,ra,rb", hot=True)
def subfc(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Subtract From Carrying"""
    add_carrying(cpu, rt, ~cpu.gpr[ra], cpu.gpr[rb], u64(1), oe, rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 138:9 rc:1", "adde{oe}{rc} rt,ra,rb", hot=True)
def adde(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Add Extended"""
    add_carrying(cpu, rt, cpu.gpr[ra], cpu.gpr[rb], u64(cpu.ca), oe, rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 136:9 rc:1", "subfe{oe}{rc} rt,ra,rb", hot=True)
def subfe(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Subtract From Extended"""
    add_carrying(cpu, rt, ~cpu.gpr[ra], cpu.gpr[rb], u64(cpu.ca), oe, rc)


@insn("31 rt:5 ra:5 /:5 oe:1 234:9 rc:1", "addme{oe}{rc} rt,ra", hot=True)
def addme(cpu: Vcpu, rt: u32, ra: u32, oe: u32, rc: u32) -> None:
    """Add to Minus One Extended"""
    add_carrying(cpu, rt, cpu.gpr[ra], u64(ALL_ONES), u64(cpu.ca), oe, rc)


@insn("31 rt:5 ra:5 /:5 oe:1 232:9 rc:1", "subfme{oe}{rc} rt,ra", hot=True)
def subfme(cpu: Vcpu, rt: u32, ra: u32, oe: u32, rc: u32) -> None:
    """Subtract From Minus One Extended"""
    add_carrying(cpu, rt, ~cpu.gpr[ra], u64(ALL_ONES), u64(cpu.ca), oe, rc)


@insn("31 rt:5 ra:5 /:5 oe:1 202:9 rc:1", "addze{oe}{rc} rt,ra", hot=True)
def addze(cpu: Vcpu, rt: u32, ra: u32, oe: u32, rc: u32) -> None:
    """Add to Zero Extended"""
    add_carrying(cpu, rt, cpu.gpr[ra], u64(0), u64(cpu.ca), oe, rc)


@insn("31 rt:5 ra:5 /:5 oe:1 200:9 rc:1", "subfze{oe}{rc} rt,ra", hot=True)
def subfze(cpu: Vcpu, rt: u32, ra: u32, oe: u32, rc: u32) -> None:
    """Subtract From Zero Extended"""
    add_carrying(cpu, rt, ~cpu.gpr[ra], u64(0), u64(cpu.ca), oe, rc)


@insn("31 rt:5 ra:5 /:5 oe:1 104:9 rc:1", "neg{oe}{rc} rt,ra", hot=True)
def neg(cpu: Vcpu, rt: u32, ra: u32, oe: u32, rc: u32) -> None:
    """Negate"""
    a = cpu.gpr[ra]
    v = -a
    if oe:
        set_overflow(cpu, sum_overflows(cpu, ~a, u64(0), v))
    finish(cpu, rt, v, rc)


# ---- products ------------------------------------------------------------------------------------------------------


@insn("7 rt:5 ra:5 si:s16", "mulli rt,ra,si", hot=True)
def mulli(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Multiply Low Immediate"""
    cpu.gpr[rt] = cpu.gpr[ra] * u64(si)


@insn("31 rt:5 ra:5 rb:5 oe:1 235:9 rc:1", "mullw{oe}{rc} rt,ra,rb", hot=True)
def mullw(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Multiply Low Word"""
    product = i64(i32(cpu.gpr[ra])) * i64(i32(cpu.gpr[rb]))
    if oe:
        set_overflow(cpu, i64(i32(product)) != product)
    finish(cpu, rt, u64(product), rc)


@insn("31 rt:5 ra:5 rb:5 /:1 75:9 rc:1", "mulhw{rc} rt,ra,rb", hot=True)
def mulhw(cpu: Vcpu, rt: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Multiply High Word"""
    product = i64(i32(cpu.gpr[ra])) * i64(i32(cpu.gpr[rb]))
    finish(cpu, rt, u64(product) >> 32, rc)


@insn("31 rt:5 ra:5 rb:5 /:1 11:9 rc:1", "mulhwu{rc} rt,ra,rb", hot=True)
def mulhwu(cpu: Vcpu, rt: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Multiply High Word Unsigned"""
    product = u64(u32(cpu.gpr[ra])) * u64(u32(cpu.gpr[rb]))
    finish(cpu, rt, product >> 32, rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 233:9 rc:1", "mulld{oe}{rc} rt,ra,rb", needs="64", hot=True)
def mulld(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Multiply Low Doubleword"""
    a, b = cpu.gpr[ra], cpu.gpr[rb]
    if oe:
        wide = i128(i64(a)) * i128(i64(b))
        set_overflow(cpu, i128(i64(wide)) != wide)
    finish(cpu, rt, a * b, rc)


@insn("31 rt:5 ra:5 rb:5 /:1 73:9 rc:1", "mulhd{rc} rt,ra,rb", needs="64", hot=True)
def mulhd(cpu: Vcpu, rt: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Multiply High Doubleword"""
    product = i128(i64(cpu.gpr[ra])) * i128(i64(cpu.gpr[rb]))
    finish(cpu, rt, u64(product >> 64), rc)


@insn("31 rt:5 ra:5 rb:5 /:1 9:9 rc:1", "mulhdu{rc} rt,ra,rb", needs="64", hot=True)
def mulhdu(cpu: Vcpu, rt: u32, ra: u32, rb: u32, rc: u32) -> None:
    """Multiply High Doubleword Unsigned"""
    product = u128(cpu.gpr[ra]) * u128(cpu.gpr[rb])
    finish(cpu, rt, u64(product >> 64), rc)


# ---- quotients -----------------------------------------------------------------------------------------------------
# The result of an impossible division is undefined (3.3.8): here it is the dividend, as QEMU has it for divw.


@insn("31 rt:5 ra:5 rb:5 oe:1 491:9 rc:1", "divw{oe}{rc} rt,ra,rb", hot=True)
def divw(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Divide Word"""
    a, b = i32(cpu.gpr[ra]), i32(cpu.gpr[rb])
    impossible = (b == 0) | ((b == -1) & (u32(a) == 0x8000_0000))
    v = a // (i32(1) if impossible else b)
    if oe:
        set_overflow(cpu, impossible)
    finish(cpu, rt, u64(u32(v)), rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 459:9 rc:1", "divwu{oe}{rc} rt,ra,rb", hot=True)
def divwu(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Divide Word Unsigned"""
    a, b = u32(cpu.gpr[ra]), u32(cpu.gpr[rb])
    v = a // (u32(1) if b == 0 else b)
    if oe:
        set_overflow(cpu, b == 0)
    finish(cpu, rt, u64(v), rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 489:9 rc:1", "divd{oe}{rc} rt,ra,rb", needs="64", hot=True)
def divd(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Divide Doubleword"""
    a, b = i64(cpu.gpr[ra]), i64(cpu.gpr[rb])
    impossible = (b == 0) | ((b == -1) & (u64(a) == 0x8000_0000_0000_0000))
    v = a // (i64(1) if impossible else b)
    if oe:
        set_overflow(cpu, impossible)
    finish(cpu, rt, u64(v), rc)


@insn("31 rt:5 ra:5 rb:5 oe:1 457:9 rc:1", "divdu{oe}{rc} rt,ra,rb", needs="64", hot=True)
def divdu(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Divide Doubleword Unsigned"""
    a, b = cpu.gpr[ra], cpu.gpr[rb]
    v = a // (u64(1) if b == 0 else b)
    if oe:
        set_overflow(cpu, b == 0)
    finish(cpu, rt, v, rc)
