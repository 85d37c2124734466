"""Compares, traps and isel (Book I, 3.3.9, 3.3.10, 3.3.11)."""

from __future__ import annotations

from ..isa.insn import insn
from ..isa.registers import ESR
from ..native.ints import i32, i64, u32, u64
from ..native.lang import native, select, unlikely
from ..vcpu.interrupts import raise_program
from ..vcpu.ops import cr_bit, set_signed, set_unsigned, set_words
from ..vcpu.state import Vcpu
from .logical import lower


@insn("11 bf:3 /:1 0:1 ra:5 si:s16", "cmpwi bf,ra,si", hot=True)
def cmpwi(cpu: Vcpu, bf: u32, ra: u32, si: i64) -> None:
    """Compare Immediate (L=0)"""
    set_signed(cpu, bf, i64(i32(cpu.gpr[ra])), si)


@insn("11 bf:3 /:1 1:1 ra:5 si:s16", "cmpdi bf,ra,si", needs="64", hot=True)
def cmpdi(cpu: Vcpu, bf: u32, ra: u32, si: i64) -> None:
    """Compare Immediate (L=1)"""
    set_signed(cpu, bf, i64(cpu.gpr[ra]), si)


@insn("10 bf:3 /:1 0:1 ra:5 ui:16", "cmplwi bf,ra,ui", hot=True)
def cmplwi(cpu: Vcpu, bf: u32, ra: u32, ui: u32) -> None:
    """Compare Logical Immediate (L=0)"""
    set_words(cpu, bf, u32(cpu.gpr[ra]), ui)


@insn("10 bf:3 /:1 1:1 ra:5 ui:16", "cmpldi bf,ra,ui", needs="64", hot=True)
def cmpldi(cpu: Vcpu, bf: u32, ra: u32, ui: u32) -> None:
    """Compare Logical Immediate (L=1)"""
    set_unsigned(cpu, bf, cpu.gpr[ra], lower(ui))


@insn("31 bf:3 /:1 0:1 ra:5 rb:5 0:10 /:1", "cmpw bf,ra,rb", hot=True)
def cmpw(cpu: Vcpu, bf: u32, ra: u32, rb: u32) -> None:
    """Compare (L=0)"""
    set_signed(cpu, bf, i64(i32(cpu.gpr[ra])), i64(i32(cpu.gpr[rb])))


@insn("31 bf:3 /:1 1:1 ra:5 rb:5 0:10 /:1", "cmpd bf,ra,rb", needs="64", hot=True)
def cmpd(cpu: Vcpu, bf: u32, ra: u32, rb: u32) -> None:
    """Compare (L=1)"""
    set_signed(cpu, bf, i64(cpu.gpr[ra]), i64(cpu.gpr[rb]))


@insn("31 bf:3 /:1 0:1 ra:5 rb:5 32:10 /:1", "cmplw bf,ra,rb", hot=True)
def cmplw(cpu: Vcpu, bf: u32, ra: u32, rb: u32) -> None:
    """Compare Logical (L=0)"""
    set_words(cpu, bf, u32(cpu.gpr[ra]), u32(cpu.gpr[rb]))


@insn("31 bf:3 /:1 1:1 ra:5 rb:5 32:10 /:1", "cmpld bf,ra,rb", needs="64", hot=True)
def cmpld(cpu: Vcpu, bf: u32, ra: u32, rb: u32) -> None:
    """Compare Logical (L=1)"""
    set_unsigned(cpu, bf, cpu.gpr[ra], cpu.gpr[rb])


@insn("31 rt:5 ra:5 rb:5 bc:5 15:5 /:1", "isel rt,ra0,rb,bc", hot=True, split="ra")
def isel(cpu: Vcpu, rt: u32, ra: u32, rb: u32, bc: u32) -> None:
    """Integer Select"""
    if ra == 0:
        cpu.gpr[rt] = select(cr_bit(cpu, bc), u64(0), cpu.gpr[rb])
    else:
        cpu.gpr[rt] = select(cr_bit(cpu, bc), cpu.gpr[ra], cpu.gpr[rb])


# ---- traps ---------------------------------------------------------------------------------------------------------


@native(inline=True)
def trap_if(cpu: Vcpu, to: u32, a: i64, b: i64) -> None:
    """Trap program interrupt when one of the conditions selected by TO holds (16 <, 8 >, 4 =, 2 <u, 1 >u)."""
    holds = u32(a < b) << 4 | u32(a > b) << 3 | u32(a == b) << 2 | u32(u64(a) < u64(b)) << 1 | u32(u64(a) > u64(b))
    if unlikely(holds & to != 0):
        raise_program(cpu, ESR.PTR)


@insn("3 to:5 ra:5 si:s16", "twi to,ra,si", hot=True)
def twi(cpu: Vcpu, to: u32, ra: u32, si: i64) -> None:
    """Trap Word Immediate"""
    trap_if(cpu, to, i64(i32(cpu.gpr[ra])), si)


@insn("31 to:5 ra:5 rb:5 4:10 /:1", "tw to,ra,rb", hot=True)
def tw(cpu: Vcpu, to: u32, ra: u32, rb: u32) -> None:
    """Trap Word"""
    trap_if(cpu, to, i64(i32(cpu.gpr[ra])), i64(i32(cpu.gpr[rb])))


@insn("2 to:5 ra:5 si:s16", "tdi to,ra,si", needs="64", hot=True)
def tdi(cpu: Vcpu, to: u32, ra: u32, si: i64) -> None:
    """Trap Doubleword Immediate"""
    trap_if(cpu, to, i64(cpu.gpr[ra]), si)


@insn("31 to:5 ra:5 rb:5 68:10 /:1", "td to,ra,rb", needs="64", hot=True)
def td(cpu: Vcpu, to: u32, ra: u32, rb: u32) -> None:
    """Trap Doubleword"""
    trap_if(cpu, to, i64(cpu.gpr[ra]), i64(cpu.gpr[rb]))
