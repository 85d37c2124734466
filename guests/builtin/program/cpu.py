"""The running CPU: itself, its clock, its TLB, calls that may fault."""

from __future__ import annotations

from ....isa.registers import MAS0, MAS1, MAS2, MAS3
from ....native.ints import u32, u64
from ....native.lang import at, field_addr, native
from ..words import poke, routine, symbol, the
from . import layout
from .state import PAGE_SIZE, Board, Code, Cpu, Cpus, Scratch

MFSPR_R4, BLR = 0x7C80_02A6, 0x4E80_0020
ALL_RIGHTS = MAS3.SX | MAS3.SW | MAS3.SR
DEVICE = MAS2.I | MAS2.G
KIB4, MIB1 = 2, 10
"""Page sizes as MAS1[TSIZE] counts them: 1 KiB << n."""


@native
def this() -> Cpu:
    """The running CPU."""
    return at(Cpu, u64(routine(u32, "get_sprg2")))


@native
def numbered(number: u32) -> Cpu:
    """A CPU by its number."""
    return the(Cpus).each[number]


# ---- time ----------------------------------------------------------------------------------------------------------


@native
def now() -> u64:
    """The time base."""
    return routine(u64, "timebase")


@native
def milliseconds(count: u32) -> u64:
    """Ticks of the time base in some milliseconds."""
    return u64(the(Board).timebase_hz // 1000) * u64(count)


def shift_of(mask: int) -> int:
    """Where a field begins; for constants."""
    return (mask & -mask).bit_length() - 1


# ---- TLB -----------------------------------------------------------------------------------------------------------


@native
def map_page(slot: u32, effective: u32, physical: u64, tsize: u32, wimge: u32) -> None:
    """Write a TLB1 entry with every right for the supervisor; both addresses are multiples of the page's size."""
    select = u32(1 << shift_of(MAS0.TLBSEL)) | slot << shift_of(MAS0.ESEL)
    attributes = u32(MAS1.V | MAS1.IPROT) | tsize << shift_of(MAS1.TSIZE)
    low = u32(physical) & u32(MAS3.RPN) | u32(ALL_RIGHTS)
    routine(None, "tlb_write", select, attributes, effective | wimge, low, u32(physical >> 32))


@native
def through_window(physical: u64) -> u32:
    """An effective address for a physical one, good until the next call; what is not RAM is taken for a device."""
    board = the(Board)
    base = physical & ~u64(0xF_FFFF)
    wimge = u32(MAS2.M) if base < board.ram else u32(DEVICE)
    map_page(layout.WINDOW_SLOT, layout.WINDOW, base, MIB1, wimge)
    return u32(layout.WINDOW) | u32(physical) & 0xF_FFFF


@native
def whole_page(room: u32) -> u32:
    """The first page that begins in some room."""
    return (room + (PAGE_SIZE - 1)) & ~u32(PAGE_SIZE - 1)


# ---- guarded calls -------------------------------------------------------------------------------------------------


@native
def faulted() -> bool:
    """Whether the last guarded call ended by an interrupt."""
    return bool(this().fault != 0)


@native
def read_safely(address: u32, size: u32) -> u32:
    """Read 1, 2 or 4 bytes; `faulted` tells whether that was possible."""
    if size == 1:
        return routine(u32, "guarded", symbol("load1"), address, u32(0))
    if size == 2:
        return routine(u32, "guarded", symbol("load2"), address, u32(0))
    return routine(u32, "guarded", symbol("load4"), address, u32(0))


@native
def write_safely(address: u32, size: u32, value: u32) -> None:
    """Write 1, 2 or 4 bytes; `faulted` tells whether that was possible."""
    if size == 1:
        routine(u32, "guarded", symbol("store1"), address, value)
    elif size == 2:
        routine(u32, "guarded", symbol("store2"), address, value)
    else:
        routine(u32, "guarded", symbol("store4"), address, value)


@native
def read_spr(number: u32) -> u64:
    """Any special-purpose register, by an mfspr made for it; `faulted` tells whether there is one."""
    code = whole_page(u32(field_addr(the(Code), "words")))
    out = u32(field_addr(the(Scratch), "results"))
    split = (number & 31) << 5 | number >> 5  # the field's halves are swapped (Book I, mfspr)
    poke(u32, code, u32(MFSPR_R4) | split << 11)
    poke(u32, code + 4, u32(BLR))
    routine(None, "make_code_visible", code)
    the(Scratch).results[0] = u64(0)
    routine(u32, "guarded", symbol("read_spr"), code, out)
    return the(Scratch).results[0]
