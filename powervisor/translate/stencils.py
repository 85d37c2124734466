"""Stencils: an instruction's semantics compiled with holes where its fields go.

A stencil is a function that ends by jumping to whatever follows; its operands are addresses of undefined symbols
(holes), so the object file's relocations say where the translator must patch. Hole symbols:

    f.<name>.<shift>    a field's value shifted left          d.<n>   a value computed from fields (field_function)
    p.cia               offset of the instruction in its page, minus mode: page + p.cia is its address
    p.count             instructions since the block began    p.slot  address of the target's entry pointer
    p.target            like p.cia for the target             p.word  the instruction word
    p.mode              the mode                              p.handler, n.next, n.cold   code addresses
    p.last              8 times the number of the GPR in x

Arguments live in registers from stencil to stencil: the vCPU, its current context, the budget, `page`, which is the
effective address of the code page plus the mode bits, and `x`: the GPR written last, so that an instruction which uses
its predecessor's result need not wait for it to come back from memory. The translator knows which GPR that is and takes
the stencil that reads it from x (`Variant.cached`); every stencil stores its result too.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ..isa.insn import FORM_FIELDS, Insn
from ..native.compile import Module
from ..native.ints import i64, u32, u64
from ..native.lang import NativeFunction
from ..native.source import names_of, nodes_of, syntax
from ..native.values import Const, Frame, Place, Value, is_int
from ..vcpu.state import Vcpu
from .edges import CONVENTION, SIGNATURE, Edges
from .inlining import InlineCompiler

FORWARD, BACKWARD, OFF_PAGE = 0, 1, 2
"""Where a relative branch goes: later in the page, earlier or itself, elsewhere."""


_BRANCH = re.compile(r"  br i1 \S+, label %(\S+), label %([^\s,]+)")


@dataclass(frozen=True)
class Selector:
    """How a field chooses the stencil: its value maps to an index below `radix`, or to NONE (use the handler)."""

    name: str
    shift: int
    width: int
    radix: int
    map: bytes

    NONE = 0xFF


MOST_BITS_DECIDED = 12
"""Bits of an instruction word that `Insn.decided` may look at: a byte for each of their values."""


@dataclass(frozen=True)
class Variant:
    """One stencil of an instruction."""

    insn: Insn
    index: int
    fixed: tuple[tuple[str, int], ...]
    nonzero: frozenset[str]
    where: int | None
    cached: str | None
    """The source field whose GPR is in x; None: all sources are read from memory."""

    @property
    def from_memory(self) -> Variant:
        """The variant that reads all sources from memory, which is right for any."""
        if self.cached is None:
            return self
        return replace(self, index=self.index - 1 - sources(self.insn).index(self.cached), cached=None)

    @property
    def same_as(self) -> Variant:
        """The variant whose stencil is the same: a field that is a constant zero is not read from x."""
        return self.from_memory if self.cached in dict(self.fixed) else self


@dataclass
class HoleTable:
    """Derived holes of a set of stencils: (function, fields of the instruction, argument names)."""

    derived: list[tuple[NativeFunction, Insn, tuple[Any, ...]]] = field(default_factory=list)
    index: dict[Any, int] = field(default_factory=dict)

    def derive(self, function: NativeFunction, insn: Insn, arguments: tuple[Any, ...]) -> int:
        key = (function, tuple((a, insn.fields[a]) if isinstance(a, str) else a for a in arguments))
        if key not in self.index:
            self.index[key] = len(self.derived)
            self.derived.append((function, insn, arguments))
        return self.index[key]


def derived_symbol(number: int, cm: bool) -> str:
    """Symbol of the function that computes a derived hole of a mode's stencils."""
    return f"derived.{int(cm)}.{number}"


@cache
def is_relative(insn: Insn) -> bool:
    """Whether the semantics use `jump_relative`, which stencils specialise by direction."""
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "jump_relative"
        for node in nodes_of(insn.function)
    )


def gpr_fields(insn: Insn, context: type[ast.expr_context]) -> list[str]:
    """Fields that index `cpu.gpr` in the semantics, read (ast.Load) or written (ast.Store), in the encoding's order."""
    found: set[str] = set()
    _find_gprs(insn.function, {name: name for name in insn.fields}, context, found)
    return [name for name in insn.fields if name in found]


@cache
def indexing_and_calls(function: NativeFunction) -> tuple[ast.AST, ...]:
    """The nodes that `_find_gprs` looks at."""
    return tuple(node for node in nodes_of(function) if isinstance(node, ast.Subscript | ast.Call))


