"""A region as LLVM IR: one function with an entry for each place where it may be entered.

Registers live in the frame (`frame`), an alloca that LLVM dissolves. Where a region is left, the slots that may have
changed are stored and control goes on elsewhere: `far` for any address, through the context's code entries;
`rt.once` for an instruction that only its handler can execute, before which nothing has changed.

Symbols that the loader resolves: `page.<d>` the CodePage at a distance from home, `generation.<d>` what its
`generation` was, and functions of the runtime.
"""

from __future__ import annotations

from typing import NamedTuple

from ...isa.insn import Table
from ...native.compile import TAIL
from ...vcpu.codemap import CodePage
from ..edges import CONVENTION, SIGNATURE, Edges
from ..stencils import is_relative
from .flow import CR_SLOTS, Flow, Group, Step
from .frame import (
    COMPARED,
    COMPARED_A,
    COMPARED_B,
    CR_FIELDS,
    FIRST,
    FLAGS,
    FRAME_SIZE,
    Slot,
    frame_kind,
    nibble_ir,
    offset_of,
    slots_in,
)
from .memory import JUMP, LEAVE, NOWHERE, PAGE_SIZE, TAKEN, probe, straddle
from .options import DEFAULTS, RegionOptions
from .shape import Region, displacement


def block_name(start: int) -> str:
    """Label of a block."""
    return f"b{start}".replace("-", "m")


def entry_symbol(number: int) -> str:
    """Symbol of an entry's code."""
    return f"entry.{number}"


class Straddling(NamedTuple):
    """The way of steps `first` to `last` of a block around a probe that said LEAVE: the group's bytes may be in two
    pages. It goes on at `after`; `dirty` are the slots that have changed before."""

    group: Group
    label: str
    after: str
    first: int
    last: int
    dirty: int


