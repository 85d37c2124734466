"""Core models: what distinguishes e500mc, e5500 and e6500.

Values from the core reference manuals as collected in the project's facts; QEMU differs in MMUCFG, TLB1 sizes,
L1CFG0 and e6500's line size, where silicon is followed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace

from ..errors import UserError, argument
from .registers import MMUCFG, SPR, TLBCFG


@dataclass(frozen=True)
class Core:
    """A core model; sizes in bytes. `categories` are the words instructions ask for in `needs`."""

    name: str
    summary: str
    pvr: int
    bits: int
    categories: frozenset[str]
    line_size: int
    tlb0_entries: int
    tlb0_ways: int
    tlb1_entries: int
    mav2: bool
    physical_bits: int
    pid_bits: int
    max_threads: int
    pmcs: int
    sprs: dict[int, int] = field(default_factory=dict)
    """Reset values of SPRs that are constants or not zero."""

    def virtual(self) -> Core:
        """The core as a guest of a hypervisor sees it: without the categories that a hypervisor needs."""
        sprs = {**self.sprs, SPR.MMUCFG: self.sprs[SPR.MMUCFG] & ~(MMUCFG.LPIDSIZE | MMUCFG.LRAT)}
        if self.mav2:
            sprs[SPR.TLB0CFG] &= ~TLBCFG.GTWE
            sprs[SPR.TLB1CFG] &= ~TLBCFG.GTWE
        return replace(self, categories=self.categories - {"ehv", "lrat"}, sprs=sprs)


_COMMON = frozenset("base embedded fp ehv epd eed epc epm exp ecl ds wait isel tlbilx".split())
_L1CFG0 = 0x00B8_3820  # split caches, 64-byte blocks, pseudo-LRU, locking, parity, 8 ways, 32 KiB
_L1CFG1 = _L1CFG0

_MMU_V1 = {
    SPR.MMUCFG: 0x0648_01C4,  # LPIDSIZE 6, RASIZE 36, PIDSIZE 8 bits, 2 TLBs, MAV 1.0
    SPR.TLB0CFG: 0x0411_0200,
    SPR.TLB1CFG: 0x401B_C040,
}

CORES: dict[str, Core] = {
    core.name: core
    for core in (
        Core(
            "e500mc", "32-bit, FP, embedded hypervisor (P2041, P3041, P4080)", 0x8023_0020, 32, _COMMON,
            64, 512, 4, 64, False, 36, 8, 1, 4,
            {**_MMU_V1, SPR.L1CFG0: _L1CFG0, SPR.L1CFG1: _L1CFG1, SPR.L2CFG0: 0x0000_8002},
        ),
        Core(
            "e5500", "64-bit, FP, embedded hypervisor (P5020, P5040, T1040)", 0x8024_0020, 64,
            _COMMON | frozenset(("64", "popcnt", "ldbrx")), 64, 512, 4, 64, False, 36, 8, 1, 4,
            {**_MMU_V1, SPR.L1CFG0: _L1CFG0, SPR.L1CFG1: _L1CFG1, SPR.L2CFG0: 0x0000_8008},
        ),
        Core(
            "e6500", "64-bit, AltiVec, two threads, LRAT, hardware tablewalk (T2080, T4240, B4860)", 0x8040_0020, 64,
            _COMMON | frozenset("64 popcnt ldbrx cmpb prty altivec er em ept lrat mav2 iac8".split()),
            64, 1024, 8, 64, True, 40, 14, 2, 6,
            {
                SPR.MMUCFG: 0x0651_0B45, SPR.TLB0CFG: 0x0805_2400, SPR.TLB1CFG: 0x4002_8040,
                SPR.TLB0PS: 0x0000_0004, SPR.TLB1PS: 0x7FFF_FFFC,
                SPR.EPTCFG: 0x0000_0002,  # exactly 2: Linux compares the whole register before it walks in hardware
                SPR.LRATCFG: 0x0002_8008, SPR.LRATPS: 0x7FFF_FFFC,
                SPR.L1CFG0: _L1CFG0, SPR.L1CFG1: _L1CFG1,
            },
        ),
    )
}  # fmt: skip


ALIASES = {f"POWERPC_{name}": name for name, core in CORES.items() if core.bits == 64}
"""What libvirt's map of CPU models calls them."""
DEFAULTS = {"ppc": "e500mc"}
"""The core of a machine for an architecture, where it is not the board's own."""


def get(name: str) -> Core:
    """The core of a name; UserError with the nearest names otherwise."""
    core = CORES.get(ALIASES.get(name, name.lower()))
    if core is None:
        near = difflib.get_close_matches(name.lower(), CORES, 3, 0.3) or list(CORES)
        raise UserError(f"{argument('cpu')} {name}: no such core; available: {', '.join(near)}")
    return core