def _find_gprs(
    function: NativeFunction, known: dict[str, str], context: type[ast.expr_context], found: set[str]
) -> None:
    """Look through a function and those it hands fields to; `known` are its names for fields."""
    for node in indexing_and_calls(function):
        if isinstance(node, ast.Subscript):
            if isinstance(node.ctx, context) and isinstance(node.value, ast.Attribute) and node.value.attr == "gpr":
                if isinstance(node.slice, ast.Name) and node.slice.id in known:
                    found.add(known[node.slice.id])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            callee = names_of(function).get(node.func.id)
            if isinstance(callee, NativeFunction) and not callee.cold:
                handed = {
                    parameter: known[argument.id]
                    for parameter, argument in zip(callee.parameters, node.args, strict=False)
                    if isinstance(argument, ast.Name) and argument.id in known
                }
                if handed:
                    _find_gprs(callee, handed, context, found)


@cache
def sources(insn: Insn) -> tuple[str, ...]:
    """The GPR operands that may be in x."""
    return tuple(gpr_fields(insn, ast.Load))


@cache
def written(insn: Insn) -> tuple[str, ...]:
    """The GPR operands that are changed."""
    return tuple(gpr_fields(insn, ast.Store))


@cache
def destination(insn: Insn) -> str | None:
    """The field of the GPR that an instruction leaves in x: its result, or the base register it updates."""
    return next((name for name in ("rt", *written(insn)) if name in written(insn)), None)


def value_groups(insn: Insn, name: str) -> list[tuple[int, ...]]:
    """The values of a field that have stencils, those with the same meaning together."""
    return [group if isinstance(group, tuple) else (group,) for group in insn.variants[name]]


@cache
def selectors(insn: Insn) -> list[Selector]:
    """The fields that choose among an instruction's stencils."""
    result = []
    for name, f in insn.fields.items():
        size = 1 << f.width
        if name in insn.variants:
            groups = value_groups(insn, name)
            table = bytes(next((n for n, g in enumerate(groups) if v in g), Selector.NONE) for v in range(size))
            radix = len(groups)
        elif name in FORM_FIELDS and f.width == 1:
            cold = name in insn.cold_forms
            table, radix = bytes((0, Selector.NONE if cold else 1)), 1 if cold else 2
        elif name in insn.split:
            table, radix = bytes((1, *bytes(size - 1))), 2
        else:
            continue
        result.append(Selector(name, f.pieces[0].shift, f.width, radix, table))
    if insn.decided is not None:
        result.append(_decided(insn, insn.decided))
    return result


def _decided(insn: Insn, function: NativeFunction) -> Selector:
    """The selector of a function over neighbouring fields."""
    chosen = [insn.fields[name] for name in function.parameters]
    shift, width = min(f.pieces[0].shift for f in chosen), sum(f.width for f in chosen)
    if max(f.pieces[0].shift + f.width for f in chosen) != shift + width or width > MOST_BITS_DECIDED:
        raise ValueError(f"{insn.name}: the fields of {function.name} are not neighbours, or too wide")
    table = bytes(int(function(*(f.get(value << shift) for f in chosen))) for value in range(1 << width))
    return Selector(function.name, shift, width, 2, table)


def variants(insn: Insn) -> Iterator[Variant]:
    """Every stencil of an instruction, in index order."""
    chosen = selectors(insn)
    ranges: list[range] = [range(s.radix) for s in chosen]
    places = (FORWARD, BACKWARD, OFF_PAGE) if is_relative(insn) else (None,)
    index = 0
    for combination in itertools.product(*ranges):
        fixed, nonzero = [], set()
        for selector, number in zip(chosen, combination, strict=True):
            if insn.decided is not None and selector.name == insn.decided.name:
                fixed.append((selector.name, number))
            elif selector.name in insn.variants:
                fixed.append((selector.name, value_groups(insn, selector.name)[number][0]))
            elif selector.name in FORM_FIELDS and insn.fields[selector.name].width == 1:
                fixed.append((selector.name, number))
            elif number == 1:
                fixed.append((selector.name, 0))
            else:
                nonzero.add(selector.name)
        for where, cached in itertools.product(places, (None, *sources(insn))):
            yield Variant(insn, index, tuple(fixed), frozenset(nonzero), where, cached)
            index += 1


class GprFile(Place):
    """Vcpu.gpr."""


@dataclass
class Gpr(Place):
    """A GPR named by an instruction field."""

    name: str


