"""Compare and branch as one stencil: the commonest pair of all needs no trip through CR to decide.

The compare still sets its CR field; the branch tests the operands directly. Pairs are found when translating (see
`translator.fused`): a compare whose stencil is `Fused`, then `bc` on a bit of the same field, if true or if false, to a
place in the same page.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..isa.insn import Insn
from ..native.compile import Module, syntax
from ..native.lang import NativeFunction
from ..native.values import Const, Frame, Value
from ..vcpu import ops
from ..vcpu.state import Vcpu
from .edges import CONVENTION, SIGNATURE
from .stencils import BACKWARD, FORWARD, HoleTable, StencilCompiler, Variant, indexing_and_calls, variants

BITS = ("lt", "gt", "eq")
"""Bits 0..2 of a CR field; SO is not fused."""
SENSES = (4, 12)
"""BO: branch if false, if true."""
PER_VARIANT = len(BITS) * len(SENSES) * 2
COMPARES = (ops.set_signed, ops.set_unsigned)


@dataclass(frozen=True)
class Fused:
    """A stencil of a compare and the branch after it."""

    first: Variant
    index: int
    bit: int
    sense: int
    where: int


@cache
def is_compare(insn: Insn) -> bool:
    """Whether an instruction only sets a CR field from a comparison."""
    if not insn.hot or "bf" not in insn.fields:
        return False
    nodes = indexing_and_calls(insn.function)
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return bool(calls & {f.body.__name__ for f in COMPARES})


def fused_variants(insn: Insn) -> Iterator[Fused]:
    """Every fused stencil of a compare, in index order."""
    index = 0
    for first in variants(insn):
        for bit in range(len(BITS)):
            for sense in SENSES:
                for where in (FORWARD, BACKWARD):
                    yield Fused(first, index, bit, sense, where)
                    index += 1


class FusedCompiler(StencilCompiler):
    """Emits the compare, then the branch with the compare's operands at hand."""

    def __init__(
        self, module: Module, holes: HoleTable, fused: Fused, branch: Insn, cm: bool, hole_names: set[str]
    ) -> None:
        super().__init__(module, holes, fused.first, cm, hole_names)
        self.fused, self.branch_insn = fused, branch
        self.compared: tuple[str, Value, Value] | None = None

    def stencil(self, symbol: str) -> str:
        """The IR of the pair."""
        first = self.fused.first.insn
        frame = Frame(first.function, {"cpu": Value(Vcpu, "%cpu")}, None, end=self.new_label("second"))
        fixed = dict(self.fused.first.fixed)
        for name in first.fields:
            frame.scope[name] = Const(fixed[name]) if name in fixed else self.field_value(name)
        self.frames.append(frame)
        self.enter(first.function)
        self.body(syntax(first.function)[0].body)
        assert frame.end is not None
        self.label(frame.end)
        self.frames.pop()
        self.dirty = False
        self.variant = Variant(self.branch_insn, 0, (), frozenset(), self.fused.where, None)
        second = Frame(self.branch_insn.function, {"cpu": Value(Vcpu, "%cpu")}, None)
        for name, value in {"bo": self.fused.sense, "bi": self.fused.bit, "bd": 0, "aa": 0, "lk": 0}.items():
            second.scope[name] = Const(value)
        self.frames.append(second)
        self.enter(self.branch_insn.function)
        self.body(syntax(self.branch_insn.function)[0].body)
        if not self.terminated:
            self.emit_return(None)
        self.weigh_branches()
        text = "\n".join(["entry:", *self.allocas, *self.lines])
        return f'define {CONVENTION} void @"{symbol}"{SIGNATURE} #3 section ".{symbol}" {{\n{text}\n}}\n'

    def call(self, function: NativeFunction, arguments: list[Any], node: ast.AST) -> Any:
        if function in COMPARES:
            _, kind = self.signature(function, {})[0][2]
            a, b = self.coerce(arguments[2], kind, node), self.coerce(arguments[3], kind, node)
            self.compared = "s" if kind.signed else "u", a, b
            return self.inline_call(function, [*arguments[:2], a, b], node)
        if function is ops.cr_bit:
            assert self.compared is not None
            sign, a, b = self.compared
            name = BITS[self.fused.bit]
            predicate = name if name == "eq" else sign + name
            return Value(bool, self.temp(f"icmp {predicate} i64 {a.ref}, {b.ref}"))
        return super().call(function, arguments, node)


def fused_symbol(fused: Fused, cm: bool) -> str:
    """Symbol of a fused stencil."""
    return f"s.fused.{fused.first.insn.name}.{fused.first.insn.match:08x}.{fused.index}.{int(cm)}"
