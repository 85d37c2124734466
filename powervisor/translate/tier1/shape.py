"""The shape of a region: which instructions belong to it, in which blocks, and where it can be entered.

Addresses are relative to the start of the page of the hot instruction, the region's *home*; other pages have their
effective distance from it. Branches, calls and jumps are followed to code that was executed before only, so that what
never happens is an exit; what stands behind them is taken as it is.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...isa import cores
from ...isa.insn import Insn, Table
from ..stencils import is_relative
from .meaning import NotForRegions, meaning_of
from .memory import PAGE_SIZE
from .options import DEFAULTS, RegionOptions

CASES_REACH = 2048
"""Bytes before and after an indirect jump where its targets are looked for."""
LEAF = 16
"""Instructions of a function that is taken into a region for an indirect call."""
NOP, BLR = 0x60000000, 0x4E800020
STWU, STDU = 0x9421_0000, 0xF821_0001
PROLOGUES = {0x7C08_02A6} | {store | -size & 0xFFFF for size in range(16, 1024, 16) for store in (STWU, STDU)}
"""mflr r0, stwu r1,-size(r1) and stdu: how functions begin."""
RETURNS_ELSEWHERE = ("rfi", "rfci", "rfdi", "rfmci", "rfgi")


@dataclass(frozen=True)
class Block:
    """Instructions executed one after another; a branch can only be the last."""

    start: int
    words: tuple[int, ...]

    @property
    def end(self) -> int:
        """Address after the last instruction."""
        return self.start + 4 * len(self.words)


@dataclass(frozen=True)
class Region:
    """What to compile. The first entry is the hot instruction."""

    core: str
    mode: int
    entries: tuple[int, ...]
    blocks: tuple[Block, ...]
    cases: tuple[int, ...] = ()
    """Where indirect jumps may lead inside the region."""
    callees: tuple[int, ...] = ()
    """Where indirect calls may lead inside the region."""

    @property
    def pages(self) -> tuple[int, ...]:
        """Distances of its pages from home, in pages."""
        return tuple(sorted({address // PAGE_SIZE for b in self.blocks for address in (b.start, b.end - 4)}))

    @property
    def size(self) -> int:
        """Instructions."""
        return sum(len(block.words) for block in self.blocks)


def is_narrow(core: str) -> bool:
    """Whether a core's GPRs have 32 bits."""
    return cores.get(core).bits == 32


def packed(region: Region) -> bytes:
    """A region as bytes, for another process or the cache."""
    blocks = [[block.start, *block.words] for block in region.blocks]
    return json.dumps([region.core, region.mode, region.entries, blocks, region.cases, region.callees]).encode()


def unpacked(data: bytes) -> Region:
    """The region that `packed` gave."""
    core, mode, entries, blocks, cases, callees = json.loads(data)
    made = tuple(Block(start, tuple(words)) for start, *words in blocks)
    return Region(core, mode, tuple(entries), made, tuple(cases), tuple(callees))


def nearby(at: int) -> Iterator[int]:
    """Where an indirect branch may lead: near it, after it first."""
    yield from range(at + 4, at + CASES_REACH, 4)
    yield from range(at - 4, at - CASES_REACH, -4)


def displacement(insn: Insn, word: int) -> int:
    """Displacement of a relative branch."""
    return int(insn.fields["li" if "li" in insn.fields else "bd"].get(word))


