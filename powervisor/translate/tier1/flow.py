"""What is known of a region before it is written: its steps, where control and changed registers flow, and which
accesses go together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ...isa.insn import Insn, Table
from ...vcpu.state import Mode
from ..stencils import is_relative
from .frame import CR_FIELDS, FIRST, READ_ONLY, slots_in
from .meaning import Meaning, meaning_of
from .memory import GO_ON
from .options import DEFAULTS, RegionOptions
from .shape import Block, Region, displacement, is_narrow

PAGE_BITS = 12
WIDEST_GROUP = 256
"""Bytes that one probe makes sure of."""


CR_SLOTS = ((1 << CR_FIELDS) - 1) << FIRST["cr"]
"""Bit mask of the CR fields."""
GPR_SLOTS = (1 << 32) - 1 << FIRST["gpr"]
KEPT_SLOTS = CR_SLOTS | sum(1 << FIRST[name] for name in READ_ONLY)
"""Those that stay in the frame from an entry on."""


@dataclass(frozen=True)
class Step:
    """One instruction of a block."""

    at: int
    insn: Insn
    word: int
    meaning: Meaning
    operands: dict[str, Any]
    reads: int
    writes: int

    @property
    def falls_through(self) -> bool:
        """Whether the next instruction may follow."""
        return not self.insn.ends or f"ret i8 {GO_ON}" in self.meaning.text

    def counts_up(self, number: int) -> int | None:
        """By how much it adds to a GPR that it writes; None when it does something else with it."""
        operands = self.operands
        if self.insn.name == "addi" and operands["rt"] == operands["ra"] != 0:
            return int(operands["si"])
        if self.meaning.access and "ra" not in self.insn.split and "d" in operands and operands["ra"] == number:
            return int(operands["d"]) if operands.get("rt") != number else None
        return None

    def moves_on(self, number: int) -> bool:
        """Whether it adds to a GPR that it writes."""
        sums = self.insn.name in ("add", "subf") and self.operands["rt"] in (self.operands["ra"], self.operands["rb"])
        return sums or self.counts_up(number) is not None or self.steps_indexed(number)

    @property
    def is_small(self) -> bool:
        """Whether the GPR it writes is less than a page's size: an index into a small table."""
        operands = self.operands
        match self.insn.name:
            case "rlwinm":
                return bool(operands["me"] >= operands["mb"] >= 32 - PAGE_BITS)
            case "rldicl" | "rldic":
                return bool(operands["mb"] >= 64 - PAGE_BITS)
            case "andi":
                return bool(operands["ui"] < 1 << PAGE_BITS)
        return self.meaning.access == "read" and self.meaning.size == 1 and "ra" in self.insn.split

    def steps_indexed(self, number: int) -> bool:
        """Whether it is an indexed access with update of that GPR."""
        update = "rb" in self.operands and "ra" not in self.insn.split
        return bool(self.meaning.access) and update and self.operands["ra"] == number

    @property
    def has_base(self) -> bool:
        """Whether an address begins with GPR ra: r0 does in forms with update, elsewhere it means zero."""
        return int(self.operands.get("ra", 0)) != 0 or "ra" not in self.insn.split


@dataclass
class Group:
    """Accesses that one probe makes sure of: the first one, its displacement (None: indexed), and the steps of all."""

    step: Step
    first: int | None
    members: list[int]
    kind: str = ""
    last: int = 0
    """Displacement after the last byte."""
    aligned: bool = True
    """Whether all of them are, where the base is a multiple of the widest."""
    widest: int = 0
    """Bytes of that."""

    def __post_init__(self) -> None:
        self.kind, self.widest = self.step.meaning.access, self.step.meaning.size
        self.last = (self.first or 0) + self.widest
        self.aligned = (self.first or 0) % self.widest == 0

    def take(self, n: int, step: Step, displacement: int | None) -> bool:
        """Add an access unless it is too far away."""
        if displacement is None or self.first is None:
            return False
        first = min(self.first, displacement)
        last = max(self.last, displacement + step.meaning.size)
        if last - first > WIDEST_GROUP:
            return False
        self.first, self.last = first, last
        self.aligned &= displacement % step.meaning.size == 0
        self.widest = max(self.widest, step.meaning.size)
        if step.meaning.access != self.kind:
            self.kind = "both"
        self.members.append(n)
        return True

    @property
    def key(self) -> tuple[str, ...]:
        """What groups have in common that share a remembered page."""
        operands = self.step.operands
        return self.kind, str(int(operands["ra"])), str(int(operands["rb"])) if "rb" in operands else ""


