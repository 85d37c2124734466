"""Tests of the MMU and of memory: a TLB0 page from mapping to invalidation, RAM in all its length."""

from __future__ import annotations

from ....isa.registers import ESR, IVOR, MAS1, MAS2, MAS3
from ....native.ints import u32, u64
from ....native.lang import field_addr, native
from ..words import peek, poke, routine, say, the
from .checks import detail, verdict
from .core_checks import caused
from .cpu import ALL_RIGHTS, KIB4, faulted, read_safely, shift_of, through_window, whole_page, write_safely
from .layout import TEST_PAGE
from .state import Board, Scratch

PATTERN = 0x5A00_1234
PROBES = 16
"""Places in RAM that are looked at: few, because the host has to find memory for each."""


@native
def map_small(physical: u32, rights: u32) -> None:
    """Write a TLB0 entry for the test page."""
    attributes = u32(MAS1.V) | u32(KIB4 << shift_of(MAS1.TSIZE))
    routine(None, "tlb_write", u32(0), attributes, u32(TEST_PAGE | MAS2.M), physical | rights, u32(0))


@native
def missing() -> bool:
    """Whether the test page is unmapped."""
    read_safely(TEST_PAGE, 4)
    return caused(IVOR.DATA_TLB, 0)


@native
def check_mmu() -> None:
    """A page is mapped, seen at both addresses, found, protected and invalidated."""
    page = whole_page(u32(field_addr(the(Scratch), "page")))
    poke(u32, page + 8, u32(PATTERN))
    before = missing()
    map_small(page, ALL_RIGHTS)
    seen = read_safely(TEST_PAGE + 8, 4) == PATTERN and not faulted()
    write_safely(TEST_PAGE + 12, 4, ~u32(PATTERN))
    written = peek(u32, page + 12) == ~u32(PATTERN)
    routine(None, "tlb_search", u32(TEST_PAGE))
    found = routine(u32, "get_mas1") & MAS1.V != 0 and routine(u32, "get_mas3") & MAS3.RPN == page
    routine(None, "tlb_read", u32(0), u32(TEST_PAGE))
    read_back = routine(u32, "get_mas1") & MAS1.V != 0 and routine(u32, "get_mas3") & MAS3.RPN == page
    map_small(page, MAS3.SR)
    write_safely(TEST_PAGE, 4, 0)
    protected = caused(IVOR.DATA_STORAGE, ESR.ST)
    routine(None, "tlb_invalidate", u32(TEST_PAGE))
    gone = missing()
    verdict(before and seen and written and found and read_back and protected and gone, "mmu")
    detail(before, "miss", False)
    detail(seen, "read", False)
    detail(written, "write", False)
    detail(found, "tlbsx", False)
    detail(read_back, "tlbre", False)
    detail(protected, "protection", False)
    detail(gone, "invalidation", True)


@native
def probe(n: u32) -> u64:
    """Physical address of the nth place: the last words of a part of RAM."""
    part = the(Board).ram >> 4
    return part * u64(n + 1) - 16


@native
def check_memory() -> None:
    """All of RAM answers, every place by itself; what was there stays."""
    scratch = the(Scratch)
    for n in range(PROBES):
        scratch.page[n] = peek(u32, through_window(probe(n)))
    for n in range(PROBES):
        poke(u32, through_window(probe(n)), u32(PATTERN) * (n + 1))
    wrong = u32(0)
    for n in range(PROBES):
        if peek(u32, through_window(probe(n))) != u32(PATTERN) * (n + 1):
            wrong += 1
    for n in range(PROBES):
        poke(u32, through_window(probe(n)), scratch.page[n])
    verdict(wrong == 0, "memory")
    say("{} places up to 0x{:x}\n", PROBES, probe(u32(PROBES - 1)))
