"""Floating-point moves, select, and FPSCR instructions (Book I, 4.6.4, 4.6.9, 4.6.10)."""

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..isa.registers import FPSCR
from ..native.ints import u8, u32, u64
from ..native.lang import native, select
from ..vcpu.fpscr import READ_ONLY, interrupt_if_enabled, raise_bits, record1, settle, write_fpscr
from ..vcpu.ops import require_fp
from ..vcpu.softfloat import INFINITY, MAGNITUDE, SIGN
from ..vcpu.softfloat_ops import STICKY
from ..vcpu.state import Vcpu
from .storage import named


@native(inline=True)
def same(value: u64) -> u64:
    """fmr."""
    return value


@native(inline=True)
def opposite(value: u64) -> u64:
    """fneg: the sign only, of NaNs too."""
    return value ^ SIGN


@native(inline=True)
def positive(value: u64) -> u64:
    """fabs."""
    return value & MAGNITUDE


@native(inline=True)
def negative(value: u64) -> u64:
    """fnabs."""
    return value | SIGN


def move(name: str, title: str, xo: int, change: Any) -> None:
    """Declare a register move, which leaves FPSCR alone."""

    @insn(f"63 frt:5 /:5 frb:5 {xo}:10 rc:1", f"{name}{{rc}} frt,frb", needs="fp", hot=True, cold_forms="rc")
    @named(name, f"Floating {title}")
    def body(cpu: Vcpu, frt: u32, frb: u32, rc: u32) -> None:
        require_fp(cpu)
        cpu.fpr[frt] = change(cpu.fpr[frb])
        if rc:
            record1(cpu)


move("fmr", "Move Register", 72, same)
move("fneg", "Negate", 40, opposite)
move("fabs", "Absolute Value", 264, positive)
move("fnabs", "Negative Absolute Value", 136, negative)


@insn("63 frt:5 fra:5 frb:5 frc:5 23:5 rc:1", "fsel{rc} frt,fra,frc,frb", needs="fp", hot=True, cold_forms="rc")
def fsel(cpu: Vcpu, frt: u32, fra: u32, frb: u32, frc: u32, rc: u32) -> None:
    """Floating Select"""
    require_fp(cpu)
    a = cpu.fpr[fra]
    # a >= 0.0: +0 .. +infinity, or -0
    cpu.fpr[frt] = select(a <= INFINITY or a == SIGN, cpu.fpr[frc], cpu.fpr[frb])
    if rc:
        record1(cpu)


# ---- FPSCR -----------------------------------------------------------------------------------------------------------


@native(inline=True)
def nibble_mask(flm: u32) -> u32:
    """FPSCR bits of the fields chosen by eight mask bits, field 0 leftmost."""
    mask = u32(0)
    for n in range(8):
        mask = mask << 4 | (u32(15) if flm << n & 0x80 else u32(0))
    return mask


@native(inline=True)
def bit_mask(number: u32) -> u32:
    """An FPSCR bit by its number in the 32-bit register."""
    return u32(0x8000_0000) >> number


@insn("63 frt:5 /:10 583:10 rc:1", "mffs{rc} frt", needs="fp")
def mffs(cpu: Vcpu, frt: u32, rc: u32) -> None:
    """Move From FPSCR"""
    require_fp(cpu)
    settle(cpu)
    cpu.fpr[frt] = u64(cpu.fpscr)
    if rc:
        record1(cpu)


@insn("63 bf:3 /:2 bfa:3 /:7 64:10 /:1", "mcrfs bf,bfa", needs="fp")
def mcrfs(cpu: Vcpu, bf: u32, bfa: u32) -> None:
    """Move to Condition Register from FPSCR"""
    require_fp(cpu)
    settle(cpu)
    shift = 28 - 4 * bfa
    cpu.cr[bf] = u8(cpu.fpscr >> shift & 15)
    write_fpscr(cpu, cpu.fpscr & ~(u32(15) << shift & (STICKY | FPSCR.FX)), 0)


@insn("63 /:1 flm:8 /:1 frb:5 711:10 rc:1", "mtfsf{rc} flm,frb", needs="fp", ends=True)
def mtfsf(cpu: Vcpu, flm: u32, frb: u32, rc: u32) -> None:
    """Move To FPSCR Fields"""
    require_fp(cpu)
    settle(cpu)
    mask = nibble_mask(flm)
    write_fpscr(cpu, cpu.fpscr & ~mask | u32(cpu.fpr[frb]) & mask, rc)
    interrupt_if_enabled(cpu, cpu.fpscr)


@insn("63 bff:3 /:7 u:4 /:1 134:10 rc:1", "mtfsfi{rc} bff,u", needs="fp", ends=True)
def mtfsfi(cpu: Vcpu, bff: u32, u: u32, rc: u32) -> None:
    """Move To FPSCR Field Immediate"""
    require_fp(cpu)
    settle(cpu)
    shift = 28 - 4 * bff
    write_fpscr(cpu, cpu.fpscr & ~(u32(15) << shift) | u << shift, rc)
    interrupt_if_enabled(cpu, cpu.fpscr)


@insn("63 fbt:5 /:10 70:10 rc:1", "mtfsb0{rc} fbt", needs="fp", ends=True)
def mtfsb0(cpu: Vcpu, fbt: u32, rc: u32) -> None:
    """Move To FPSCR Bit 0"""
    require_fp(cpu)
    settle(cpu)
    write_fpscr(cpu, cpu.fpscr & ~bit_mask(fbt), rc)


@insn("63 fbt:5 /:10 38:10 rc:1", "mtfsb1{rc} fbt", needs="fp", ends=True)
def mtfsb1(cpu: Vcpu, fbt: u32, rc: u32) -> None:
    """Move To FPSCR Bit 1"""
    require_fp(cpu)
    settle(cpu)
    bit = bit_mask(fbt)
    write_fpscr(cpu, raise_bits(cpu.fpscr | bit & ~u32(STICKY | READ_ONLY), bit), rc)
    interrupt_if_enabled(cpu, cpu.fpscr)