class Flow:
    """The analyses of one region."""

    def __init__(self, region: Region, table: Table, options: RegionOptions = DEFAULTS) -> None:
        self.region, self.options = region, options
        self.cm = bool(region.mode & Mode.CM)
        self.narrow = is_narrow(region.core)
        self.blocks = {block.start: self.steps(block, table) for block in region.blocks}
        self.successors = {start: self.targets(steps) for start, steps in self.blocks.items()}
        self.returns = self.return_sites()
        self.loops = self.innermost_loops()
        self.dirty = self.dirty_at_start()
        self.kept = self.always_kept()
        self.before = self.single_predecessors()
        self.loads = {start: self.loaded(start) for start in self.blocks}
        self.probes = {start: self.groups(steps) for start, steps in self.blocks.items()}
        self.near = self.nearby()

    def steps(self, block: Block, table: Table) -> list[Step]:
        """The decoded instructions of a block."""
        result = []
        for n, word in enumerate(block.words):
            insn = table.decode(word)
            assert insn is not None
            meaning, operands = meaning_of(insn, word, self.region.mode, self.narrow), insn.operands(word)
            reads, writes = meaning.slots(meaning.reads, operands), meaning.slots(meaning.writes, operands)
            result.append(Step(block.start + 4 * n, insn, word, meaning, operands, reads, writes))
        return result

    # ---- data flow -------------------------------------------------------------------------------------------------

    def targets(self, steps: list[Step]) -> list[int]:
        """Blocks that may follow inside the region, returns aside."""
        last = steps[-1]
        found = [last.at + 4] if last.falls_through else []
        if last.insn.ends and is_relative(last.insn):
            found.append(last.at + displacement(last.insn, last.word))
        return [target for target in found if target in self.blocks]

    def return_sites(self) -> list[int]:
        """Return addresses of calls to code inside the region."""
        sites = []
        for steps in self.blocks.values():
            last = steps[-1]
            if last.insn.ends and last.operands["lk"] and last.at + 4 in self.blocks:
                if is_relative(last.insn):
                    inside = last.at + displacement(last.insn, last.word) in self.blocks
                else:
                    inside = last.insn.name == "bcctr" and bool(self.region.callees)
                if inside:
                    sites.append(last.at + 4)
        return sites[: self.options.returns]

    def following(self, start: int) -> list[int]:
        """Blocks that may follow, returns included."""
        last = self.blocks[start][-1]
        return self.successors[start] + self.indirect(last)

    def indirect(self, last: Step) -> list[int]:
        """Blocks that a branch to LR or CTR may lead to."""
        if not last.insn.ends or is_relative(last.insn):
            return []
        if last.insn.name == "bclr":
            return self.returns
        return list(self.region.callees if last.operands["lk"] else self.region.cases)

    def innermost_loops(self) -> dict[int, int]:
        """Blocks of loops that have no other loop inside, with a number for each loop."""
        spans = set()
        for start, steps in self.blocks.items():
            spans |= {(target, steps[-1].at) for target in self.successors[start] if target <= steps[-1].at}
        inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
        return {start: n for n, (first, last) in enumerate(inner) for start in self.blocks if first <= start <= last}

    def keeps(self, start: int, target: int) -> bool:
        """Whether registers stay changed without being stored from a block to the next: only inside a loop.

        Elsewhere they are stored when the block ends, so that exits have little to do: code that is not a loop would
        be mostly exits. CR fields are kept everywhere; making a nibble costs more than a store.
        """
        return start in self.loops and self.loops[start] == self.loops.get(target)

    def dirty_at_start(self) -> dict[int, int]:
        """For each block, the slots that may have changed and are not stored yet."""
        dirty = dict.fromkeys(self.blocks, 0)
        pending = list(self.blocks)
        while pending:
            start = pending.pop()
            after = dirty[start]
            for step in self.blocks[start]:
                after |= step.writes
            for target in self.following(start):
                handed = after if self.keeps(start, target) else after & CR_SLOTS
                if handed & ~dirty[target]:
                    dirty[target] |= handed
                    pending.append(target)
        return dirty

    def touched(self, start: int) -> int:
        """The slots that a block reads or writes."""
        mask = 0
        for step in self.blocks[start]:
            mask |= step.reads | step.writes
        return mask

    def always_kept(self) -> int:
        """The slots that entries load: they stay in the frame throughout, CR fields because of `keeps`, others because
        nothing changes them."""
        mask = 0
        for start in self.blocks:
            mask |= self.touched(start) & KEPT_SLOTS
        return mask

    def single_predecessors(self) -> dict[int, int]:
        """For blocks outside loops that one other block leads to and nothing else, which that is.

        Such a block finds in the frame what its predecessor had there. Where ways meet, registers are loaded again:
        to carry all of them in SSA form costs LLVM more time than the guest saves.
        """
        before: dict[int, list[int]] = {start: [] for start in self.blocks}
        for start in self.blocks:
            for target in self.following(start):
                before[target].append(start)
        elsewhere = {*self.region.entries, *self.loops}
        return {start: found[0] for start, found in before.items() if len(found) == 1 and start not in elsewhere}

    def loaded(self, start: int) -> int:
        """The slots that are loaded when a block is entered, those of its whole loop if it is in one."""
        if start in self.loops:
            members = [other for other, loop in self.loops.items() if loop == self.loops[start]]
            mask = 0
            for member in members:
                mask |= self.touched(member)
            return mask & ~self.kept
        found, at, passed = 0, start, {start}
        while at in self.before and (at := self.before[at]) not in passed:
            passed.add(at)
            found |= self.loaded(at) if at in self.loops else self.touched(at)
        return self.touched(start) & ~found & ~self.kept

    def groups(self, steps: list[Step]) -> dict[int, Group]:
        """Accesses of a block that one probe makes sure of, by the step that probes.

        They have the same base register, and displacements near each other; a base that counts up is followed.
        """
        found: dict[int, Group] = {}
        open_groups: dict[int, Group] = {}
        shifts: dict[int, int] = {}
        for n, step in enumerate(steps):
            base = int(step.operands.get("ra", 0))
            if step.meaning.access and (step.has_base or "rb" in step.operands):
                group = open_groups.get(base)
                first = int(step.operands["d"]) if "d" in step.operands else None
                if group is None or not group.take(n, step, None if first is None else first + shifts[base]):
                    group = found[n] = Group(step, first, [n])
                    if first is not None:
                        open_groups[base], shifts[base] = group, 0
            for slot in slots_in(step.writes & GPR_SLOTS):
                number = slot.number - FIRST["gpr"]
                if number in open_groups and (step_up := step.counts_up(number)) is not None:
                    shifts[number] += step_up
                else:
                    open_groups.pop(number, None)
        return found

    def nearby(self) -> dict[tuple[int, tuple[str, ...]], int]:
        """Kinds of groups of a loop that are likely to stay in one page for a while, and the place that remembers it.

        It is worth remembering when the loop counts the registers of the address up or leaves them alone, or when one
        is a small number: where they are loaded or computed, a remembered page would only cost time.
        """
        wander: set[tuple[int, int]] = set()
        counts: Counter[tuple[int, tuple[str, ...]]] = Counter()
        for start, loop in self.loops.items():
            for step in self.blocks[start]:
                for slot in slots_in(step.writes & GPR_SLOTS):
                    if not step.moves_on(slot.number - FIRST["gpr"]):
                        wander.add((loop, slot.number - FIRST["gpr"]))
        for start, loop in self.loops.items():
            for group in self.probes[start].values():
                registers = [int(number) for number in group.key[1:] if number]
                if all((loop, number) not in wander or self.small_at(start, group, number) for number in registers):
                    counts[loop, group.key] += 1
        return {key: n for n, (key, _) in enumerate(counts.most_common(self.options.near))}

    def small_at(self, start: int, group: Group, number: int) -> bool:
        """Whether a GPR was made a small number in the block before a group's first access."""
        before = self.blocks[start][: group.members[0]]
        last = next((step for step in reversed(before) if step.writes >> FIRST["gpr"] + number & 1), None)
        return last is not None and last.is_small

    def may_straddle(self, group: Group) -> bool:
        """Whether it is worth more code that the bytes may be in two pages: those of a stack frame are for long."""
        base = int(group.step.operands["ra"])
        return len(group.members) > 1 and group.aligned and bool(self.options.frames >> base & 1)

    def remembered(self, start: int, group: Group) -> int | None:
        """The place for a group of a block, if it has one."""
        return self.near.get((self.loops.get(start, -1), group.key))
