"""What a region keeps of a vCPU's state: its frame, in which LLVM turns every slot into values.

A slot is one GPR, FPR, VR, CR field or scalar. The frame gives each an offset of its own; an entry of a region loads
slots from the Vcpu, an exit stores those that may have changed. A CR field is kept as the two numbers that were
compared, and becomes a nibble where it is read or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...isa.registers import SPR
from ...native.ints import u8, u64
from ...native.struct import ArrayType, size_of
from ...native.values import ir_type
from ...vcpu.state import Vcpu

ARRAYS = ("gpr", "fpr", "vr")
SCALARS = (
    "so", "ov", "ca", "xer_count", "fpscr", "fp_pending", "fp_a", "fp_b", "fp_c", "fp_foreign", "vscr", "npc",
)  # fmt: skip
SPRS = {int(SPR.LR): "lr", int(SPR.CTR): "ctr"}
CR_FIELDS = 8
FLAGS = ("so", "ov", "ca")
"""Scalars that are 0 or 1."""
READ_ONLY = ("so", "fp_foreign", "fpscr", "xer_count")
"""Scalars that no instruction inside a region changes; one that would is executed by its handler."""


@dataclass(frozen=True)
class Slot:
    """One piece of state: where it is in the frame and in the Vcpu."""

    number: int
    name: str
    kind: str
    """Its IR type."""
    at: int
    offset: int
    """In the Vcpu."""


def _lay_out() -> tuple[list[Slot], dict[str, int], int]:
    slots: list[Slot] = []
    first: dict[str, int] = {}
    position = 0

    def add(name: str, kind: Any, offset: int, group: str) -> None:
        nonlocal position
        size = size_of(kind)
        position = (position + size - 1) & -size
        first.setdefault(group, len(slots))
        slots.append(Slot(len(slots), name, ir_type(kind), position, offset))
        position += size

    for array in ARRAYS:
        field = Vcpu.fields[array]
        assert isinstance(field.type, ArrayType)
        for n in range(field.type.count):
            add(f"{array}{n}", field.type.element, field.offset + n * size_of(field.type.element), array)
    for n in range(CR_FIELDS):
        add(f"cr{n}", u8, Vcpu.offset("cr") + n, "cr")
    for scalar in SCALARS:
        add(scalar, Vcpu.fields[scalar].type, Vcpu.offset(scalar), scalar)
    for number, name in SPRS.items():
        add(name, u64, Vcpu.offset("spr") + 8 * number, name)
    return slots, first, (position + 15) & -16


SLOTS, FIRST, _END = _lay_out()
"""Every slot, and the number of the first one of each array or scalar."""

# Beside its nibble, a CR field has the operands of the compare that set it, and whether one did.
COMPARED_A = _END
COMPARED_B = COMPARED_A + 8 * CR_FIELDS
COMPARED = COMPARED_B + 8 * CR_FIELDS
FRAME_SIZE = COMPARED + CR_FIELDS


def frame_kind(name: str, narrow: bool) -> str:
    """IR type of an array's or scalar's slots in the frame where it is not that of the Vcpu, else "".

    Words as GPRs of 32-bit cores, and floating-point values as such, need no conversions where ways meet.
    """
    if name == "fpr":
        return "double"
    return "i32" if name == "gpr" and narrow else ""


def offset_of(name: str) -> int:
    """Offset in the frame of an array's first element, or of a scalar."""
    return SLOTS[FIRST[name]].at


def slots_in(mask: int) -> list[Slot]:
    """The slots of a bit mask."""
    return [slot for slot in SLOTS if mask >> slot.number & 1]


def nibble_ir(prefix: str, frame: str, number: int) -> tuple[list[str], str]:
    """IR lines that compute a CR field's nibble from the frame, and the value's name; `prefix` names its values."""
    p = prefix
    lines = [
        f"  {p}.pa = getelementptr i8, ptr {frame}, i64 {COMPARED_A + 8 * number}",
        f"  {p}.pb = getelementptr i8, ptr {frame}, i64 {COMPARED_B + 8 * number}",
        f"  {p}.pk = getelementptr i8, ptr {frame}, i64 {COMPARED + number}",
        f"  {p}.pn = getelementptr i8, ptr {frame}, i64 {offset_of('cr') + number}",
        f"  {p}.ps = getelementptr i8, ptr {frame}, i64 {offset_of('so')}",
        f"  {p}.a = load i64, ptr {p}.pa",
        f"  {p}.b = load i64, ptr {p}.pb",
        f"  {p}.k = load i8, ptr {p}.pk",
        f"  {p}.n = load i8, ptr {p}.pn",
        f"  {p}.s = load i8, ptr {p}.ps",
        f"  {p}.lt = icmp slt i64 {p}.a, {p}.b",
        f"  {p}.gt = icmp sgt i64 {p}.a, {p}.b",
        f"  {p}.ge = select i1 {p}.gt, i8 4, i8 2",
        f"  {p}.c = select i1 {p}.lt, i8 8, i8 {p}.ge",
        f"  {p}.d = or i8 {p}.c, {p}.s",
        f"  {p}.is = icmp ne i8 {p}.k, 0",
        f"  {p}.v = select i1 {p}.is, i8 {p}.d, i8 {p}.n",
    ]
    return lines, f"{p}.v"
