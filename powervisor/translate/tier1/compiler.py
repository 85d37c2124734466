"""Tier 1 of a machine: hot instructions in, compiled regions installed, all of it off the vCPUs' threads."""

from __future__ import annotations

import ctypes
import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...insns import TABLE
from ...isa.cores import Core
from ...native.elf import Object, RelocationError
from ...vcpu.codemap import WORDS_PER_PAGE, CodePage
from ...vcpu.state import SOFT_CODE_ENTRIES, Context, SoftCode
from .build import entry_symbol
from .meaning import PAGE_SIZE
from .options import DEFAULTS, RegionOptions
from .shape import Former, Region
from .store import RegionStore
from .worker import Worker

PAGE_MASK = ~(PAGE_SIZE - 1)
PUBLISHED = 255
"""The heat of a word whose entry leads to a region, see `codemap.publish_code`."""


@dataclass
class Statistics:
    """What tier 1 did, for people who ask."""

    hot: int = 0
    compiled: int = 0
    from_cache: int = 0
    covered: int = 0
    """Those of which another's region had an entry by the time they came."""
    refused: Counter[str] = field(default_factory=Counter)
    """Those that did not become regions, by reason."""
    instructions: int = 0
    bytes: int = 0

    def counted(self) -> dict[str, Any]:
        """The counters by name, of types that JSON knows (dataclasses.asdict spoils a Counter)."""
        return {**vars(self), "refused": dict(self.refused)}


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


