"""Branches (Book I, 2.4)."""

from __future__ import annotations

from ..isa.insn import insn
from ..isa.registers import ESR, SPR
from ..native.ints import i64, u32, u64
from ..native.lang import native
from ..vcpu.interrupts import raise_program
from ..vcpu.ops import address, cia, cr_bit, jump, jump_relative, mode64
from ..vcpu.state import Vcpu

# If false, if true; decrement CTR and branch if it is not zero, if it is zero. With static hints, old (y) and new (at).
BO_CONDITION = ((4, 5, 6, 7), (12, 13, 14, 15))
BO_COUNT = ((16, 17, 24, 25), (18, 19, 26, 27))
BO_ALWAYS = (20,)


@native(inline=True)
def set_link(cpu: Vcpu) -> None:
    """LR = address of the next instruction."""
    cpu.spr[SPR.LR] = address(cpu, cia(cpu) + 4)


@native(inline=True)
def counted(cpu: Vcpu, bo: u32) -> bool:
    """Decrement CTR unless BO says not to; whether its new value allows the branch."""
    if bo & 4:
        return True
    count = cpu.spr[SPR.CTR] - 1
    cpu.spr[SPR.CTR] = count
    zero = (count if mode64(cpu) else count & 0xFFFF_FFFF) == 0
    if bo & 2:
        return zero
    return not zero


@native(inline=True)
def condition(cpu: Vcpu, bo: u32, bi: u32) -> bool:
    """Whether the CR bit allows the branch."""
    if bo & 16:
        return True
    if bo & 8:
        return cr_bit(cpu, bi)
    return not cr_bit(cpu, bi)


@insn("18 li:s24<<2 aa:1 lk:1", "b{lk}{aa} target", hot=True, ends=True, cold_forms="aa")
def b(cpu: Vcpu, li: i64, aa: u32, lk: u32) -> None:
    """Branch"""
    if lk:
        set_link(cpu)
    if aa:
        jump(cpu, u64(li))
    else:
        jump_relative(cpu, li)


@insn(
    "16 bo:5 bi:5 bd:s14<<2 aa:1 lk:1", "bc{lk}{aa} bo,bi,target", hot=True, ends=True,
    variants={"bo": (*BO_CONDITION, *BO_COUNT, BO_ALWAYS)}, cold_forms="aa",
)  # fmt: skip
def bc(cpu: Vcpu, bo: u32, bi: u32, bd: i64, aa: u32, lk: u32) -> None:
    """Branch Conditional"""
    taken = counted(cpu, bo) & condition(cpu, bo, bi)
    if lk:
        set_link(cpu)
    if taken:
        if aa:
            jump(cpu, u64(bd))
        else:
            jump_relative(cpu, bd)


@insn(
    "19 bo:5 bi:5 /:3 bh:2 16:10 lk:1", "bclr{lk} bo,bi", hot=True, ends=True,
    variants={"bo": (*BO_CONDITION, BO_ALWAYS)},
)  # fmt: skip
def bclr(cpu: Vcpu, bo: u32, bi: u32, bh: u32, lk: u32) -> None:
    """Branch Conditional to Link Register"""
    taken = counted(cpu, bo) & condition(cpu, bo, bi)
    target = cpu.spr[SPR.LR] & ~u64(3)
    if lk:
        set_link(cpu)
    if taken:
        jump(cpu, target)


@insn(
    "19 bo:5 bi:5 /:3 bh:2 528:10 lk:1", "bcctr{lk} bo,bi", hot=True, ends=True,
    variants={"bo": (*BO_CONDITION, BO_ALWAYS)},
)  # fmt: skip
def bcctr(cpu: Vcpu, bo: u32, bi: u32, bh: u32, lk: u32) -> None:
    """Branch Conditional to Count Register; the forms that decrement CTR are illegal"""
    if bo & 4 == 0:
        raise_program(cpu, ESR.PIL)
    taken = condition(cpu, bo, bi)
    target = cpu.spr[SPR.CTR] & ~u64(3)
    if lk:
        set_link(cpu)
    if taken:
        jump(cpu, target)
