"""Which region serves a hot instruction: one that is installed, one that is kept on disk, or a new one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from powervisor import Machine
from powervisor.cache.images import FOLDER
from powervisor.cache.place import root
from powervisor.native.ints import u8
from powervisor.translate.tier1.compiler import WORTHWHILE, Installed, Statistics
from powervisor.translate.tier1.pages import mapped_pages
from powervisor.translate.tier1.shape import Block, Region
from powervisor.translate.tier1.store import HEAD_WORDS, RegionStore
from powervisor.translate.tier1.worker import Worker
from powervisor.vcpu.codemap import CodePage
from tests.support.waiting import until
from tests.system.bare import bare_machine, results

LOOPS = """
    load32 r6, RESULTS
    li     r3, 0
    li     r5, 0
    li     r7, 3000
    b      outer
    .org 0x2FF0
outer:                          # its inner loop is in the next page
    li     r4, 10
    mtctr  r4
    addi   r5, r5, 1
    nop
inner:
    addi   r3, r3, 3
    addi   r3, r3, CHANGE
    bdnz   inner
    addi   r7, r7, -1
    cmpwi  r7, 0
    bne    outer
    stw    r3, 0(r6)
    stw    r5, 4(r6)
stop:
    b      stop
"""
COUNT = 200_000
"""Instructions: enough for all of it."""
HALF = 40_000


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of regions of its own, and machines in which regions are made when tests ask for them."""
    with bare_machine(LOOPS.replace("CHANGE", "0")) as machine:  # its image is to be there
        if machine.vm.engine.coming is not None:
            machine.vm.engine.coming.wait()
    (tmp_path / FOLDER).symlink_to(root() / FOLDER)
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    monkeypatch.setenv("POWERVISOR_TIER1", "force")


@contextlib.contextmanager
def half_done(change: int = 0) -> Iterator[Machine]:
    """A machine that is in the middle of LOOPS, without regions."""
    with bare_machine(LOOPS.replace("CHANGE", str(change))) as machine:
        vm = machine.vm.engine.vm
        vm.hot_after = vm.hot_at_once = 0
        machine.run(instructions=HALF)
        yield machine


def placed(machine: Machine, name: str) -> tuple[int, int, int, dict[int, int]]:
    """CodePage and index of a place in the program, its effective page, and all pages that are mapped."""
    cpu, at = machine.vcpus[0].state, machine.symbols[name]  # type: ignore[attr-defined]
    mapped = mapped_pages(int(cpu.context))
    page = at & -4096 | int(cpu.mode)
    return mapped[page], at % 4096 // 4, page, mapped


def leads_to(machine: Machine, name: str) -> int:
    """Address of the code of a place in the program."""
    page, index, *_ = placed(machine, name)
    return int(CodePage.at(page).entries[index])


def ask(machine: Machine, name: str) -> Statistics:
    """Make a region of a place in the program, and wait for it."""
    compiler = machine.vm.engine.regions
    assert compiler is not None
    compiler.ask(*placed(machine, name))
    return compiler.statistics


def finish(machine: Machine, change: int = 0) -> None:
    machine.run(instructions=COUNT)
    assert results(machine, 2) == ((3 + change) * 30_000, 3000)


@pytest.mark.parametrize("first, second", [("outer", "inner"), ("inner", "outer")])
def test_a_kept_region_is_found_by_any_entry(first: str, second: str) -> None:
    """Its home is the page of the instruction that it was made for, which is not that of the other one."""
    with half_done() as machine:
        done = ask(machine, first)
        assert (done.compiled, done.from_cache) == (1, 0)
        finish(machine)
    with half_done() as machine:
        done = ask(machine, second)
        assert (done.compiled, done.from_cache, done.refused) == (0, 1, {})
        (region,) = machine.vm.engine.regions.installed
        assert region.home == machine.symbols[first] & -4096  # type: ignore[attr-defined]
        for name in (first, second):
            assert region.start <= leads_to(machine, name) < region.start + region.size
        finish(machine)


def test_a_kept_region_is_for_memory_that_has_all_of_its_words() -> None:
    with half_done() as machine:
        ask(machine, "outer")
    with half_done(change=5) as machine:
        done = ask(machine, "outer")
        assert (done.compiled, done.from_cache) == (1, 0)
        finish(machine, change=5)


def test_an_entry_of_a_region_that_is_installed_needs_no_other() -> None:
    with half_done() as machine:
        ask(machine, "outer")
        done = ask(machine, "inner")
        assert (done.compiled, done.from_cache, done.covered) == (1, 0, 1)
        assert len(machine.vm.engine.regions.installed) == 1
        finish(machine)


def test_a_region_whose_code_was_dropped_is_installed_again() -> None:
    with half_done() as machine:
        ask(machine, "outer")
        inner = machine.symbols["inner"]  # type: ignore[attr-defined]
        machine.memory[inner : inner + 4] = bytes(machine.memory[inner : inner + 4])
        machine.run(instructions=1000)  # its code is translated again
        done = ask(machine, "inner")
        assert (done.compiled, done.from_cache, done.covered) == (1, 1, 0)
        finish(machine)


def test_code_that_is_dropped_while_its_region_is_found_stays_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with half_done() as machine:
        ask(machine, "outer")
        inner = machine.symbols["inner"]  # type: ignore[attr-defined]

        def holds(region: Installed) -> bool:
            machine.memory[inner : inner + 4] = bytes(machine.memory[inner : inner + 4])
            return True

        monkeypatch.setattr(Installed, "holds", holds)
        (region,) = machine.vm.engine.regions.installed
        assert ask(machine, "inner").covered == 1
        assert not region.start <= leads_to(machine, "inner") < region.start + region.size
        finish(machine)