class Pages:
    """Guest code as a region sees it: words by distance from its home, of pages that are mapped now.

    `origin` is the distance in pages of that home from the hot instruction's page.
    """

    def __init__(self, vm: Any, request: Request, origin: int = 0) -> None:
        self.vm, self.request, self.origin = vm, request, origin
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
        generation = int(page.generation)
        return page, generation, ctypes.string_at(int(self.vm.ram) + int(page.pa), PAGE_SIZE)

    def word(self, at: int) -> int | None:
        """The instruction at an address."""
        page = self.page(at // PAGE_SIZE)
        return None if page is None else int.from_bytes(page[2][at % PAGE_SIZE : at % PAGE_SIZE + 4], "big")

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


@dataclass(frozen=True)
class Installed:
    """A region in the code space."""

    start: int
    size: int
    home: int
    """Effective address of its home page."""
    region: Region
    pages: tuple[tuple[int, int], ...]
    """Its CodePages and their generations."""
    entries: dict[tuple[int, int], int]
    """Code by CodePage and word."""

    def holds(self) -> bool:
        """Whether all of its code is there still."""
        return all(int(CodePage.at(page).generation) == generation for page, generation in self.pages)


class RegionCompiler:
    """Takes hot instructions from vCPUs and makes regions of them on a thread of its own."""

    def __init__(
        self, core: Core, vm: Any, symbols: dict[str, int], function: Callable[..., Callable[..., Any]],
        store: Callable[[], RegionStore], wait: bool = False, options: RegionOptions = DEFAULTS,
    ) -> None:  # fmt: skip
        """`function` gives exported native functions; with `wait`, a hot instruction waits for its region."""
        self.core, self.vm, self.symbols = core, vm, symbols
        self.table = TABLE.for_core(core.categories)
        u64, u32 = ctypes.c_uint64, ctypes.c_uint32
        self._reserve = function("reserve_code", u64, u64, u64)
        self._publish = function("publish_code", None, u64, u64, u32, u32, u64)
        self._make_store = store
        self._wait = wait
        self._options = options
        self._worker = Worker(options)
        self._requests: queue.LifoQueue[tuple[Request, threading.Event] | None] = queue.LifoQueue()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._epoch = 0
        self._installing = threading.Lock()
        self.statistics = Statistics()
        self.installed: list[Installed] = []
        self._entries: dict[tuple[int, int], Installed] = {}
        """The region installed last for each CodePage and word."""

    def hot(self, cpu: Any) -> None:
        """What ExitReason.HOT is about, on the vCPU's thread."""
        page = int(cpu.pc) & PAGE_MASK | int(cpu.mode)
        self.ask(int(cpu.hot_page), int(cpu.hot_index), page, mapped_pages(int(cpu.context)))

    def ask(self, home: int, index: int, page: int, mapped: dict[int, int]) -> None:
        """Make a region of a word of a CodePage; `page` and `mapped` as in `Request`."""
        request = Request(self._epoch, home, index, page, mapped)
        if self._failure is not None:
            raise self._failure
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="regions", daemon=True)
            self._thread.start()
        done = threading.Event()
        self._requests.put((request, done))
        if self._wait:
            done.wait()
            if self._failure is not None:
                raise self._failure

    def forget(self) -> None:
        """All translated code goes, regions with it: called while no vCPU is in native code."""
        with self._installing:
            self._epoch += 1
            self.installed.clear()
            self._entries.clear()

    def close(self) -> None:
        """End the thread and the process behind it."""
        if self._thread is not None:
            self._requests.put(None)
            self._worker.close()
            self._thread.join()
            self._thread = None

    def _serve(self) -> None:
        store = self._make_store()
        try:
            while (item := self._requests.get()) is not None:
                request, done = item
                self.statistics.hot += 1
                try:
                    self._make(request, store)
                except Exception as error:
                    self._failure = error  # for whoever asks next: this thread has no caller
                finally:
                    done.set()
        finally:
            store.close()
            self._worker.close()

    def _make(self, request: Request, store: RegionStore) -> None:
        """One region: from the cache or from the worker."""
        head = 4 * request.index
        with self._installing:
            if not self._wanted(request):
                return
            pages = Pages(self.vm, request)
            pages.page(0)
        kept = store.find(self.core.name, pages.mode, pages.word, head)  # may wait for another process: unlocked
        with self._installing:
            if not self._wanted(request):
                return
            found = next((one for one in kept if Pages(self.vm, request, one.home).have(one.region)), None)
        code = store.object(found) if found is not None else None
        if found is not None and code is not None:
            self.statistics.from_cache += 1
            if not self._install(found.region, request, found.home, code):
                store.drop(found)
            return
        with self._installing:
            if not self._wanted(request):
                return
            region = self._former(pages).form(head)
        if region is None:
            self.statistics.refused["begins with an instruction for handlers"] += 1
            return
        code = self._worker.compile(region)
        if not code:
            self.statistics.refused["not compiled"] += 1
            return
        self.statistics.compiled += 1
        store.keep(region, pages.word, code)
        self._install(region, request, 0, code)

    def _wanted(self, request: Request) -> bool:
        """Whether a request still needs a region: not when its code is gone, or an installed region has that entry."""
        if request.epoch != self._epoch:
            self.statistics.refused["code has changed"] += 1
            return False
        place = request.home, request.index
        known = self._entries.get(place)
        if known is None or not known.holds():
            return True
        page: Any = CodePage.at(request.home)
        self._publish(self.vm.address, page.address, request.index, int(page.generation), known.entries[place])
        self.statistics.covered += 1
        return False

    def _former(self, pages: Pages) -> Former:
        return Former(self.core.name, self.table, pages.mode, pages.word, pages.executed, self._options)

    def _install(self, region: Region, request: Request, home: int, code: bytes) -> bool:
        """Load a region's object and let its entries lead there, unless its code has changed; `home` is the distance
        of its home page from the hot instruction's. False for what is no object of a region."""
        with self._installing:
            pages = Pages(self.vm, request, home)
            if request.epoch != self._epoch or not pages.have(region):
                self.statistics.refused["code has changed"] += 1
                return True
            try:
                self._load(region, pages, code)
            except (RelocationError, KeyError) as error:
                self.statistics.refused[f"object: {error}"] += 1
                return False
        return True

    def _load(self, region: Region, pages: Pages, code: bytes) -> None:
        """As `_install`, for code that is there. Raises RelocationError, KeyError for a symbol."""
        image = Object(code)
        room = sum(section.size + section.align + 16 for section in image.sections.values())
        start = self._reserve(self.vm.address, room)
        if not start:
            self.statistics.refused["code space is full"] += 1
            return
        used = 0

        def place(size: int, align: int) -> int:
            nonlocal used
            at = (start + used + align - 1) & -align
            used = at + size - start
            return at

        def bound(distance: int) -> tuple[int, int]:
            page = pages.page(distance)
            assert page is not None
            return int(page[0].address), page[1]

        def resolve(name: str) -> int:
            kind, _, distance = name.partition(".")
            return bound(int(distance))[kind == "generation"] if kind in ("page", "generation") else self.symbols[name]

        symbols = image.load(place, resolve)
        entries = {
            (bound(entry // PAGE_SIZE)[0], entry % PAGE_SIZE // 4): symbols[entry_symbol(number)]
            for number, entry in enumerate(region.entries)
        }
        own = tuple(bound(distance) for distance in region.pages)
        installed = Installed(start, room, pages.effective(0), region, own, entries)
        self.statistics.instructions += region.size
        self.statistics.bytes += room
        self.installed.append(installed)
        generations = dict(own)
        hot = pages.request.home, pages.request.index
        for (page, index), address in entries.items():
            if (page, index) == hot or int(CodePage.at(page).heat[index]) != PUBLISHED:
                self._publish(self.vm.address, page, index, generations[page], address)
                self._entries[page, index] = installed


def mapped_pages(context: int) -> dict[int, int]:
    """CodePages by effective page and mode, as a context has them now."""
    data = ctypes.string_at(context + Context.offset("code"), SOFT_CODE_ENTRIES * SoftCode.size)
    words = memoryview(data).cast("Q")
    step = SoftCode.size // 8
    tag, entries = SoftCode.offset("tag") // 8, SoftCode.offset("entries") // 8
    return {words[n + tag]: words[n + entries] for n in range(0, len(words), step) if words[n + entries]}
