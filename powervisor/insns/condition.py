"""The condition register: logic on its bits, moves to and from it (Book I, 2.5 and 3.3.16)."""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import u8, u32, u64
from ..native.lang import native, static
from ..vcpu.ops import cr_bit, cr_field, cr_mask, read_cr, write_cr
from ..vcpu.state import Vcpu

ONE_FIELD = tuple(0x80 >> n for n in range(8))
"""FXM values that name one CR field."""


@native(inline=True)
def set_cr_bit(cpu: Vcpu, bt: u32, value: bool) -> None:
    """Write one CR bit."""
    n = cr_field(bt)
    old = cpu.cr[n] & ~cr_mask(bt)
    cpu.cr[n] = old | cr_mask(bt) if value else old


@insn("19 bt:5 ba:5 bb:5 257:10 /:1", "crand bt,ba,bb", hot=True)
def crand(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register AND"""
    set_cr_bit(cpu, bt, cr_bit(cpu, ba) & cr_bit(cpu, bb))


@insn("19 bt:5 ba:5 bb:5 225:10 /:1", "crnand bt,ba,bb", hot=True)
def crnand(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register NAND"""
    set_cr_bit(cpu, bt, not (cr_bit(cpu, ba) & cr_bit(cpu, bb)))


@insn("19 bt:5 ba:5 bb:5 449:10 /:1", "cror bt,ba,bb", hot=True)
def cror(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register OR"""
    set_cr_bit(cpu, bt, cr_bit(cpu, ba) | cr_bit(cpu, bb))


@insn("19 bt:5 ba:5 bb:5 193:10 /:1", "crxor bt,ba,bb", hot=True)
def crxor(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register XOR"""
    set_cr_bit(cpu, bt, cr_bit(cpu, ba) ^ cr_bit(cpu, bb))


@insn("19 bt:5 ba:5 bb:5 33:10 /:1", "crnor bt,ba,bb", hot=True)
def crnor(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register NOR"""
    set_cr_bit(cpu, bt, not (cr_bit(cpu, ba) | cr_bit(cpu, bb)))


@insn("19 bt:5 ba:5 bb:5 289:10 /:1", "creqv bt,ba,bb", hot=True)
def creqv(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register Equivalent"""
    set_cr_bit(cpu, bt, not (cr_bit(cpu, ba) ^ cr_bit(cpu, bb)))


@insn("19 bt:5 ba:5 bb:5 129:10 /:1", "crandc bt,ba,bb", hot=True)
def crandc(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register AND with Complement"""
    set_cr_bit(cpu, bt, cr_bit(cpu, ba) & (not cr_bit(cpu, bb)))


@insn("19 bt:5 ba:5 bb:5 417:10 /:1", "crorc bt,ba,bb", hot=True)
def crorc(cpu: Vcpu, bt: u32, ba: u32, bb: u32) -> None:
    """Condition Register OR with Complement"""
    set_cr_bit(cpu, bt, cr_bit(cpu, ba) | (not cr_bit(cpu, bb)))


@insn("19 bf:3 /:2 bfa:3 /:7 0:10 /:1", "mcrf bf,bfa", hot=True)
def mcrf(cpu: Vcpu, bf: u32, bfa: u32) -> None:
    """Move Condition Register Field"""
    cpu.cr[bf] = cpu.cr[bfa]


@insn("31 bf:3 /:12 512:10 /:1", "mcrxr bf")
def mcrxr(cpu: Vcpu, bf: u32) -> None:
    """Move to Condition Register from XER"""
    cpu.cr[bf] = cpu.so << 3 | cpu.ov << 2 | cpu.ca << 1
    cpu.so = u8(0)
    cpu.ov = u8(0)
    cpu.ca = u8(0)


@insn("31 rt:5 0:1 /:9 19:10 /:1", "mfcr rt", hot=True)
def mfcr(cpu: Vcpu, rt: u32) -> None:
    """Move from Condition Register"""
    cpu.gpr[rt] = u64(read_cr(cpu))


@insn("31 rt:5 1:1 fxm:8 /:1 19:10 /:1", "mfocrf rt,fxm", hot=True, variants={"fxm": ONE_FIELD})
def mfocrf(cpu: Vcpu, rt: u32, fxm: u32) -> None:
    """Move from One Condition Register Field; the fields not asked for are zero"""
    value = u32(0)
    for n in static(range(8)):
        if fxm & (0x80 >> n):
            value |= u32(cpu.cr[n]) << (28 - 4 * n)
    cpu.gpr[rt] = u64(value)


@native(inline=True)
def write_cr_fields(cpu: Vcpu, fxm: u32, value: u32) -> None:
    """Write the CR fields that FXM names."""
    for n in static(range(8)):
        if fxm & (0x80 >> n):
            cpu.cr[n] = u8(value >> (28 - 4 * n) & 15)


@insn("31 rs:5 0:1 fxm:8 /:1 144:10 /:1", "mtcrf fxm,rs", hot=True, variants={"fxm": (*ONE_FIELD, 0x38, 0xFF)})
def mtcrf(cpu: Vcpu, rs: u32, fxm: u32) -> None:
    """Move to Condition Register Fields"""
    if fxm == 0xFF:
        write_cr(cpu, u32(cpu.gpr[rs]))
    else:
        write_cr_fields(cpu, fxm, u32(cpu.gpr[rs]))


@insn("31 rs:5 1:1 fxm:8 /:1 144:10 /:1", "mtocrf fxm,rs", hot=True, variants={"fxm": ONE_FIELD})
def mtocrf(cpu: Vcpu, rs: u32, fxm: u32) -> None:
    """Move to One Condition Register Field"""
    write_cr_fields(cpu, fxm, u32(cpu.gpr[rs]))