class Compilations:
    """In place of the worker: notes what is to be compiled, and goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heads: list[int] = []
        self.meanwhile: dict[int, Callable[[], None]] = {}
        """What happens during each, by number."""
        self.go_on = threading.Event()
        monkeypatch.setattr(Worker, "compile", lambda worker, region: self.compile(region))

    def compile(self, region: Region) -> bytes:
        self.heads.append(region.entries[0] // 4)
        assert self.go_on.wait(60)
        self.meanwhile.get(len(self.heads), lambda: None)()
        return b""


@contextlib.contextmanager
def asking(machine: Machine, compilations: Compilations, heats: dict[int, int]) -> Iterator[None]:
    """Threads that ask for regions of words after `inner`, so hot each, one after the other: the first one's is being
    compiled, the others wait."""
    compiler = machine.vm.engine.regions
    assert compiler is not None
    home, first, page, mapped = placed(machine, "inner")
    threads = []
    for count, (word, heat) in enumerate(heats.items()):
        CodePage.at(home).heat[first + word] = u8(heat)
        threads.append(threading.Thread(target=compiler.ask, args=(home, first + word, page, mapped)))
        threads[-1].start()
        until(lambda count=count: (len(compilations.heads), len(compiler.waiting)) == (1, count))
    yield
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_what_is_hottest_is_compiled_first_and_then_what_is_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    compilations = Compilations(monkeypatch)
    with half_done() as machine, asking(machine, compilations, {0: 200, 1: 20, 2: 30, 3: 20, 4: 0}):
        first = placed(machine, "inner")[1]
        compilations.go_on.set()
    assert [head - first for head in compilations.heads] == [0, 2, 3, 1, 4]


def test_what_was_hot_long_ago_comes_later_than_what_is_hot_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("powervisor.translate.tier1.compiler.HALF_LIFE", 0.01)
    compilations = Compilations(monkeypatch)
    with half_done() as machine, asking(machine, compilations, {0: 0, 1: 80, 2: 200, 3: 0, 4: 0}):
        home, first, *_ = placed(machine, "inner")

        def heat() -> None:
            time.sleep(0.1)
            CodePage.at(home).heat[first + 3] = u8(50)

        compilations.meanwhile[2] = heat
        compilations.go_on.set()
    assert [head - first for head in compilations.heads] == [0, 2, 3, 1, 4]


def test_what_is_not_hot_enough_gets_no_region_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERVISOR_TIER1", "on")
    with half_done() as machine:
        home, first, *_ = placed(machine, "inner")
        until(lambda: machine.vm.engine.regions is not None)  # they are there soon after the first start
        counted = CodePage.at(home).heat
        counted[first] = u8(WORTHWHILE // 2)
        done = ask(machine, "inner")
        until(lambda: done.refused["cold again"] == 1)
        assert done.compiled == 0 and counted[first] == 0
        counted[first] = u8(WORTHWHILE + 1)
        ask(machine, "inner")
        until(lambda: done.compiled == 1)
        finish(machine)


def test_requests_that_wait_when_all_code_goes_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    compilations = Compilations(monkeypatch)
    with half_done() as machine:
        compiler = machine.vm.engine.regions
        assert compiler is not None
        with asking(machine, compilations, {0: 0, 1: 0, 2: 0}):
            machine.vm.flush_code()
            compilations.go_on.set()
        assert len(compilations.heads) == 1 and not compiler.waiting
        assert compiler.statistics.refused["code has changed"] == 2
        finish(machine)


TWICE = Region("e5500", 1, (0, 4096), tuple(Block(at, (0x38630003, 0x4200FFFC)) for at in (0, 4096)))
"""addi r3,r3,3; bdnz back to it: twice, one page apart."""


def test_entries_that_look_the_same_are_told_apart_by_the_rest(tmp_path: Path) -> None:
    words = {at + 4 * n: word for at in (0, 4096) for n, word in enumerate((0x38630003, 0x4200FFFC))}
    with contextlib.closing(RegionStore(tmp_path, "one")) as store:
        store.keep(TWICE, words.get, b"object")
        found = store.find("e5500", 1, words.get, 0)
        assert [(one.region, one.home) for one in found] == [(TWICE, 0), (TWICE, -1)]
        assert [store.object(one) for one in found] == [b"object"] * 2


def test_what_follows_the_page_of_an_entry_does_not_matter(tmp_path: Path) -> None:
    last = 4096 - 4 * (HEAD_WORDS // 2)
    region = Region("e5500", 1, (last,), (Block(last, (0x38630003, 0x4200FFFC)),))
    words = dict(enumerate(range(1024)))
    with contextlib.closing(RegionStore(tmp_path, "one")) as store:
        store.keep(region, lambda at: words.get(at // 4), b"object")
        assert store.find("e5500", 1, lambda at: 7 if at >= 4096 else words.get(at // 4), last)
        assert not store.find("e5500", 1, lambda at: 7 if at == last + 8 else words.get(at // 4), last)


def test_regions_made_for_an_entry_come_first_then_large_ones(tmp_path: Path) -> None:
    blocks = tuple(Block(4 * n, (0x60000000,)) for n in range(6))
    regions = [Region("e5500", 1, entries, blocks[:size]) for entries, size in (((0, 8), 6), ((8,), 3), ((4, 8), 4))]
    with contextlib.closing(RegionStore(tmp_path, "one")) as store:
        for region in regions:
            store.keep(region, lambda at: at, b"object")
        found = store.find("e5500", 1, lambda at: at, 8)
    assert [one.region for one in found] == [regions[1], regions[0], regions[2]]