class Former:
    """Finds a region. `word(address)` is the instruction there, None where the page is not known to be mapped;
    `executed(address)` whether code for it was translated before."""

    def __init__(
        self, core: str, table: Table, mode: int,
        word: Callable[[int], int | None], executed: Callable[[int], bool], options: RegionOptions = DEFAULTS,
    ) -> None:  # fmt: skip
        self.options = options
        self.core, self.table, self.mode, self.word, self.executed = core, table, mode, word, executed
        self.narrow = is_narrow(core)
        self.words: dict[int, int] = {}
        self.leaders: set[int] = set()
        self.entries: dict[int, None] = {}
        self.queue: deque[int] = deque()
        self.calls: list[tuple[int, int]] = []
        """Return addresses of calls, and what was called."""
        self.cases: dict[int, None] = {}
        self.callees: dict[int, None] = {}

    def form(self, head: int) -> Region | None:
        """The region around a hot instruction; None when there is nothing to compile."""
        self.entries[head] = None
        self.queue.append(head)
        while self.queue and len(self.words) < self.options.insns:
            self.scan(self.queue.popleft())
        if head not in self.words:
            return None
        for back, target in self.calls:  # where other regions may come from, or tier 0 finds it is hot
            self.entries.setdefault(back)
            self.entries.setdefault(target)
        self.leaders &= self.words.keys()
        blocks = tuple(self.block(start) for start in sorted(self.leaders))
        entries = [entry for entry in self.entries if entry in self.leaders]
        cases, callees = (tuple(at for at in found if at in self.leaders) for found in (self.cases, self.callees))
        return Region(self.core, self.mode, tuple(entries[: self.options.entries]), blocks, cases, callees)

    def scan(self, at: int) -> None:
        """Take a run of instructions up to a branch or one that is not for regions."""
        self.leaders.add(at)
        while at not in self.words:
            if at % PAGE_SIZE == 0:  # between blocks it is looked at whether the next page still is where it was
                self.leaders.add(at)
            pages = {a // PAGE_SIZE for a in self.words} | {at // PAGE_SIZE}
            word = self.word(at) if len(pages) <= self.options.pages and len(self.words) < self.options.insns else None
            insn = self.table.decode(word) if word is not None else None
            if word is None or insn is None:
                return
            branch = insn.ends and "lk" in insn.fields
            try:
                if insn.ends and not branch:
                    raise NotForRegions
                meaning_of(insn, word, self.mode, self.narrow)
            except NotForRegions:
                if insn.name not in RETURNS_ELSEWHERE and self.executed(at + 4):
                    self.entry(at + 4)
                return
            self.words[at] = word
            if branch:
                self.branch(insn, word, at)
                return
            at += 4
        self.leaders.add(at)

    def branch(self, insn: Insn, word: int, at: int) -> None:
        """Follow a branch."""
        operands = insn.operands(word)
        always = int(operands.get("bo", 20)) & 20 == 20
        relative = is_relative(insn)
        target = at + displacement(insn, word) if relative else None
        if operands["lk"]:
            self.calls.append((at + 4, -1 if target is None else target))
        if operands["lk"] or not always:
            self.queue.append(at + 4)
        if target is None:
            if insn.name == "bcctr" and operands["lk"]:
                self.call_leaves(at)
            elif insn.name == "bcctr":
                self.switch(at)
        elif target in self.words or self.executed(target):
            if target <= at and not operands["lk"]:
                self.entry(target)
            else:
                self.queue.append(target)

    def switch(self, at: int) -> None:
        """An indirect jump leads to code nearby that was executed and that nothing falls into; first of all to what no
        branch leads to either."""
        found = [c for c in nearby(at) if self.executed(c) and self.word(c) not in PROLOGUES and self.follows_jump(c)]
        targets = {self.branch_target(near) for near in nearby(at)} if found else set()
        alone = [case for case in found if case not in targets]
        for case in (alone if len(alone) > 1 else found)[: self.options.cases]:
            self.cases.setdefault(case)
            self.queue.append(case)

    def branch_target(self, at: int) -> int | None:
        """Where a relative branch leads to, if one is at an address."""
        word = self.word(at)
        insn = self.table.decode(word) if word is not None else None
        return at + displacement(insn, word) if insn is not None and word is not None and is_relative(insn) else None

    def call_leaves(self, at: int) -> None:
        """An indirect call leads to small functions nearby that were executed, comparisons for a sort and the like."""
        for callee in nearby(at):
            if len(self.callees) >= self.options.callees:
                return
            if self.executed(callee) and self.is_leaf(callee) and self.follows_jump(callee):
                self.callees.setdefault(callee)
                self.queue.append(callee)

    def is_leaf(self, at: int) -> bool:
        """Whether a few instructions end in blr, and go nowhere else."""
        for n in range(LEAF):
            word = self.word(at + 4 * n)
            insn = self.table.decode(word) if word is not None else None
            if word is None or word == BLR:
                return word == BLR
            if insn is None or insn.ends:
                return False
        return False

    def follows_jump(self, at: int) -> bool:
        """Whether an address follows an unconditional jump, so that nothing falls into it."""
        before = at - 4
        while (word := self.word(before)) == NOP:
            before -= 4
        insn = self.table.decode(word) if word is not None else None
        if word is None or insn is None or not insn.ends or "lk" not in insn.fields:
            return False
        operands = insn.operands(word)
        return not operands["lk"] and int(operands.get("bo", 20)) & 20 == 20

    def entry(self, at: int) -> None:
        """A place where the region may be entered."""
        self.entries.setdefault(at)
        self.queue.append(at)

    def block(self, start: int) -> Block:
        """The instructions from a leader to the next one, or to what ends the run."""
        words, at = [], start
        while at in self.words:
            words.append(self.words[at])
            insn = self.table.decode(self.words[at])
            at += 4
            if at in self.leaders or (insn is not None and insn.ends):
                break
        return Block(start, tuple(words))
