"""Where a differential test's code and data lie: guest-physical pages, effective addresses and the TLB that joins them.

All of a test's RAM is `RAM_SIZE`. Data pages of every kind (read-only, little-endian, device ...) lie side by side, so
that accesses run from one into the next. The address where a test ends is in a page without memory: fetching there
leaves native code with nothing changed. Interrupts lead there, or to handlers that skip the instruction.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..isa import cores
from ..isa.registers import IVOR, MAS1, MAS2, MAS3, MAS8, MSR, SPR
from ..native.struct import size_of
from ..vcpu.interrupts import ivor_spr
from ..vcpu.state import Tlb

RAM_SIZE = 0x4_0000
DATA_PA, DATA_SIZE = 0x0, 0x1_0000
CODE_PA, CODE_SIZE = 0x2_0000, 0x4000
HANDLERS_PA = 0x3_0000
DEVICE_PA = 0x9000_0000
STOP_PA, STOP_SIZE = 0x8000_0000, 0x4_0000

CODE_EA = 0x0010_0000
DATA_EA = 0x1000_0000
JUNK_EA = 0x4000_0000
STOP_EA = 0x01F0_0000  # in reach of `ba`
VECTORS_EA = 0x01E0_0000  # a page of handlers, a page without memory
GUEST_VECTORS_EA = STOP_EA + 0x2_0000
HIGH = 0xC000_0001_0000_0000
"""Added to CODE_EA and DATA_EA where addresses of 64 bits are tried."""

PID, LPID, OTHER_PID = 5, 3, 6
PAGE = 0x1000
OWN_ENTRIES = range(4, 12)
"""The entries of TLB1 that a test needs for its code and its end."""
_RW, _X = MAS3.UR | MAS3.SR | MAS3.UW | MAS3.SW, MAS3.UX | MAS3.SX


@dataclass(frozen=True)
class Page:
    """A kind of data page: frame of the data area (None: device), permissions, WIMGE, other bits."""

    frame: int | None
    mas3: int = _RW
    mas2: int = 0
    mas8: int = 0
    mapped: bool = True


PAGES: tuple[Page, ...] = (
    Page(1), Page(0), Page(2, MAS3.UR | MAS3.SR), Page(3, MAS3.SR | MAS3.SW), Page(4), Page(5, mas2=MAS2.E),
    Page(6, mas2=MAS2.E), Page(7), Page(None), Page(8), Page(0, mapped=False), Page(9, mas2=MAS2.W | MAS2.I | MAS2.G),
    Page(10), Page(11, mas8=MAS8.VF), Page(12, MAS3.UR | MAS3.UW), Page(0), Page(13, _X), Page(15), Page(14),
    Page(0, MAS3.UW | MAS3.SW), Page(1, mas2=MAS2.E), Page(2),
)  # fmt: skip
"""Frames 0 to 2 appear twice; neighbours are of different kinds, or the frames are not neighbours."""
LOW_FRAME = 15
"""The frame at effective address 0, for displacements without a base."""
PLAIN = tuple(n for n, page in enumerate(PAGES) if page == Page(page.frame))
"""The pages that nothing is wrong with."""


@dataclass(frozen=True)
class Layout:
    """A TLB content: address spaces of code and data, guest state, and whether addresses are high."""

    instruction_space: int
    data_space: int
    guest: int
    high: bool

    @property
    def base(self) -> int:
        """What is added to CODE_EA and DATA_EA."""
        return HIGH if self.high else 0

    @property
    def code(self) -> int:
        """Effective address of the code."""
        return self.base + CODE_EA

    @property
    def data(self) -> int:
        """Effective address of the first data page."""
        return self.base + DATA_EA

    def msr(self) -> int:
        """The MSR bits that select it."""
        return (
            (MSR.IS if self.instruction_space else 0) | (MSR.DS if self.data_space else 0)
            | (MSR.GS if self.guest else 0)
        )  # fmt: skip


def _put(entry: Any, ea: int, pa: int, size: int, mas1: int, mas2: int, mas3: int, mas8: int) -> None:
    tsize = (size.bit_length() - 11) << 7
    entry.ea, entry.pa, entry.mask = ea, pa, size - 1
    entry.mas1, entry.mas2, entry.mas3, entry.mas8 = MAS1.V | tsize | mas1, mas2, mas3, mas8
    entry.valid = 1


@cache
def tlb_image(core_name: str, layout: Layout) -> bytes:
    """The bytes of a core's Tlb for a layout; with it lie entries that nothing uses."""
    core, tlb = cores.get(core_name), Tlb.new()
    sets = core.tlb0_entries // core.tlb0_ways
    guest = MAS8.TGS | LPID if layout.guest else 0
    for number, page in enumerate(PAGES):
        if not page.mapped:
            continue
        ea = layout.data + number * PAGE
        pa = DEVICE_PA + number * PAGE if page.frame is None else DATA_PA + page.frame * PAGE
        where = (ea >> 12 & sets - 1) * core.tlb0_ways + number % core.tlb0_ways
        space = MAS1.TS if layout.data_space else 0
        tid = PID << 16 if number % 3 else 0
        _put(tlb.tlb0[where], ea, pa, PAGE, space | tid, page.mas2, page.mas3, guest | page.mas8)
    where = core.tlb0_ways - 1  # set 0
    _put(tlb.tlb0[where], 0, DATA_PA + LOW_FRAME * PAGE, PAGE, MAS1.TS if layout.data_space else 0, 0, _RW, guest)
    for number in range(48):
        ea = JUNK_EA + number * 0x5000
        where = (ea >> 12 & sets - 1) * core.tlb0_ways + number % core.tlb0_ways
        if not tlb.tlb0[where].valid:
            tid = (0, PID, OTHER_PID)[number % 3] << 16
            space = MAS1.TS if number % 5 == 0 else 0
            _put(tlb.tlb0[where], ea, DATA_PA + number % 16 * PAGE, PAGE, tid | space, number & 31, number & 0x3F, 0)
    for number in range(OWN_ENTRIES[0]):
        size = PAGE << 2 * number
        iprot = MAS1.IPROT if number & 1 else 0
        _put(tlb.tlb1[number], JUNK_EA + 0x100_0000 * (number + 1), DEVICE_PA, size, iprot | PID << 16, number, 0x3F, 0)
    own = iter(OWN_ENTRIES)
    space = MAS1.TS if layout.instruction_space else 0
    _put(tlb.tlb1[next(own)], layout.code, CODE_PA, CODE_SIZE, MAS1.IPROT | space, 0, _RW | _X, guest)
    for space, state in ((0, 0), (1, 0), (0, 1), (1, 1)):
        _put(
            tlb.tlb1[next(own)], STOP_EA, STOP_PA, STOP_SIZE, MAS1.IPROT | (MAS1.TS if space else 0), 0, _X,
            MAS8.TGS if state else 0,
        )  # fmt: skip
    _put(tlb.tlb1[next(own)], VECTORS_EA, HANDLERS_PA, PAGE, MAS1.IPROT, 0, MAS3.SX, 0)
    _put(tlb.tlb1[next(own)], VECTORS_EA + PAGE, STOP_PA, PAGE, MAS1.IPROT, 0, MAS3.SX, 0)
    if layout.data_space != layout.instruction_space:
        space = MAS1.TS if layout.data_space else 0
        _put(tlb.tlb1[next(own)], layout.code, CODE_PA, CODE_SIZE, MAS1.IPROT | space, 0, _RW, guest)
    tlb.tlb1_used = OWN_ENTRIES.stop
    tlb.next_victim = 3
    return ctypes.string_at(tlb.address, size_of(Tlb))


