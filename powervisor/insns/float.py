"""Floating-point arithmetic, conversions and compares (Book I, 4.6.5 - 4.6.9).

Handlers run the exact operation. Stencils exist while FPSCR asks for round-to-nearest and enables no exception, and
use the host's FPU; they leave to the handler whenever host and guest could differ in more than the sticky XX: NaNs,
infinities, underflow, and a single-precision result that rounding twice could spoil.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..isa.insn import insn
from ..native.ints import i64, u8, u32, u64
from ..native.lang import (
    Static,
    host_f32_to_f64,
    host_f64_to_f32,
    host_f64_to_i64,
    host_fadd,
    host_fdiv,
    host_flt,
    host_fma,
    host_fmul,
    host_fsub,
    host_funordered,
    host_has_fma,
    host_i64_to_f64,
    native,
    unlikely,
)
from ..vcpu.fpscr import (
    execute,
    execute_compare,
    note,
    note_compare,
    note_product,
    note_sum,
    own_host_flags,
)
from ..vcpu.ops import EQ, GT, LT, optimistic, to_handler
from ..vcpu.softfloat import BELOW_SINGLE, NEXT_EXPONENT, SIGN, is_special, is_zero
from ..vcpu.softfloat_ops import FpOp
from ..vcpu.state import Vcpu
from .storage import named

TIE = 0x1000_0000
"""The bits below single precision of a double halfway between two singles."""


@native(inline=True)
def exponent_field(a: u64) -> u64:
    """The biased exponent of a double."""
    return a >> 52 & 0x7FF


@native(inline=True)
def beyond_double(v: u64) -> bool:
    """Whether a double may have overflowed or underflowed: its exponent field is the last, 0, 1 or 2."""
    return v + NEXT_EXPONENT & 0x7FC0_0000_0000_0000 == 0


@native(inline=True)
def beyond_single(s: u32) -> bool:
    """The same for a single."""
    return s + 0x0080_0000 & 0x7E00_0000 == 0


@native(inline=True)
def check_tie(a: u64, b: u64, v: u64) -> None:
    """Leave when rounding `v`, a rounded double, to single might differ from rounding the exact result.

    Operands of 24 significant bits are safe: a double has more than twice as many (Figueroa). Others are safe unless
    `v` lies halfway between two singles, because the exact result lies on the same side of every other such point.
    """
    if unlikely((a | b) & BELOW_SINGLE != 0) and v & BELOW_SINGLE == TIE:
        to_handler()


# ---- add, subtract: a sum that is zero or denormalised is exact ------------------------------------------------------


@native(inline=True)
def fast_add(cpu: Vcpu, op: Static, host: Static, frt: u32, a: u64, b: u64) -> None:
    """Double sum or difference."""
    v = host(a, b)
    if unlikely(is_special(v)):
        to_handler()
    cpu.fpr[frt] = v
    note_sum(cpu, op, a, b)


@native(inline=True)
def fast_add_single(cpu: Vcpu, op: Static, host: Static, frt: u32, a: u64, b: u64) -> None:
    """Single sum or difference."""
    v = host(a, b)
    s = host_f64_to_f32(v)
    if unlikely(beyond_single(s)) and not is_zero(v):
        to_handler()
    check_tie(a, b, v)
    cpu.fpr[frt] = host_f32_to_f64(s)
    note_sum(cpu, op, a, b)


# ---- multiply, divide: a zero is exact when it comes from a zero -----------------------------------------------------


@native(inline=True)
def fast_multiply(cpu: Vcpu, op: Static, host: Static, frt: u32, a: u64, c: u64) -> None:
    """Double product."""
    v = host(a, c)
    if unlikely(beyond_double(v)):
        if not is_zero(v) or (not is_zero(a) and not is_zero(c)):
            to_handler()
    cpu.fpr[frt] = v
    note_product(cpu, op, a, c)


@native(inline=True)
def fast_multiply_single(cpu: Vcpu, op: Static, host: Static, frt: u32, a: u64, c: u64) -> None:
    """Single product."""
    v = host(a, c)
    s = host_f64_to_f32(v)
    if unlikely(beyond_single(s)):
        if not is_zero(v) or (not is_zero(a) and not is_zero(c)):
            to_handler()
    check_tie(a, c, v)
    cpu.fpr[frt] = host_f32_to_f64(s)
    note_product(cpu, op, a, c)


@native(inline=True)
def fast_divide(cpu: Vcpu, op: Static, host: Static, frt: u32, a: u64, b: u64) -> None:
    """Double quotient."""
    v = host(a, b)
    if unlikely(beyond_double(v)):
        if not is_zero(v) or not is_zero(a):
            to_handler()
    cpu.fpr[frt] = v
    note_sum(cpu, op, a, b)


@native(inline=True)
def fast_divide_single(cpu: Vcpu, op: Static, host: Static, frt: u32, a: u64, b: u64) -> None:
    """Single quotient."""
    v = host(a, b)
    s = host_f64_to_f32(v)
    if unlikely(beyond_single(s)):
        if not is_zero(v) or not is_zero(a):
            to_handler()
    check_tie(a, b, v)
    cpu.fpr[frt] = host_f32_to_f64(s)
    note_sum(cpu, op, a, b)


def arithmetic(name: str, title: str, op: int, xo: int, host: Any, double: Any, single: Any, third: bool) -> None:
    """Declare a two-operand operation, double and single; `third`: FRA and FRC are its operands."""
    operands, syntax = ("fra:5 /:5 frc:5", "fra,frc") if third else ("fra:5 frb:5 /:5", "fra,frb")

    for opcode, suffix, kind, fast in ((63, "", op, double), (59, "s", op | FpOp.SINGLE, single)):
        encoding, text = f"{opcode} frt:5 {operands} {xo}:5 rc:1", f"{name}{suffix}{{rc}} frt,{syntax}"
        declare = insn(encoding, text, needs="fp", hot=True, cold_forms="rc")
        full = named(name + suffix, f"Floating {title}{' Single' if suffix else ''}")
        declare(full(_with_frc(kind, host, fast) if third else _with_frb(kind, host, fast)))


def _with_frb(op: int, host: Any, fast: Any) -> Callable[..., None]:
    def body(cpu: Vcpu, frt: u32, fra: u32, frb: u32, rc: u32) -> None:
        if optimistic():
            own_host_flags(cpu)
            fast(cpu, op, host, frt, cpu.fpr[fra], cpu.fpr[frb])
        else:
            execute(cpu, op, frt, cpu.fpr[fra], cpu.fpr[frb], 0, rc)

    return body


def _with_frc(op: int, host: Any, fast: Any) -> Callable[..., None]:
    def body(cpu: Vcpu, frt: u32, fra: u32, frc: u32, rc: u32) -> None:
        if optimistic():
            own_host_flags(cpu)
            fast(cpu, op, host, frt, cpu.fpr[fra], cpu.fpr[frc])
        else:
            execute(cpu, op, frt, cpu.fpr[fra], 0, cpu.fpr[frc], rc)

    return body


arithmetic("fadd", "Add", FpOp.ADD, 21, host_fadd, fast_add, fast_add_single, False)
arithmetic("fsub", "Subtract", FpOp.SUB, 20, host_fsub, fast_add, fast_add_single, False)
arithmetic("fmul", "Multiply", FpOp.MUL, 25, host_fmul, fast_multiply, fast_multiply_single, True)
arithmetic("fdiv", "Divide", FpOp.DIV, 18, host_fdiv, fast_divide, fast_divide_single, False)


# ---- fused multiply-add ----------------------------------------------------------------------------------------------


@native(inline=True)
def fast_fused(cpu: Vcpu, op: Static, subtract: Static, frt: u32, a: u64, c: u64, b: u64) -> None:
    """Double fused multiply-add and its three relatives."""
    v = host_fma(a, c, b ^ SIGN) if subtract else host_fma(a, c, b)
    if unlikely(beyond_double(v)):
        if not is_zero(v) or (not is_zero(a) and not is_zero(c)):
            to_handler()
    cpu.fpr[frt] = v ^ SIGN if op >= FpOp.NMADD else v
    note_product(cpu, op, a, c)
    cpu.fp_b = b


@native(inline=True)
def inexact_sum(p: u64, b: u64, v: u64) -> bool:
    """Whether v, the rounded p + b, is not p + b (Knuth's two-sum)."""
    bb = host_fsub(v, p)
    return not is_zero(host_fadd(host_fsub(p, host_fsub(v, bb)), host_fsub(b, bb)))


@native(inline=True)
def fast_fused_single(cpu: Vcpu, op: Static, subtract: Static, frt: u32, a: u64, c: u64, b: u64) -> None:
    """Single fused multiply-add and its three relatives."""
    addend = b ^ SIGN if subtract else b
    v = host_fma(a, c, addend)
    s = host_f64_to_f32(v)
    if unlikely(beyond_single(s)):
        if not is_zero(v) or (not is_zero(a) and not is_zero(c)):
            to_handler()
    if unlikely(v & BELOW_SINGLE == TIE):
        # A real tie rounds right. The product of singles is exact, so it is one if the sum is exact.
        if (a | b | c) & BELOW_SINGLE != 0 or inexact_sum(host_fmul(a, c), addend, v):
            to_handler()
    r = host_f32_to_f64(s)
    cpu.fpr[frt] = r ^ SIGN if op >= (FpOp.NMADD | FpOp.SINGLE) else r
    note_product(cpu, op, a, c)
    cpu.fp_b = b


def fused(name: str, title: str, op: int, xo: int, subtract: bool) -> None:
    """Declare a fused operation, double and single."""
    for opcode, suffix, kind, fast in ((63, "", op, fast_fused), (59, "s", op | FpOp.SINGLE, fast_fused_single)):
        encoding = f"{opcode} frt:5 fra:5 frb:5 frc:5 {xo}:5 rc:1"
        declare = insn(encoding, f"{name}{suffix}{{rc}} frt,fra,frc,frb", needs="fp", hot=True, cold_forms="rc")
        declare(named(name + suffix, f"Floating {title}{' Single' if suffix else ''}")(_fused(kind, fast, subtract)))


def _fused(op: int, fast: Any, subtract: bool) -> Callable[..., None]:
    def body(cpu: Vcpu, frt: u32, fra: u32, frb: u32, frc: u32, rc: u32) -> None:
        if optimistic() and host_has_fma():
            own_host_flags(cpu)
            fast(cpu, op, subtract, frt, cpu.fpr[fra], cpu.fpr[frc], cpu.fpr[frb])
        elif optimistic():
            to_handler()
        else:
            execute(cpu, op, frt, cpu.fpr[fra], cpu.fpr[frb], cpu.fpr[frc], rc)

    return body


fused("fmadd", "Multiply-Add", FpOp.MADD, 29, False)
fused("fmsub", "Multiply-Subtract", FpOp.MSUB, 28, True)
fused("fnmadd", "Negative Multiply-Add", FpOp.NMADD, 31, False)
fused("fnmsub", "Negative Multiply-Subtract", FpOp.NMSUB, 30, True)


# ---- conversions and estimates ---------------------------------------------------------------------------------------


@insn("63 frt:5 /:5 frb:5 12:10 rc:1", "frsp{rc} frt,frb", needs="fp", hot=True, cold_forms="rc")
def frsp(cpu: Vcpu, frt: u32, frb: u32, rc: u32) -> None:
    """Floating Round to Single-Precision"""
    b = cpu.fpr[frb]
    if optimistic():
        own_host_flags(cpu)
        s = host_f64_to_f32(b)
        if unlikely(beyond_single(s)) and not is_zero(b):
            to_handler()
        cpu.fpr[frt] = host_f32_to_f64(s)
        note(cpu, FpOp.RSP, b)
    else:
        execute(cpu, FpOp.RSP, frt, 0, b, 0, rc)


@native(inline=True)
def fast_truncate(cpu: Vcpu, op: Static, bits: Static, frt: u32, b: u64) -> None:
    """Conversion toward zero of a number surely in range."""
    if unlikely(exponent_field(b) >= 1023 + bits - 1):
        to_handler()
    cpu.fpr[frt] = u64(host_f64_to_i64(b))
    note(cpu, op, b)


def conversion(name: str, title: str, op: int, xo: int, fast_bits: int, needs: str) -> None:
    """Declare a conversion to an integer; `fast_bits`: it has a fast path and the integer that many bits."""

    encoding, hot = f"63 frt:5 /:5 frb:5 {xo}:10 rc:1", fast_bits != 0

    @insn(encoding, f"{name}{{rc}} frt,frb", needs=needs, hot=hot, cold_forms="rc")
    @named(name, f"Floating Convert To Integer {title}")
    def convert(cpu: Vcpu, frt: u32, frb: u32, rc: u32) -> None:
        if optimistic():
            own_host_flags(cpu)
            fast_truncate(cpu, op, fast_bits, frt, cpu.fpr[frb])
        else:
            execute(cpu, op, frt, 0, cpu.fpr[frb], 0, rc)


conversion("fctiw", "Word", FpOp.CTIW, 14, 0, "fp")
conversion("fctiwz", "Word with round toward Zero", FpOp.CTIWZ, 15, 32, "fp")
conversion("fctid", "Doubleword", FpOp.CTID, 814, 0, "fp 64")
conversion("fctidz", "Doubleword with round toward Zero", FpOp.CTIDZ, 815, 64, "fp 64")


@insn("63 frt:5 /:5 frb:5 846:10 rc:1", "fcfid{rc} frt,frb", needs="fp 64", hot=True, cold_forms="rc")
def fcfid(cpu: Vcpu, frt: u32, frb: u32, rc: u32) -> None:
    """Floating Convert From Integer Doubleword"""
    b = cpu.fpr[frb]
    if optimistic():
        own_host_flags(cpu)
        cpu.fpr[frt] = host_i64_to_f64(i64(b))
        note(cpu, FpOp.CFID, b)
    else:
        execute(cpu, FpOp.CFID, frt, 0, b, 0, rc)


@insn("59 frt:5 /:5 frb:5 /:5 24:5 rc:1", "fres{rc} frt,frb", needs="fp")
def fres(cpu: Vcpu, frt: u32, frb: u32, rc: u32) -> None:
    """Floating Reciprocal Estimate Single"""
    execute(cpu, FpOp.RES, frt, 0, cpu.fpr[frb], 0, rc)


@insn("63 frt:5 /:5 frb:5 /:5 26:5 rc:1", "frsqrte{rc} frt,frb", needs="fp")
def frsqrte(cpu: Vcpu, frt: u32, frb: u32, rc: u32) -> None:
    """Floating Reciprocal Square Root Estimate"""
    execute(cpu, FpOp.RSQRTE, frt, 0, cpu.fpr[frb], 0, rc)


# ---- compares --------------------------------------------------------------------------------------------------------


@native(inline=True)
def fast_compare(cpu: Vcpu, bf: u32, a: u64, b: u64) -> None:
    """Compare two numbers; NaNs leave."""
    if unlikely(host_funordered(a, b)):
        to_handler()
    field = u8(LT if host_flt(a, b) else GT if host_flt(b, a) else EQ)
    cpu.cr[bf] = field
    note_compare(cpu, field)


@insn("63 bf:3 /:2 fra:5 frb:5 0:10 /:1", "fcmpu bf,fra,frb", needs="fp", hot=True)
def fcmpu(cpu: Vcpu, bf: u32, fra: u32, frb: u32) -> None:
    """Floating Compare Unordered"""
    if optimistic():
        fast_compare(cpu, bf, cpu.fpr[fra], cpu.fpr[frb])
    else:
        execute_compare(cpu, bf, cpu.fpr[fra], cpu.fpr[frb], 0)


@insn("63 bf:3 /:2 fra:5 frb:5 32:10 /:1", "fcmpo bf,fra,frb", needs="fp", hot=True)
def fcmpo(cpu: Vcpu, bf: u32, fra: u32, frb: u32) -> None:
    """Floating Compare Ordered"""
    if optimistic():
        fast_compare(cpu, bf, cpu.fpr[fra], cpu.fpr[frb])
    else:
        execute_compare(cpu, bf, cpu.fpr[fra], cpu.fpr[frb], 1)
