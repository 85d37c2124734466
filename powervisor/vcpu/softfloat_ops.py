"""The floating-point operations by number: what handlers run, and what a pending host result is recomputed with."""

from __future__ import annotations

from ..isa.registers import FPSCR
from ..native.ints import u32, u64
from ..native.lang import native
from .softfloat import minus, negated
from .softfloat_arith import add, divide, multiply, multiply_add
from .softfloat_convert import from_integer, reciprocal_estimate, root_estimate, round_to_single, to_integer


class FpOp:
    """Operations; an odd number is the single-precision form. 0 is none."""

    ADD = 2
    SUB = 4
    MUL = 6
    DIV = 8
    MADD = 10
    MSUB = 12
    NMADD = 14
    NMSUB = 16
    RSP = 18
    CTIW = 20
    CTIWZ = 22
    CTID = 24
    CTIDZ = 26
    CFID = 28
    RES = 30
    RSQRTE = 32
    SINGLE = 1


@native
def compute(op: u32, a: u64, b: u64, c: u64, control: u32) -> tuple[u64, u32]:
    """Result and status of an operation on FRA, FRB and FRC under the enables and RN of an FPSCR value."""
    single = op & FpOp.SINGLE
    kind = op & ~u32(FpOp.SINGLE)
    if kind == FpOp.ADD:
        return add(a, b, single, control)
    if kind == FpOp.SUB:
        return add(a, minus(b), single, control)
    if kind == FpOp.MUL:
        return multiply(a, c, single, control)
    if kind == FpOp.DIV:
        return divide(a, b, single, control)
    if kind >= FpOp.MADD and kind <= FpOp.NMSUB:
        addend = minus(b) if kind == FpOp.MSUB or kind == FpOp.NMSUB else b
        result, status = multiply_add(a, c, addend, single, control)
        if kind >= FpOp.NMADD:
            return negated(result, status)
        return result, status
    if kind == FpOp.RSP:
        return round_to_single(b, control)
    if kind == FpOp.CFID:
        return from_integer(b, control)
    if kind == FpOp.RES:
        return reciprocal_estimate(b, control)
    if kind == FpOp.RSQRTE:
        return root_estimate(b, control)
    wide = u32(kind >= FpOp.CTID)
    if kind == FpOp.CTIWZ or kind == FpOp.CTIDZ:
        return to_integer(b, wide, u32(1))  # RN: toward zero
    return to_integer(b, wide, control)


EXCEPTIONS = FPSCR.OX | FPSCR.UX | FPSCR.ZX | FPSCR.XX
INVALID = (
    FPSCR.VXSNAN | FPSCR.VXISI | FPSCR.VXIDI | FPSCR.VXZDZ | FPSCR.VXIMZ | FPSCR.VXVC
    | FPSCR.VXSOFT | FPSCR.VXSQRT | FPSCR.VXCVI
)  # fmt: skip
"""The invalid-operation exceptions, which VX summarises."""
STICKY = EXCEPTIONS | INVALID
"""Exception bits: sticky, and FX is set when one becomes 1."""
EFFECTS = FPSCR.FPRF | FPSCR.FR | FPSCR.FI
"""Bits every operation sets anew."""