SKIPPED = (
    IVOR.DATA_STORAGE, IVOR.ALIGNMENT, IVOR.PROGRAM, IVOR.FP_UNAVAILABLE, IVOR.SYSTEM_CALL, IVOR.DATA_TLB,
    IVOR.ALTIVEC_UNAVAILABLE, IVOR.HYPERVISOR_SYSTEM_CALL, IVOR.HYPERVISOR_PRIVILEGE, IVOR.LRAT_ERROR,
)  # fmt: skip
"""Interrupts whose handlers go on after the instruction; all others end the test."""


def vectors(skip: bool) -> dict[int, int]:
    """SPR values that send interrupts to the page without memory, or those that may `skip` to the handlers."""
    sprs = {int(SPR.IVPR): VECTORS_EA, int(SPR.GIVPR): GUEST_VECTORS_EA}
    for number in range(IVOR.LRAT_ERROR + 1):
        if number < 16 or number >= 32:
            sprs[int(ivor_spr(number))] = number << 6 | (0 if skip and number in SKIPPED else PAGE)
    for number in (2, 3, 4, 8, 13, 14):
        sprs[int(getattr(SPR, f"GIVOR{number}"))] = number << 6
    return sprs


@cache
def handlers() -> bytes:
    """The page of handlers: SRR0 += 4 and return, with r31 kept in SPRG0."""
    from ..insns import assemble

    lines = ("mtspr 272,r31", "mfspr r31,26", "addi r31,r31,4", "mtspr 26,r31", "mfspr r31,272", "rfi")
    handler = b"".join(assemble(line).to_bytes(4, "big") for line in lines).ljust(64, b"\0")
    return handler * (PAGE // len(handler))