class Builder(Edges):
    """Writes the IR of one region."""

    def __init__(self, region: Region, table: Table, options: RegionOptions = DEFAULTS) -> None:
        super().__init__()
        self.region = region
        self.flow = Flow(region, table, options)
        self.exits: set[tuple[str, int]] = set()
        self.own: list[str] = []
        self.loops_entered: set[int] = set()

    def module(self) -> str:
        """The whole IR."""
        self.start("start")
        self.load_all(self.flow.kept)
        ways = [self.way_into(entry) for entry in self.region.entries]
        switch = " ".join(f"i64 {n}, label %{way}" for n, way in enumerate(ways) if n)
        self.put(f"switch i64 %x, label %{ways[0]} [{switch}]")
        for start, steps in self.flow.blocks.items():
            self.block(start, steps)
        for start in sorted(self.loops_entered):
            self.enter_loop(start)
        for how, mask in sorted(self.exits):
            self.start(f"{how}.{mask:x}")
            self.spill(mask)
            self.put(f"br label %{how}")
        self.ways_out()
        meanings = {step.meaning.symbol: step.meaning for steps in self.flow.blocks.values() for step in steps}
        own = "\n".join(f"  {name} = alloca [24 x i8], align 16" for name in self.own)
        head = f"""define internal {CONVENTION} void @region{SIGNATURE} #3 section ".text" {{
  %frame = alloca [{FRAME_SIZE} x i8], align 16
  %budget = alloca i64
  %to = alloca i64
  %near = alloca [{16 * len(self.flow.near)} x i8], align 16
{own}
  store i64 %bud, ptr %budget
  br label %start
"""
        parts = [meaning.text for meaning in meanings.values()]
        probed = [group for groups in self.flow.probes.values() for group in groups.values()]
        for write, found in ((probe, probed), (straddle, filter(self.flow.may_straddle, probed))):
            parts += [write(kind, self.flow.cm) for kind in sorted({group.kind for group in found})]
        parts += [head, "\n".join(self.lines), "}\n"]
        parts += [self.entry_point(n) for n in range(len(self.region.entries))]
        names = {d for m in meanings.values() for d in m.declarations}
        names |= {f'declare {CONVENTION} void @"{n}"(ptr, ptr, i64, i64, i64)' for n in ("rt.lookup", "rt.once")}
        for distance in self.region.pages:
            names.add(f'@"page.{distance}" = external dso_local global i8')
            names.add(f'@"generation.{distance}" = external dso_local global i8, !absolute_symbol !10')
        return (
            "\n".join([*parts, *sorted(names)])
            + TAIL
            + (
                "!10 = !{i64 0, i64 2147483648}\n"
                'attributes #3 = { nounwind strictfp "no-builtins" }\n'
                'attributes #4 = { nounwind alwaysinline strictfp "no-builtins" }\n'
                "attributes #5 = { strictfp }\n"
            )
        )

    def entry_point(self, number: int) -> str:
        return (
            f'define {CONVENTION} void @"{entry_symbol(number)}"{SIGNATURE} #3 {{\n'
            f"  %start = and i64 %page, -{PAGE_SIZE}\n"
            f"  %home = sub i64 %start, {self.region.entries[number] // PAGE_SIZE * PAGE_SIZE}\n"
            f"  musttail call {CONVENTION} void @region(ptr %cpu, ptr %ctx, i64 %bud, i64 %home, i64 {number})\n"
            "  ret void\n}\n"
        )

    def effective(self, address: int) -> str:
        """The effective address of a place in the region."""
        value = self.temp(f"add i64 %page, {address}")
        return value if self.flow.cm else self.temp(f"and i64 {value}, 4294967295")

    def way_into(self, start: int) -> str:
        """The label for going to a block from outside its loop."""
        if start not in self.flow.loops:
            return block_name(start)
        self.loops_entered.add(start)
        return f"in.{block_name(start)}"

    def enter_loop(self, start: int) -> None:
        """Load what a loop uses, on the way to one of its blocks."""
        self.start(f"in.{block_name(start)}")
        self.load_all(self.flow.loads[start])
        loop = self.flow.loops[start]
        for number in (number for (where, _), number in self.flow.near.items() if where == loop):
            self.forget_near(number)
        self.put(f"br label %{block_name(start)}")

    def load_all(self, mask: int) -> None:
        """Load slots from the Vcpu."""
        for slot in slots_in(mask):
            self.load(slot)

    def kind(self, slot: Slot) -> str:
        """Type of a slot in the frame."""
        return frame_kind(slot.name.rstrip("0123456789"), self.flow.narrow) or slot.kind

    def load(self, slot: Slot) -> None:
        kind = self.kind(slot)
        source = self.temp(f"getelementptr i8, ptr %cpu, i64 {slot.offset}")
        value = self.temp(f"load {kind}, ptr {source}")
        if slot.name in FLAGS:
            value = self.temp(f"and i8 {value}, 1")
        self.put(f"store {kind} {value}, ptr {self.temp(f'getelementptr i8, ptr %frame, i64 {slot.at}')}")
        number = slot.number - FIRST["cr"]
        if 0 <= number < CR_FIELDS:
            operands = ("i64", COMPARED_A + 8 * number), ("i64", COMPARED_B + 8 * number), ("i8", COMPARED + number)
            for kind, at in operands:
                self.put(f"store {kind} 0, ptr {self.temp(f'getelementptr i8, ptr %frame, i64 {at}')}")

    def spill(self, mask: int) -> None:
        """Store slots to the Vcpu."""
        for slot in slots_in(mask):
            number, kind = slot.number - FIRST["cr"], self.kind(slot)
            if 0 <= number < CR_FIELDS:
                self.counter += 1
                lines, value = nibble_ir(f"%n{self.counter}", "%frame", number)
                self.lines += lines
            else:
                value = self.temp(f"load {kind}, ptr {self.temp(f'getelementptr i8, ptr %frame, i64 {slot.at}')}")
            place = self.temp(f"getelementptr i8, ptr %cpu, i64 {slot.offset}")
            self.put(f"store {kind} {value}, ptr {place}")

    # ---- blocks ----------------------------------------------------------------------------------------------------

    def block(self, start: int, steps: list[Step]) -> None:
        """One guest block."""
        self.start(block_name(start))
        if start not in self.flow.loops:
            self.load_all(self.flow.loads[start])
        dirty = self.flow.dirty[start]
        result = ""
        sure: dict[int, str] = {}
        ways: list[Straddling] = []
        for n, step in enumerate(steps):
            if n in self.flow.probes[start]:
                group = self.flow.probes[start][n]
                near, result = self.probe(start, group)
                sure.update(dict.fromkeys(group.members, near))
                if self.flow.may_straddle(group):
                    ways.append(self.way_around(result, start, n, dirty))
                else:
                    self.leave_if(result, n, step.at, dirty)
            result, dirty = self.take_step(n, step, sure.get(n), dirty)
            for way in ways:
                if way.last == n:
                    self.put(f"br label %{way.after}")
                    self.start(way.after)
        self.go_on(start, steps, result, dirty)
        for way in ways:
            self.straddle(start, way, steps)

    def go_on(self, start: int, steps: list[Step], result: str, dirty: int) -> None:
        """Where a block leads to, after its last step has said `result`."""
        last = steps[-1]
        self.spend(len(steps))
        if not any(self.flow.keeps(start, target) for target in self.flow.following(start)):
            self.spill(dirty & ~CR_SLOTS)
            dirty &= CR_SLOTS
        if not last.insn.ends:
            self.edge(start, last.at, last.at + 4, dirty)
            return
        code = TAKEN if is_relative(last.insn) else JUMP
        if last.falls_through:
            taken, on = self.new_label("taken"), self.new_label("on")
            test = self.temp(f"icmp eq i8 {result}, {code}")
            self.put(f"br i1 {test}, label %{taken}, label %{on}")
            self.start(on)
            self.edge(start, last.at, last.at + 4, dirty)
            self.start(taken)
        if code == TAKEN:
            self.edge(start, last.at, last.at + displacement(last.insn, last.word), dirty)
        else:
            self.jump_to_register(start, last, dirty)

    def take_step(self, n: int, step: Step, near: str | None, dirty: int) -> tuple[str, int]:
        """Execute step `n` of a block, or leave before it; what its meaning says, and the slots that have changed."""
        result = self.execute(step, near)
        if step.meaning.leaves:
            self.leave_if(result, n, step.at, dirty | step.writes if step.insn.restartable else dirty)
        return result, dirty | step.writes

    def probe(self, start: int, group: Group) -> tuple[str, str]:
        """Make sure of a group's bytes: where the addend is, and LEAVE unless they are all in a page that is known."""
        number = self.flow.remembered(start, group)
        if number is not None:
            near = self.temp(f"getelementptr i8, ptr %near, i64 {16 * number}")
        else:
            near = self.own_place()
        _, base, index = group.key
        ea = self.gpr(int(base)) if group.step.has_base else "0"
        if index:
            ea = self.temp(f"add i64 {ea}, {self.gpr(int(index))}")
        first = group.first or 0
        ea = self.temp(f"add i64 {ea}, {first}")
        remember = str(number is not None).lower()
        result = self.temp(
            f'call i8 @"probe.{group.kind}"(ptr %cpu, ptr %ctx, ptr {near}, i1 {remember}, i64 {ea}, '
            f"i64 {group.last - first - 1})"
        )
        return near, result

    def way_around(self, result: str, start: int, n: int, dirty: int) -> Straddling:
        """When the probe before step `n` says LEAVE, go another way for as long as the group's members last."""
        groups = self.flow.probes[start]
        last = groups[n].members[-1]
        for other in sorted(groups):  # what begins on the way is not probed there
            if n < other <= last:
                last = max(last, groups[other].members[-1])
        way = Straddling(groups[n], self.new_label("straddles"), self.new_label("after"), n, last, dirty)
        on = self.new_label("on")
        self.put(f"br i1 {self.temp(f'icmp eq i8 {result}, {LEAVE}')}, label %{way.label}, label %{on}, !prof !1")
        self.start(on)
        return way

    def straddle(self, start: int, way: Straddling, steps: list[Step]) -> None:
        """Write the way around a probe: each member of the group has the addend of its page."""
        group, dirty = way.group, way.dirty
        self.start(way.label)
        if (number := self.flow.remembered(start, group)) is not None:
            self.forget_near(number)
        pages, base, first = self.own_place(), self.gpr(int(group.key[1])), group.first or 0
        odd = self.temp(f"icmp ne i64 {self.temp(f'and i64 {base}, {group.widest - 1}')}, 0")
        result = self.temp(
            f'call i8 @"straddle.{group.kind}"(ptr %cpu, ptr %ctx, ptr {pages}, i1 false, '
            f"i64 {self.temp(f'add i64 {base}, {first}')}, i64 {group.last - first - 1})"
        )
        self.leave_if(self.temp(f"select i1 {odd}, i8 {LEAVE}, i8 {result}"), way.first, steps[way.first].at, dirty)
        for n in range(way.first, way.last + 1):
            near = self.one_of(pages, steps[n]) if n in group.members else None
            _, dirty = self.take_step(n, steps[n], near, dirty)
        self.put(f"br label %{way.after}")

    def one_of(self, pages: str, step: Step) -> str:
        """The addend for a step's access, by whether it is in the second page."""
        place = self.own_place()
        ea = self.temp(f"add i64 {self.gpr(int(step.operands['ra']))}, {int(step.operands['d'])}")
        if not self.flow.cm:
            ea = self.temp(f"and i64 {ea}, 4294967295")
        second, lower, upper = (
            self.temp(f"load i64, ptr {self.temp(f'getelementptr i8, ptr {pages}, i64 {8 * n}')}") for n in range(3)
        )
        addend = self.temp(f"select i1 {self.temp(f'icmp uge i64 {ea}, {second}')}, i64 {upper}, i64 {lower}")
        self.put(f"store i64 {addend}, ptr {self.temp(f'getelementptr i8, ptr {place}, i64 8')}")
        return place

    def own_place(self) -> str:
        """A place for what one probe says."""
        self.own.append(place := f"%own.{len(self.own)}")
        return place

    def forget_near(self, number: int) -> None:
        """Remember no page in a place."""
        self.put(f"store i64 {NOWHERE}, ptr {self.temp(f'getelementptr i8, ptr %near, i64 {16 * number}')}")
        self.put(f"store i64 0, ptr {self.temp(f'getelementptr i8, ptr %near, i64 {16 * number + 8}')}")

    def gpr(self, number: int) -> str:
        """A GPR's value."""
        place = self.temp(f"getelementptr i8, ptr %frame, i64 {offset_of('gpr') + 8 * number}")
        if self.flow.narrow:
            return self.temp(f"zext i32 {self.temp(f'load i32, ptr {place}')} to i64")
        return self.temp(f"load i64, ptr {place}")

    def leave_if(self, result: str, n: int, at: int, dirty: int) -> None:
        """Let the handler execute step `n`, at an address, when a meaning or a probe says so."""
        leaves = self.temp(f"icmp eq i8 {result}, {LEAVE}")
        out, on = self.new_label("leave"), self.new_label("on")
        self.put(f"br i1 {leaves}, label %{out}, label %{on}, !prof !1")
        self.start(out)
        self.spend(n)
        self.go("once", self.effective(at), dirty)
        self.start(on)

    def execute(self, step: Step, near: str | None) -> str:
        """Call an instruction's meaning."""
        texts = ["ptr %cpu", "ptr %frame", "ptr %ctx", f"ptr {near or 'null'}", f"i1 {str(near is not None).lower()}"]
        texts.append(f"i64 {self.effective(step.at) if '%cia' in step.meaning.text.split('{', 1)[1] else '0'}")
        for name in step.meaning.arguments:
            kind = "i64" if step.insn.fields[name].signed else "i32"
            texts.append(f"{kind} {int(step.operands[name])}")
        return self.temp(f'call i8 @"{step.meaning.symbol}"({", ".join(texts)})')

    def spend(self, count: int) -> None:
        """Take instructions off the budget."""
        if count:
            left = self.temp(f"sub i64 {self.temp('load i64, ptr %budget')}, {count}")
            self.put(f"store i64 {left}, ptr %budget")

    def go(self, how: str, target: str, dirty: int) -> None:
        """Leave the region."""
        self.put(f"store i64 {target}, ptr %to")
        self.exits.add((how, dirty))
        self.put(f"br label %{how}.{dirty:x}")

    def edge(self, start: int, at: int, target: int, dirty: int) -> None:
        """Continue at an address relative to home, after the instruction at `at` of a block."""
        if target not in self.flow.blocks:
            self.go("far", self.effective(target), dirty)
            return
        if target <= at or target // PAGE_SIZE != at // PAGE_SIZE:
            self.attend(self.effective(target), dirty)
        self.follow(start, at, target, dirty)

    def follow(self, start: int, at: int, target: int, dirty: int) -> None:
        """Go to a block, with registers stored unless both are in one loop."""
        keeps = self.flow.keeps(start, target)
        if not keeps:
            self.spill(dirty & ~CR_SLOTS)
            dirty &= CR_SLOTS
        self.cross(at, target, dirty)
        self.put(f"br label %{block_name(target) if keeps else self.way_into(target)}")

    def attend(self, target: str, dirty: int) -> None:
        """Leave for a target's code when the budget is spent or somebody asks for attention."""
        self.check(self.temp("load i64, ptr %budget"), lambda: self.go("far", target, dirty))

    def cross(self, at: int, target: int, dirty: int) -> None:
        """Going to another page: leave unless it still is where it was, with the code it had."""
        distance = target // PAGE_SIZE
        if distance == at // PAGE_SIZE:
            return
        page = self.effective(distance * PAGE_SIZE)
        soft = self.soft_code(page)
        tag = self.temp(f"load i64, ptr {soft}")
        same = self.temp(f"icmp eq i64 {tag}, {self.temp(f'or i64 {page}, {self.region.mode}')}")
        there = self.temp(f'icmp eq ptr {self.code_of(soft)}, @"page.{distance}"')
        place = self.temp(f'getelementptr i8, ptr @"page.{distance}", i64 {CodePage.offset("generation")}')
        now = self.temp(f"load volatile i32, ptr {place}")
        fresh = self.temp(f'icmp eq i32 {now}, ptrtoint (ptr @"generation.{distance}" to i32)')
        valid = self.temp(f"and i1 {self.temp(f'and i1 {same}, {there}')}, {fresh}")
        on, out = self.new_label("on"), self.new_label("gone")
        self.put(f"br i1 {valid}, label %{on}, label %{out}, !prof !0")
        self.start(out)
        self.go("far", self.effective(target), dirty)
        self.start(on)

    def jump_to_register(self, start: int, last: Step, dirty: int) -> None:
        """Continue at the frame's npc, inside the region or elsewhere."""
        place = self.temp(f"getelementptr i8, ptr %frame, i64 {offset_of('npc')}")
        target = self.temp(f"load i64, ptr {place}")
        sites = self.flow.indirect(last)
        if sites:
            self.attend(target, dirty)
            distance = self.temp(f"sub i64 {target}, %page")
            word = self.temp(f"ashr i64 {distance}, 2")  # targets are words: neighbours are denser so
            labels = {site: self.new_label("here") for site in sites}
            away = self.new_label("away")
            cases = " ".join(f"i64 {site // 4}, label %{label}" for site, label in labels.items())
            self.put(f"switch i64 {word}, label %{away} [{cases}]")
            for site, label in labels.items():
                self.start(label)
                self.follow(start, last.at, site, dirty)
            self.start(away)
        self.go("far", target, dirty)

    # ---- ways out --------------------------------------------------------------------------------------------------

    def ways_out(self) -> None:
        """What all exits share: the address is in %to."""
        self.start("far")
        self.jump_far(self.temp("load i64, ptr %to"), self.temp("load i64, ptr %budget"), str(self.region.mode))
        self.start("once")
        target, budget = self.temp("load i64, ptr %to"), self.temp("load i64, ptr %budget")
        self.tail('@"rt.once"', budget, x=target)


def region_ir(region: Region, table: Table, options: RegionOptions = DEFAULTS) -> str:
    """The IR of a region."""
    return Builder(region, table, options).module()
