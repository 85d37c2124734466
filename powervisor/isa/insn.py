"""The notation of an instruction: encoding, assembly syntax and semantics in one entry.

::

    @insn("31 rt:5 ra:5 rb:5 oe:1 266:9 rc:1", "add{oe}{rc} rt,ra,rb")
    def add(cpu: Vcpu, rt: u32, ra: u32, rb: u32, oe: u32, rc: u32) -> None:
        ...

Encodings read from bit 0 as the manual prints them: `31` alone is the 6-bit primary opcode, `266:9` nine bits that
must hold 266, `rt:5` a field, `si:s16` a signed field, `ds:s14<<2` a scaled one, `sh[4:0]` and `sh[5]` the pieces of
a split field, `/:5` reserved bits (ignored, as the cores do). A field reaches the semantics as `u32`, a signed one
as `i64` after scaling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..native.ints import i64, u32
from ..native.lang import NativeFunction, native

FORM_FIELDS = {"rc": ".", "oe": "o", "lk": "l", "aa": "a", "l": "l"}
"""Fields that are part of the mnemonic, with the letter they add; stencils are specialised on their values."""


@dataclass(frozen=True)
class Piece:
    """Bits of a field in the word: `width` bits at `shift` of the word are bits `at`.. of the field."""

    shift: int
    width: int
    at: int


@dataclass(frozen=True)
class Field:
    """One operand field of an encoding."""

    name: str
    pieces: tuple[Piece, ...]
    signed: bool = False
    scale: int = 0

    @property
    def width(self) -> int:
        """Bits of the field before scaling."""
        return sum(piece.width for piece in self.pieces)

    def get(self, word: int) -> Any:
        """The field's value in a word, as the semantics receive it."""
        value = 0
        for p in self.pieces:
            value |= (word >> p.shift & (1 << p.width) - 1) << p.at
        if self.signed:
            half = 1 << self.width - 1
            return i64(((value ^ half) - half) << self.scale)
        return u32(value << self.scale)

    def put(self, value: int) -> int:
        """The field's bits for a value; raises ValueError when it does not fit."""
        low, high = (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)
        if value & (1 << self.scale) - 1 or not low <= value >> self.scale <= high:
            step = f" in steps of {1 << self.scale}" if self.scale else ""
            raise ValueError(f"{self.name}={value}: must be {low << self.scale}..{high << self.scale}{step}")
        value >>= self.scale
        return sum((value >> p.at & (1 << p.width) - 1) << p.shift for p in self.pieces)


@dataclass(frozen=True, eq=False)
class Insn:
    """One entry of the instruction set."""

    name: str
    encoding: str
    syntax: str
    function: NativeFunction
    needs: frozenset[str]
    hot: bool
    ends: bool
    split: tuple[str, ...]
    select: NativeFunction | None
    restartable: bool
    mask: int = 0
    match: int = 0
    fields: dict[str, Field] = field(default_factory=dict)
    variants: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    cold_forms: tuple[str, ...] = ("oe",)
    decided: NativeFunction | None = None

    @property
    def group(self) -> str:
        """The file (family) that declares it."""
        return self.function.body.__module__.rsplit(".", 1)[-1]

    @property
    def summary(self) -> str:
        """First line of the docstring: the manual's name."""
        return (self.function.__doc__ or "").strip().split("\n")[0]

    def encode(self, **values: int) -> int:
        """The word with the given fields; fields not given are zero."""
        word = self.match
        for name, value in values.items():
            word |= self.fields[name].put(value)
        return word

    @cached_property
    def _extraction(self) -> list[tuple[str, int, int, Field]]:
        """Name, shift and mask of each field; mask 0 where it takes more than these."""
        rows = []
        for name, f in self.fields.items():
            piece = f.pieces[0]
            plain = len(f.pieces) == 1 and not f.signed and f.scale == 0 and piece.at == 0
            rows.append((name, piece.shift, (1 << piece.width) - 1 if plain else 0, f))
        return rows

    def operands(self, word: int) -> dict[str, Any]:
        """Field values of a word."""
        return {name: u32(word >> shift & mask) if mask else f.get(word) for name, shift, mask, f in self._extraction}


_TOKEN = re.compile(
    r"(?P<name>[a-z][a-z0-9]*)\[(?P<hi>\d+)(:(?P<lo>\d+))?\]"
    r"|(?P<field>[a-z][a-z0-9]*):(?P<signed>s?)(?P<width>\d+)(<<(?P<scale>\d+))?"
    r"|(?P<literal>\d+)(:(?P<size>\d+))?|/:(?P<reserved>\d+)"
)


