"""Looking at a vCPU from outside, between two of its instructions, without an interrupt or any other trace."""

from __future__ import annotations

from ..isa.registers import SPR
from ..native.ints import u64
from ..native.lang import at, native
from .mmu import NO_REAL, code_space, data_space, lookup, physical
from .ops import address
from .state import TlbEntry, Vcpu

UNMAPPED = 0xFFFF_FFFF_FFFF_FFFF


@native
def seen_at(cpu: Vcpu, ea: u64, space: u64) -> u64:
    """Physical address behind an effective one of a space, UNMAPPED without a translation; permissions do not count.

    A hardware table walk may put the translation into TLB0, as one that a core makes ahead of time does.
    """
    lper, lperu = cpu.spr[SPR.LPER], cpu.spr[SPR.LPERU]
    where = lookup(cpu, ea, space)
    cpu.spr[SPR.LPER] = lper
    cpu.spr[SPR.LPERU] = lperu
    return physical(at(TlbEntry, where), ea) if where > NO_REAL else u64(UNMAPPED)


@native
def debug_address(cpu: Vcpu, ea: u64) -> u64:
    """Physical address behind an effective one, as data or else as code of what PC is in; UNMAPPED without one."""
    where = address(cpu, ea)
    found = seen_at(cpu, where, data_space(cpu))
    return found if found != UNMAPPED else seen_at(cpu, where, code_space(cpu))
