"""Syntax strings of instructions, parsed: what the assembler and the disassembler share.

The naming rules of operands are at the top of `isa.disasm`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from .insn import FORM_FIELDS, Insn
from .registers import SPR

_KINDS = {
    "gpr": ("rt", "ra", "rb", "rs"), "fpr": ("frt", "fra", "frb", "frc", "frs"),
    "vr": ("vrt", "vra", "vrb", "vrc", "vrs"), "crf": ("bf", "bfa"), "crbit": ("bt", "ba", "bb", "bi", "bc"),
    "zero": ("rt0", "ra0", "rb0", "rs0"), "target": ("target",), "spr": ("spr",),
}  # fmt: skip
_KIND = {name: kind for kind, names in _KINDS.items() for name in names}

CR_BITS = ("lt", "gt", "eq", "so")

_SPR_RANGES = {"IVOR0": 16, "IVOR32": 6, "IVOR38": 4, "HDBCR0": 7}
_SPR_RENAMED = {"TBL_WRITE": "tbwl", "TBU_WRITE": "tbwu"} | {f"SPRG{n}U": f"usprg{n}" for n in range(3, 8)}


@cache
def spr_names() -> dict[int, str]:
    """Assembly names of special-purpose registers by number."""
    names = {}
    for name, number in vars(SPR).items():
        if name.isupper():
            names[number] = _SPR_RENAMED.get(name, name.lower())
            stem = name.rstrip("0123456789")
            for n in range(1, _SPR_RANGES.get(name, 1)):
                names[number + n] = f"{stem.lower()}{int(name[len(stem) :]) + n}"
    return names


@cache
def spr_numbers() -> dict[str, int]:
    """Numbers of special-purpose registers by assembly name."""
    return {name: number for number, name in spr_names().items()}


@dataclass(frozen=True)
class Slot:
    """One value an assembly text gives: `kind` tells how it is spelled, `name` is the field, `number` a fixed digit."""

    kind: str
    name: str
    number: int = 0


@dataclass(frozen=True)
class Operand:
    """What stands between two commas: one slot, or displacement and base."""

    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Syntax:
    """A syntax string: mnemonic pieces (text and {markers} alternating) and operands."""

    pieces: tuple[str, ...]
    operands: tuple[Operand, ...]

    @property
    def markers(self) -> tuple[str, ...]:
        """Fields that are letters of the mnemonic."""
        return self.pieces[1::2]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every slot, in the order of the text."""
        return tuple(slot for operand in self.operands for slot in operand.slots)

    def mnemonic(self, values: dict[str, int]) -> str:
        """The mnemonic with the letters of its one-valued markers."""
        return "".join(
            (FORM_FIELDS.get(p, p) if values.get(p) else "") if n % 2 else p for n, p in enumerate(self.pieces)
        )

    def spellings(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Every spelling of the mnemonic, with the values of its markers."""
        for bits in product((0, 1), repeat=len(self.markers)):
            values = dict(zip(self.markers, bits, strict=True))
            yield self.mnemonic(values), values


def _slot(text: str, base: bool = False) -> Slot:
    if text.isdigit():
        return Slot("fixed", "", int(text))
    kind = _KIND.get(text, "number")
    if kind == "zero" or base:
        return Slot("zero", text.removesuffix("0"))
    return Slot(kind, text)


@cache
def parse_syntax(text: str) -> Syntax:
    """A syntax string's parts."""
    mnemonic, _, rest = text.partition(" ")
    operands = []
    for part in rest.split(",") if rest else ():
        memory = re.fullmatch(r"(\w+)\((\w+)\)", part)
        slots = (_slot(memory[1]), _slot(memory[2], base=True)) if memory else (_slot(part),)
        operands.append(Operand(slots))
    return Syntax(tuple(re.split(r"[{}]", mnemonic)), tuple(operands))


def unnamed_fields(entry: Insn) -> tuple[str, ...]:
    """Fields the syntax string does not name: written after the operands, and only when they are not zero."""
    return _unnamed(entry.syntax, tuple(entry.fields))


@cache
def _unnamed(text: str, fields: tuple[str, ...]) -> tuple[str, ...]:
    syntax = parse_syntax(text)
    named = {slot.name for slot in syntax.slots} | set(syntax.markers)
    if "target" in named:
        named |= {"li", "bd"}
    return tuple(name for name in fields if name not in named)


@dataclass(frozen=True)
class Linear:
    """A sum of alias variables with factors, and a constant."""

    terms: tuple[tuple[str, int], ...]
    constant: int

    def value(self, bound: dict[str, int]) -> int:
        """The sum for given variables."""
        return self.constant + sum(factor * bound[name] for name, factor in self.terms)

    def solve(self, value: int, bound: dict[str, int]) -> bool:
        """Bind the one variable not yet bound so that the sum is `value`; False when that is impossible."""
        free = [(name, factor) for name, factor in self.terms if name not in bound]
        rest = value - self.constant - sum(factor * bound[name] for name, factor in self.terms if name in bound)
        if not free:
            return rest == 0
        name, factor = free[0]
        if len(free) > 1 or rest % factor or (factor < 0 and rest // factor < 0):
            return False
        bound[name] = rest // factor
        return True


def parse_linear(text: str) -> Linear:
    """`31-n`, `4*bf+2`, `rs`, `0` as a sum."""

    def walk(node: ast.expr) -> tuple[dict[str, int], int]:
        match node:
            case ast.Constant(value=int(number)):
                return {}, number
            case ast.Name(id=name):
                return {name: 1}, 0
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                terms, constant = walk(operand)
                return {name: -factor for name, factor in terms.items()}, -constant
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                sign = 1 if isinstance(op, ast.Add) else -1
                (a, ca), (b, cb) = walk(left), walk(right)
                return {n: a.get(n, 0) + sign * b.get(n, 0) for n in {**a, **b}}, ca + sign * cb
            case ast.BinOp(left=ast.Constant(value=int(factor)), op=ast.Mult(), right=right):
                terms, constant = walk(right)
                return {name: factor * f for name, f in terms.items()}, factor * constant
        raise ValueError(f"{text!r} is not linear")

    terms, constant = walk(ast.parse(text, mode="eval").body)
    return Linear(tuple(terms.items()), constant)


@dataclass(frozen=True)
class Alias:
    """An extended mnemonic: its own syntax, and the values it gives to the slots of the entry it stands for."""

    text: str
    meaning: str
    syntax: Syntax
    entry: Insn
    values: tuple[Linear, ...]
    shown: bool

    def match(self, values: dict[str, int]) -> dict[str, int] | None:
        """The alias's own operands for slot and marker values of its entry; None when it does not fit."""
        target = parse_syntax(self.entry.syntax)
        if any(values[m] for m in target.markers if m not in self.syntax.markers):
            return None
        if any(values[name] for name in unnamed_fields(self.entry)):
            return None
        bound: dict[str, int] = {}
        for slot, linear in zip(target.slots, self.values, strict=True):
            if not linear.solve(slot.number if slot.kind == "fixed" else values[slot.name], bound):
                return None
        return bound | {m: values[m] for m in self.syntax.markers}


def parse_aliases(lines: Iterable[str], entries: Iterable[Insn], shown: bool) -> list[Alias]:
    """Aliases from lines `alias operands = mnemonic operands`, without those of mnemonics that no entry has."""
    by_mnemonic = {entry.syntax.partition(" ")[0]: entry for entry in entries}
    found = []
    for line in lines:
        text, _, meaning = (part.strip() for part in line.partition(" = "))
        mnemonic, _, operands = meaning.partition(" ")
        entry = by_mnemonic.get(mnemonic)
        if entry is None:
            continue
        parts = re.split(r"[,()]+", operands.rstrip(")")) if operands else []
        wanted = parse_syntax(entry.syntax).slots
        if len(parts) != len(wanted):
            raise ValueError(f"alias {line!r}: {entry.syntax!r} has {len(wanted)} operands")
        found.append(Alias(text, meaning, parse_syntax(text), entry, tuple(map(parse_linear, parts)), shown))
    return found