def parse_encoding(text: str) -> tuple[int, int, dict[str, Field]]:
    """Mask, match and fields of an encoding; ValueError when it is not 32 bits."""
    mask = match = 0
    position = 32
    pieces: dict[str, list[Piece]] = {}
    signed: dict[str, tuple[bool, int]] = {}
    for token in text.split():
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise ValueError(f"encoding {text!r}: {token!r} is not understood")
        part = found.groupdict()
        if part["literal"]:
            width = int(part["size"] or 6)
            position -= width
            if int(part["literal"]) >> width:
                raise ValueError(f"encoding {text!r}: {token!r} does not fit")
            mask |= (1 << width) - 1 << position
            match |= int(part["literal"]) << position
        elif part["reserved"]:
            position -= int(part["reserved"])
        elif part["name"]:
            low = int(part["lo"] if part["lo"] is not None else part["hi"])
            width = int(part["hi"]) - low + 1
            position -= width
            pieces.setdefault(part["name"], []).append(Piece(position, width, low))
            signed.setdefault(part["name"], (False, 0))
        else:
            position -= int(part["width"])
            pieces.setdefault(part["field"], []).append(Piece(position, int(part["width"]), 0))
            signed[part["field"]] = bool(part["signed"]), int(part["scale"] or 0)
    if position != 0:
        raise ValueError(f"encoding {text!r} has {32 - position} bits")
    fields = {name: Field(name, tuple(parts), *signed[name]) for name, parts in pieces.items()}
    return mask, match, fields


_declared: list[Insn] = []


def insn(
    encoding: str, syntax: str, *, needs: str = "", hot: bool = False, ends: bool = False, split: str = "",
    select: NativeFunction | None = None, restartable: bool = False, variants: dict[str, tuple[Any, ...]] | None = None,
    cold_forms: str = "oe", decided: NativeFunction | None = None,
) -> Callable[[Callable[..., None]], Insn]:  # fmt: skip
    """Declare an instruction.

    `needs`: category words, all of which the core must have ("64", "fp", "altivec", "e6500", ...). `hot`: gets a
    stencil (tier 0); others run through their handler. `ends`: ends a translated block (branches, and whatever
    changes translation, mode or interrupt state). `split`: fields whose being zero is decided when translating, so
    that `if ra == 0` costs nothing. `select`: a native function (word, mode) -> u32 run when translating that tells
    which variant of `word` may use the stencil (0: none). `restartable`: may change state before its last fault.
    `variants`: fields for whose listed values stencils are made, with the field a compile-time constant (as rc, oe,
    lk and aa are for both values); values in a tuple mean the same and share the first one's stencil. Words with other
    values run through the handler, and so do those with a field of `cold_forms` that is 1. `decided`: a field function
    over neighbouring fields, 0 or 1, that is decided when translating: stencils are made for both.
    """
    mask, match, fields = parse_encoding(encoding)
    unknown = (set(variants or ()) | set(split.split())) - set(fields)
    if unknown:
        raise ValueError(f"{syntax}: no field {', '.join(sorted(unknown))}")

    def declare(body: Callable[..., None]) -> Insn:
        entry = Insn(
            body.__name__.rstrip("_"), encoding, syntax, native(body), frozenset(needs.split()), hot, ends,
            tuple(split.split()), select, restartable, mask, match, fields, variants or {}, tuple(cold_forms.split()),
            decided,
        )  # fmt: skip
        wanted = entry.function.parameters[1:]
        if wanted != list(fields):
            raise ValueError(f"{entry.name}: parameters {wanted} are not the fields {list(fields)}, in that order")
        _declared.append(entry)
        return entry

    return declare


class Table:
    """An instruction set: entries in order of declaration, a decoder over them."""

    def __init__(self, entries: Iterable[Insn]) -> None:
        self.entries = list(entries)
        self._by_opcode: dict[int, list[Insn]] = {}
        for entry in self.entries:
            rows = self._by_opcode.setdefault(entry.match >> 26, [])
            for other in rows:
                common = entry.mask & other.mask
                if (
                    not (entry.match ^ other.match) & common
                    and (entry.mask == other.mask or common not in (entry.mask, other.mask))
                    and not (entry.needs ^ other.needs)
                ):
                    raise ValueError(f"{entry.name} overlaps {other.name}")
            rows.append(entry)
        self._by_mask: dict[int, dict[int, dict[int, Insn]]] = {}
        for opcode, rows in self._by_opcode.items():  # the more exact encoding is tried first
            rows.sort(key=lambda row: -row.mask.bit_count())
            masks = self._by_mask[opcode] = {}
            for row in rows:
                masks.setdefault(row.mask, {}).setdefault(row.match, row)

    def __iter__(self) -> Iterator[Insn]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def for_core(self, categories: frozenset[str]) -> Table:
        """The entries a core with these categories has."""
        return Table(entry for entry in self.entries if entry.needs <= categories)

    def decode(self, word: int) -> Insn | None:
        """The entry of a word, or None where the encoding is undefined."""
        for mask, matches in self._by_mask.get(word >> 26, {}).items():
            entry = matches.get(word & mask)
            if entry is not None:
                return entry
        return None


def declared() -> list[Insn]:
    """Every entry declared so far."""
    return _declared
