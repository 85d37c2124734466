"""MAS registers loaded by hardware on a TLB miss (Book III-E 6.10.3, table "MAS register update")."""

from __future__ import annotations

from ..isa.registers import MAS0, MAS1, MAS4, MAS6, SPR, TLBCFG
from ..native.ints import u32, u64
from ..native.lang import native
from .state import Vcpu


@native(inline=True)
def tlb0_set(cpu: Vcpu, ea: u64) -> u32:
    """Index of the first entry of the TLB0 set that an effective address falls in; the ways follow it."""
    return (u32(ea >> 12) & (cpu.core.tlb0_sets - 1)) * cpu.core.tlb0_ways


@native
def victim_mas0(cpu: Vcpu) -> u32:
    """MAS0 for a new entry in the TLB that MAS4[TLBSELD] chooses; tlbwe makes MAS0[NV] TLB0's next victim."""
    chosen = u32(cpu.spr[SPR.MAS4]) & MAS4.TLBSELD
    last = cpu.core.tlb0_ways - 1
    way = cpu.tlb.next_victim & last
    if chosen:
        return chosen | way
    mas0 = way << 16 | ((way + 1) & last)
    return mas0 | MAS0.HES if u32(cpu.spr[SPR.TLB0CFG]) & TLBCFG.HES else mas0


@native(cold=True)
def load_mas_defaults(cpu: Vcpu, ea: u64, pid: u32, space: u32) -> None:
    """What a TLB miss puts into MAS0-3, 6 and 7."""
    mas4 = u32(cpu.spr[SPR.MAS4])
    mas1 = u32(MAS1.V) | (pid << 16 & MAS1.TID) | (mas4 & MAS4.TSIZED)
    if space:
        mas1 |= MAS1.TS
    if cpu.core.mav2 and mas4 & MAS4.INDD:
        mas1 |= MAS1.IND
    cpu.spr[SPR.MAS0] = u64(victim_mas0(cpu))
    cpu.spr[SPR.MAS1] = u64(mas1)
    cpu.spr[SPR.MAS2] = (ea & 0xFFFF_FFFF_FFFF_F000) | u64(mas4 & MAS4.WIMGED)
    cpu.spr[SPR.MAS3] = u64(0)
    cpu.spr[SPR.MAS7] = u64(0)
    mas6 = (pid << 16 & MAS6.SPID) | space
    if cpu.core.mav2:
        mas6 |= mas4 & MAS6.ISIZE
        if mas4 & MAS4.INDD:  # e6500 Linux searches for indirect entries with what the miss left here
            mas6 |= MAS6.SIND
    cpu.spr[SPR.MAS6] = u64(mas6)
