"""Hot instructions, and the guest code around them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...vcpu.codemap import WORDS_PER_PAGE, CodePage
from ...vcpu.state import SOFT_CODE_ENTRIES, Context, SoftCode
from .memory import PAGE_SIZE
from .shape import Region

PAGE_MASK = ~(PAGE_SIZE - 1)
PUBLISHED = 255
"""The heat of a word whose entry leads to a region, see `codemap.publish_code`."""
HEAT = CodePage.offset("heat")


@dataclass(frozen=True)
class Request:
    """A hot instruction: its CodePage, its place in it, and where the pages around are mapped to now."""

    epoch: int
    home: int
    index: int
    page: int
    """Effective page of home, with the mode."""
    mapped: dict[int, int]
    """CodePages by effective page with the mode."""
    done: threading.Event = field(default_factory=threading.Event)
    """There is a region now, or there will be none."""

    @property
    def place(self) -> tuple[int, int]:
        """The instruction, whoever asks for it."""
        return self.home, self.index

    def heat(self) -> ctypes.c_uint8:
        """How many time slices ended before it; PUBLISHED when its entry leads to a region."""
        return ctypes.c_uint8.from_address(self.home + HEAT + self.index)


class Pages:
    """Guest code as a region sees it: words by distance from its home, of pages that are mapped now.

    `watch` is `codemap.watch_code`; `origin` the distance in pages of that home from the hot instruction's page.
    """

    def __init__(self, vm: Any, watch: Callable[[int, int], int], request: Request, origin: int = 0) -> None:
        self.vm, self._watch, self.request, self.origin = vm, watch, request, origin
        self.mode = int(CodePage.at(request.home).mode)
        self.limit = 0xFFFF_FFFF_FFFF_FFFF if self.mode & 1 else 0xFFFF_FFFF
        self.found: dict[int, tuple[Any, int, bytes] | None] = {}

    def page(self, distance: int) -> tuple[Any, int, bytes] | None:
        """CodePage, its generation and its bytes, at a distance in pages."""
        if distance not in self.found:
            self.found[distance] = self._page(distance)
        return self.found[distance]

    def _page(self, distance: int) -> tuple[Any, int, bytes] | None:
        away = distance + self.origin
        address = self.request.home if away == 0 else self.request.mapped.get(self.effective(distance) | self.mode)
        if not address:
            return None
        page: Any = CodePage.at(address)
        if int(page.mode) != self.mode:
            return None
        generation = self._watch(self.vm.address, address)  # before its words are read
        return page, generation, ctypes.string_at(int(self.vm.ram) + int(page.pa), PAGE_SIZE)

    def word(self, at: int) -> int | None:
        """The instruction at an address; none where a debugger stops."""
        page, index = self.page(at // PAGE_SIZE), at % PAGE_SIZE // 4
        stops = int(self.vm.stop_count) and int(self.vm.stop_words[index >> 6]) >> (index & 63) & 1
        return None if page is None or stops else int.from_bytes(page[2][at % PAGE_SIZE : at % PAGE_SIZE + 4], "big")

    def executed(self, at: int) -> bool:
        """Whether an address has code."""
        page = self.page(at // PAGE_SIZE)
        if page is None:
            return False
        known = ctypes.c_uint64.from_address(page[0].address + 8 * (at % PAGE_SIZE // 4)).value
        return not 0 <= known - int(self.vm.miss_ladder) < int(self.vm.miss_step) * WORDS_PER_PAGE

    def effective(self, distance: int) -> int:
        """Effective address of a page."""
        return (self.request.page & PAGE_MASK) + (distance + self.origin) * PAGE_SIZE & self.limit

    def have(self, region: Region) -> bool:
        """Whether memory has a region's words."""
        return all(
            self.word(block.start + 4 * n) == word for block in region.blocks for n, word in enumerate(block.words)
        )


def mapped_pages(context: int) -> dict[int, int]:
    """CodePages by effective page and mode, as a context has them now."""
    data = ctypes.string_at(context + Context.offset("code"), SOFT_CODE_ENTRIES * SoftCode.size)
    words = memoryview(data).cast("Q")
    step = SoftCode.size // 8
    tag, entries = SoftCode.offset("tag") // 8, SoftCode.offset("entries") // 8
    return {words[n + tag]: words[n + entries] for n in range(0, len(words), step) if words[n + entries]}