class StencilCompiler(InlineCompiler, Edges):
    """Emits an instruction's semantics as a stencil: everything inlined, rare paths leave to the handler."""

    def __init__(self, module: Module, holes: HoleTable, variant: Variant, cm: bool, hole_names: set[str]) -> None:
        super().__init__(module, cm)
        self.holes, self.variant, self.hole_names = holes, variant, hole_names
        self.dirty = False
        self.in_x = False  # on this path the destination has been written, and `x_slot` holds it
        self.x_slot = self.alloca(u64, "x")

    # ---- holes -----------------------------------------------------------------------------------------------------

    def hole(self, name: str, kind: str = "i64") -> str:
        self.hole_names.add(name)
        return f'ptrtoint (ptr @"{name}" to {kind})'

    def field_value(self, name: str) -> Value:
        f = self.variant.insn.fields[name]
        kind = i64 if f.signed else u32
        shift = f.scale
        return Value(kind, self.hole(f"f.{name}.{shift}", kind.ir), ("field", name), name in self.variant.nonzero)

    def scaled(self, index: Value, step: int, node: ast.AST) -> str:
        if index.hole is not None:
            shift = step.bit_length() - 1
            if step != 1 << shift:
                raise self.error(node, f"an array of {step}-byte elements cannot be indexed by a field in a stencil")
            if index.hole[0] == "field":
                scale = self.variant.insn.fields[index.hole[1]].scale
                return self.hole(f"f.{index.hole[1]}.{shift + scale}")
            number = index.hole[1]
            return self.hole(f"d.{number}.{shift}")
        return super().scaled(index, step, node)

    def compare(self, name: str, a: Any, b: Any, node: ast.AST) -> Any:
        known = super().compare(name, a, b, node)
        if not isinstance(known, Const):
            for one, other in ((a, b), (b, a)):
                if isinstance(one, Value) and one.hole is not None:
                    if not (isinstance(other, Value) and other.hole is None):
                        reason = "comparing a field in a stencil: name it in split= or use a field_function"
                        raise self.error(node, reason)
        return known

    # ---- the register in x -----------------------------------------------------------------------------------------

    def field_place(self, base: Value, name: str, node: ast.AST) -> Place:
        place = super().field_place(base, name, node)
        return GprFile(place.kind, place.ref) if base.kind is Vcpu and name == "gpr" else place

    def element(self, base: Place, index: Any, node: ast.AST) -> Place:
        place = super().element(base, index, node)
        if not isinstance(base, GprFile):
            return place
        if isinstance(index, Value) and index.hole is not None and index.hole[0] == "field":
            return Gpr(place.kind, place.ref, index.hole[1])
        return GprFile(place.kind, place.ref)

    def read(self, value: Any) -> Any:
        if isinstance(value, Gpr) and value.name == self.variant.cached and not self.dirty:
            return Value(u64, "%x")
        return super().read(value)

    def write(self, place: Place, value: Any, node: ast.AST) -> None:
        if isinstance(place, GprFile) or (isinstance(place, Gpr) and place.name not in written(self.variant.insn)):
            raise self.error(node, "the GPR written here was not foreseen (see destination)")
        if isinstance(place, Gpr) and place.name == destination(self.variant.insn):
            value = self.coerce(value, place.kind, node)
            self.put(f"store i64 {value.ref}, ptr {self.x_slot}")
            self.in_x = True
        super().write(place, value, node)

    def following_x(self) -> str:
        """What x holds for the next stencil: the destination, or what it held before."""
        name = destination(self.variant.insn)
        if name is None:
            return "%x"
        if self.in_x:
            return self.temp(f"load i64, ptr {self.x_slot}")
        offset = self.hole(f"f.{name}.3")
        place = self.temp(f"getelementptr i8, ptr %cpu, i64 {offset}")
        place = self.temp(f"getelementptr i8, ptr {place}, i64 {Vcpu.offset('gpr')}")
        return self.temp(f"load i64, ptr {place}")

    # ---- the body --------------------------------------------------------------------------------------------------

    def stencil(self, symbol: str) -> str:
        """The IR of the stencil."""
        insn = self.variant.insn
        frame = Frame(insn.function, {"cpu": Value(Vcpu, "%cpu")}, None)
        fixed = dict(self.variant.fixed)
        for name in insn.fields:
            frame.scope[name] = Const(u32(fixed[name])) if name in fixed else self.field_value(name)
        self.frames.append(frame)
        self.enter(insn.function)
        self.body(syntax(insn.function)[0].body)
        if not self.terminated:
            self.emit_return(None)
        self.weigh_branches()
        text = "\n".join(["entry:", *self.allocas, *self.lines])
        return f'define {CONVENTION} void @"{symbol}"{SIGNATURE} #3 section ".{symbol}" {{\n{text}\n}}\n'

    def weigh_branches(self) -> None:
        """Tell LLVM that branches to the handler are rare: they become conditional jumps out of the stencil."""
        leaving = {
            line[:-1]
            for line, following in zip(self.lines, self.lines[1:], strict=False)
            if line.endswith(":") and '@"n.cold"' in following
        }
        for number, line in enumerate(self.lines):
            found = _BRANCH.fullmatch(line)
            if found is not None and (found[1] in leaving) != (found[2] in leaving):
                self.lines[number] = f"{line}, !prof !{1 if found[1] in leaving else 0}"
        # Placed last, they are the taken side of their branch, which LLVM then turns into a conditional tail call.
        order: list[str] = []
        last: list[str] = []
        block = order
        for line in self.lines:
            if line.endswith(":"):
                block = last if line[:-1] in leaving else order
            block.append(line)
        self.lines = order + last

    def emit_return(self, value: Value | None) -> None:
        self.tail('@"n.next"', x=self.following_x())

    def leave(self) -> None:
        """Give up: the handler executes the instruction from its start."""
        if self.dirty and not self.variant.insn.restartable:
            raise self.error(None, f"{self.variant.insn.name} changes state before it may leave to its handler")
        self.tail('@"n.cold"')

    def state_written(self) -> None:
        self.dirty = True

    def stmt_If(self, node: ast.If) -> None:
        before = self.dirty
        super().stmt_If(node)
        self.dirty = self.dirty or before

    def arms(self, arms: list[tuple[str, list[ast.stmt]]], end: str, complete: bool) -> None:
        # state written on one arm that leaves the function does not reach the other
        before, any_dirty = self.dirty, False
        x_before, x_after = self.in_x, [self.in_x] if not complete else []
        wrapped = []
        for name, statements in arms:
            wrapped.append((name, statements))
        original = self.body

        def body(statements: list[ast.stmt]) -> None:
            nonlocal any_dirty
            if any(statements is s for _, s in wrapped):
                self.dirty, self.in_x = before, x_before
                original(statements)
                any_dirty = any_dirty or (self.dirty and not self.terminated)
                if not self.terminated:
                    x_after.append(self.in_x)
            else:
                original(statements)

        self.body = body  # type: ignore[method-assign]
        try:
            super().arms(arms, end, complete)
        finally:
            self.body = original  # type: ignore[method-assign]
        self.dirty = before or any_dirty
        self.in_x = bool(x_after) and all(x_after)

    # ---- calls -----------------------------------------------------------------------------------------------------

    def derived(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        """A value that depends on fields only: computed when translating, patched in."""
        if function is self.variant.insn.decided:
            return Const(u32(dict(self.variant.fixed)[function.name]))
        if all(isinstance(a, Const) for a in arguments):
            return super().derived(function, arguments, node)
        names: list[Any] = []
        for argument in arguments:
            if isinstance(argument, Const):
                names.append(int(argument.value))
            elif argument.hole is not None and argument.hole[0] == "field":
                names.append(argument.hole[1])
            else:
                return self.inline_call(function, arguments, node)
        _, result = self.signature(function, {})
        number = self.holes.derive(function, self.variant.insn, tuple(names))
        if result is bool or not is_int(result):
            raise self.error(node, f"{function.name} must return an integer")
        wide = ".wide" if result.bits == 64 else ""
        text = self.hole(f"d.{number}.0{wide}", "i64" if result.bits == 64 else "i32")
        if result.bits < 32:
            return Value(result, self.temp(f"trunc i32 {text} to {result.ir}"), ("derived", number))
        return Value(result, text, ("derived", number))

    def on_cia(self, node: ast.AST, cpu: Any) -> Any:
        return Value(u64, self.masked(self.temp(f"add i64 %page, {self.hole('p.cia')}")))

    def spent(self) -> str:
        return self.temp(f"sub i64 %bud, {self.hole('p.count')}")

    def target(self) -> str:
        return self.masked(self.temp(f"add i64 %page, {self.hole('p.target')}"))

    def on_jump_relative(self, node: ast.AST, cpu: Any, displacement: Any) -> Any:
        if self.variant.where == OFF_PAGE:
            self.jump_far(self.target(), self.spent(), self.hole("p.mode"))
            return None
        budget = self.spent()
        if self.variant.where == BACKWARD:
            self.check(budget, lambda: self.tail('@"rt.lookup"', budget, "%page", self.target()))
        self.hole_names.add("p.slot")
        self.tail(self.temp('load ptr, ptr @"p.slot"'), budget)
        return None

    def on_jump(self, node: ast.AST, cpu: Any, target: Any) -> Any:
        value = self.coerce(target, u64, node)
        self.jump_far(self.masked(value.ref), self.spent(), self.hole("p.mode"))
        return None
