"""The interrupt controller's timers: partition n has timer n, whose interrupts it takes itself (EPCR[EXTGS])."""

from __future__ import annotations

from ....devices.mpic_registers import Gcr, Ivpr, Offset, Tbcr
from ....native.ints import u32
from ....native.lang import native
from ...builtin.program.interrupts import mpic, source_word
from ...builtin.words import peek, poke, routine, the
from . import layout
from .state import Cpus, Partition

INTERVAL = 12_500
"""Half a millisecond, in 40 ns."""


@native
def start_controller() -> None:
    """External proxy: the vector comes with the interrupt, in EPR or GEPR, and is acknowledged by that."""
    poke(u32, mpic(u32(Offset.GCR)), u32(Gcr.reset.mask))
    while peek(u32, mpic(u32(Offset.GCR))) & Gcr.reset.mask:
        routine(None, "relax")
    poke(u32, mpic(u32(Offset.GCR)), u32(Gcr.proxy.mask | Gcr.mixed.mask))


@native
def timer(p: Partition) -> u32:
    """Registers of a partition's timer."""
    return mpic(u32(Offset.GROUP + Offset.TIMER) + Offset.TIMER_STRIDE * p.number)


@native
def admit_timer(p: Partition, admitted: bool) -> None:
    """Whether the controller lets a partition's timer through, or keeps it pending: while the CPU is another's."""
    word = source_word(u32(layout.VECTOR_TIMER) + p.number)
    through = admitted and p.timed != 0
    poke(u32, timer(p) + Offset.TVPR, word if through else word | u32(Ivpr.mask.mask))


@native
def start_timer(p: Partition) -> None:
    """Let it interrupt the partition's CPU again and again."""
    p.timed = u32(1)
    admit_timer(p, the(Cpus).each[p.cpu].loaded == p.number + 1)
    poke(u32, timer(p) + Offset.TDR, u32(1) << p.cpu)
    poke(u32, timer(p) + Offset.TBCR, u32(INTERVAL))


@native
def stop_timer(p: Partition) -> None:
    """Let it count no more; what is pending stays with the controller."""
    p.timed = u32(0)
    admit_timer(p, False)
    poke(u32, timer(p) + Offset.TBCR, u32(Tbcr.inhibit.mask))
