"""Tier 1 of a machine: hot instructions in, compiled regions installed, all of it off the vCPUs' threads."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...insns import TABLE
from ...isa.cores import Core
from ...native.elf import Object, RelocationError
from ...vcpu.codemap import CodePage
from .build import entry_symbol
from .memory import PAGE_SIZE
from .options import DEFAULTS, RegionOptions
from .pages import PAGE_MASK, PUBLISHED, Pages, Request, mapped_pages
from .shape import Former, Region
from .store import RegionStore
from .worker import Worker

WORTHWHILE = 50
"""Heat at which a region is made: about a millisecond of guest time outside of regions."""
HALF_LIFE = 1.0
"""Seconds in which what waits loses half of its heat."""
LOOK_AGAIN = 0.02
"""Seconds between two looks at what waits and is not hot enough yet."""
COLD = 0.5
"""Heat below which nothing waits any longer."""


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


@dataclass
class Waiting:
    """A request that no kept region serves."""

    request: Request
    heat: float
    """How many time slices ended there lately."""


@dataclass(frozen=True)
class Made:
    """A region to keep."""

    region: Region
    pages: Pages
    code: bytes


class RegionCompiler:
    """Takes hot instructions from vCPUs and makes regions of them.

    One thread looks for what is kept, so that this never waits for LLVM. Those of which nothing is wait for another
    one, which compiles what has been hottest lately: a program may have a hundred of them at once.
    """

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
        self._watch = function("watch_code", u32, u64, u64)
        self._make_store = store
        self._wait = wait
        self._options = options
        self._worker = Worker(options)
        self._looked_for: queue.SimpleQueue[Request | Made | None] = queue.SimpleQueue()
        self.waiting: dict[tuple[int, int], Waiting] = {}
        """Requests that are to be compiled, the newest last."""
        self._measured = time.monotonic()
        """When the heat of what waits was measured last."""
        self._threads: list[threading.Thread] = []
        self._failure: Exception | None = None
        self._epoch = 0
        self._closed = False
        self._lock = threading.Lock()
        """Of what is known, waiting or installed."""
        self._changed = threading.Condition(self._lock)
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
        with self._lock:  # vCPUs may be the first at the same time
            if self._closed:
                return
            if not self._threads:
                for name, run in (("regions", self._look), ("regions-compiler", self._compile)):
                    self._threads.append(threading.Thread(target=run, name=name, daemon=True))
                    self._threads[-1].start()
            self._looked_for.put(request)
        if self._wait:
            request.done.wait()
            if self._failure is not None:
                raise self._failure

    def forget(self) -> None:
        """All translated code goes, regions with it: called while no vCPU is in native code."""
        with self._lock:
            self._epoch += 1
            self.installed.clear()
            self._entries.clear()
            for waiting in self.waiting.values():
                self._refuse(waiting.request, "code has changed")
            self.waiting.clear()

    def close(self) -> None:
        """End the threads and the process behind them."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._looked_for.put(None)
        self._worker.stop()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _look(self) -> None:
        """The thread of the store."""
        store = self._make_store()
        try:
            while (item := self._looked_for.get()) is not None:
                if isinstance(item, Made):
                    store.keep(item.region, item.pages.word, item.code)
                elif not self._closed:
                    self._guarded(item, lambda request: self._find(request, store))
        finally:
            store.close()

    def _compile(self) -> None:
        """The thread of the worker."""
        try:
            while (request := self._hottest()) is not None:
                self._guarded(request, self._make)
        finally:
            self._worker.close()

    def _guarded(self, request: Request, serve: Callable[[Request], None]) -> None:
        try:
            serve(request)
        except Exception as error:
            self._failure = error  # for whoever asks next: this thread has no caller
            request.done.set()

    def _refuse(self, request: Request, reason: str) -> None:
        """A request gets no region. Under the lock, as all that counts."""
        self.statistics.refused[reason] += 1
        request.done.set()

    def _find(self, request: Request, store: RegionStore) -> None:
        """Serve a request by a region that there is, or let it wait."""
        with self._lock:
            self.statistics.hot += 1
            if not self._wanted(request):
                return
            pages = self._pages(request)
            pages.page(0)
        kept = store.find(self.core.name, pages.mode, pages.word, 4 * request.index)  # may wait for other processes
        with self._lock:
            if not self._wanted(request):
                return
            found = next((one for one in kept if self._pages(request, one.home).have(one.region)), None)
        code = store.object(found) if found is not None else None
        if found is None or code is None:
            self._let_wait(request)
            return
        self.statistics.from_cache += 1
        if not self._install(found.region, request, found.home, code):
            store.drop(found)

    def _let_wait(self, request: Request) -> None:
        with self._changed:
            if request.epoch != self._epoch:
                self._refuse(request, "code has changed")
                return
            if (before := self.waiting.pop(request.place, None)) is not None:
                self._refuse(before.request, "code has changed")  # else it were not asked again
            self.waiting[request.place] = Waiting(request, int(self.vm.hot_after))
            self._changed.notify()

    def _hottest(self) -> Request | None:
        """Wait for a request that is worth compiling; None at the end."""
        enough = 0 if self._wait else WORTHWHILE
        with self._changed:
            while not self._closed:
                self._measure()
                newest_first = reversed(self.waiting.values())
                hottest = max(newest_first, key=lambda one: one.heat, default=None)
                if hottest is not None and hottest.heat >= enough:
                    del self.waiting[hottest.request.place]
                    return hottest.request
                self._changed.wait(LOOK_AGAIN if hottest is not None else None)
        return None

    def _measure(self) -> None:
        """Add what was counted since the last time, and send away what went cold. Under the lock."""
        before, self._measured = self._measured, time.monotonic()
        kept = 0.5 ** ((self._measured - before) / HALF_LIFE)
        after = int(self.vm.hot_after)
        for place, waiting in list(self.waiting.items()):
            counted = waiting.request.heat()
            published = counted.value == PUBLISHED
            if published and not self._wanted(waiting.request):
                del self.waiting[place]
                continue
            waiting.heat = waiting.heat * kept + (0 if published else max(counted.value - after, 0))
            cold = waiting.heat < COLD and not self._wait
            if not published:
                counted.value = 0 if cold else min(counted.value, after)  # what went cold may become hot once more
            if cold:
                del self.waiting[place]
                self._refuse(waiting.request, "cold again")

    def _cool(self, places: set[tuple[int, int]]) -> None:
        """What waits at places that a region holds has to become hot beside it. Under the lock."""
        for place in places & self.waiting.keys():
            waiting = self.waiting[place]
            waiting.heat = int(self.vm.hot_after)
            waiting.request.heat().value = min(waiting.request.heat().value, int(self.vm.hot_after))

    def _make(self, request: Request) -> None:
        """Serve a request by a new region."""
        with self._lock:
            if not self._wanted(request):
                return
            pages = self._pages(request)
            region = self._former(pages).form(4 * request.index)
            if region is None:
                self._refuse(request, "begins with an instruction for handlers")
                return
        code = self._worker.compile(region)
        if not code:
            with self._lock:
                self._refuse(request, "not compiled")
            return
        self.statistics.compiled += 1
        self._install(region, request, 0, code)
        self._looked_for.put(Made(region, pages, code))

    def _wanted(self, request: Request) -> bool:
        """Whether a request still needs a region: not when its code is gone, or an installed region has that entry."""
        if request.epoch != self._epoch:
            self._refuse(request, "code has changed")
            return False
        known = self._entries.get(request.place)
        if known is None or not known.holds():
            return True
        generation = dict(known.pages)[request.home]  # not what it is now: its code may go at any time
        self._publish(self.vm.address, request.home, request.index, generation, known.entries[request.place])
        self.statistics.covered += 1
        request.done.set()
        return False

    def _pages(self, request: Request, home: int = 0) -> Pages:
        return Pages(self.vm, self._watch, request, home)

    def _former(self, pages: Pages) -> Former:
        return Former(self.core.name, self.table, pages.mode, pages.word, pages.executed, self._options)

    def _install(self, region: Region, request: Request, home: int, code: bytes) -> bool:
        """Load a region's object and let its entries lead there, unless its code has changed; `home` is the distance
        of its home page from the hot instruction's. False for what is no object of a region."""
        with self._lock:
            pages = self._pages(request, home)
            if request.epoch != self._epoch or not pages.have(region):
                self._refuse(request, "code has changed")
                return True
            try:
                self._load(region, pages, code)
            except (RelocationError, KeyError) as error:
                self._refuse(request, f"object: {error}")
                return False
            request.done.set()
        return True

    def _load(self, region: Region, pages: Pages, code: bytes) -> None:
        """As `_install`, for code that is there. Raises RelocationError, KeyError for a symbol."""
        image = Object(code)
        room = sum(section.size + section.align + 16 for section in image.sections.values())
        start = self._reserve(self.vm.address, room)
        if not start:
            self._refuse(pages.request, "code space is full")
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
        self._cool(
            {(bound(at // PAGE_SIZE)[0], at % PAGE_SIZE // 4) for b in region.blocks for at in range(b.start, b.end, 4)}
        )
        for (page, index), address in entries.items():
            if (page, index) == pages.request.place or int(CodePage.at(page).heat[index]) != PUBLISHED:
                self._publish(self.vm.address, page, index, generations[page], address)
                self._entries[page, index] = installed
