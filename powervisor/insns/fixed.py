"""Fixed-point arithmetic, logic and compares (Book I, 3.3)."""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i64, u32, u64, u128
from ..vcpu.ops import mode64, record0, set_overflow, set_signed, set_unsigned
from ..vcpu.state import Vcpu


@insn("14 rt:5 ra:5 si:s16", "addi rt,ra,si", hot=True, split="ra")
def addi(cpu: Vcpu, rt: u32, ra: u32, si: i64) -> None:
    """Add Immediate"""
    if ra == 0:
        cpu.gpr[rt] = u64(si)
    else:
        cpu.gpr[rt] = cpu.gpr[ra] + u64(si)


@insn("31 rt:5 ra:5 rb:5 oe:1 266:9 rc:1", "add{oe}{rc} rt,ra,rb", hot=True)
def add(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
    """Add"""
    a, b = cpu.gpr[ra], cpu.gpr[rb]
    v = a + b
    if oe:
        sign = (a ^ v) & (b ^ v)
        set_overflow(cpu, (sign >> 63 if mode64(cpu) else sign >> 31 & 1) != 0)
    cpu.gpr[rt] = v
    if rc:
        record0(cpu, v)


@insn("11 bf:3 /:1 l:1 ra:5 si:s16", "cmpi bf,l,ra,si", hot=True)
def cmpi(cpu: Vcpu, bf: u32, l: u32, ra: u32, si: i64) -> None:  # noqa: E741
    """Compare Immediate"""
    set_signed(cpu, bf, i64(cpu.gpr[ra]), si)
