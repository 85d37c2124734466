"""Assembly text to words, from the same syntax strings as the disassembler (operand names: `isa.disasm`).

Register operands may be written as bare numbers, as GNU as does. Extended mnemonics are those of `isa.aliases`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UserError
from .aliases import aliases
from .cores import Core
from .disasm import branch_field
from .expressions import ExpressionError, Number, UndefinedError, evaluate
from .insn import Insn, Table
from .syntax import CR_BITS, Alias, Operand, Slot, Syntax, parse_syntax, spr_numbers, unnamed_fields

Resolver = Callable[[str], int]

_PREFIX = {"gpr": "r", "zero": "r", "fpr": "f", "vr": "v", "crf": "cr"}
_CR_NAMES = {f"cr{n}": n for n in range(8)} | {name: n for n, name in enumerate(CR_BITS)} | {"un": 3}
_UNSIGNED_TOO = ("addis",)
"""Entries whose signed immediate is the upper half of something and may be written unsigned."""


@dataclass(frozen=True)
class _Form:
    """One way to write one mnemonic."""

    entry: Insn
    syntax: Syntax
    markers: dict[str, int]
    alias: Alias | None


def no_symbols(name: str) -> int:
    """A resolver that knows no symbol."""
    raise UndefinedError(f"{name} is not defined")


def split_operands(text: str) -> list[str]:
    """Operands between the commas that are outside parentheses and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for at, c in enumerate(text):
        if quote:
            if c == quote and text[at - 1] != "\\":
                quote = ""
        elif c in "'\"":
            quote = c
        elif c == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
        else:
            depth += (c == "(") - (c == ")")
    last = text[start:].strip()
    return [*parts, last] if parts or last else []


class Assembler:
    """Encodes instructions of a table, for a core (None: every entry there is)."""

    def __init__(self, table: Table, core: Core | None = None) -> None:
        self.core = core
        self.bits = core.bits if core else 64
        self.forms: dict[str, list[_Form]] = {}
        for entry in table:
            self._add(entry, parse_syntax(entry.syntax), None)
        for alias in aliases(table):
            self._add(alias.entry, alias.syntax, alias)

    def _add(self, entry: Insn, syntax: Syntax, alias: Alias | None) -> None:
        for mnemonic, markers in syntax.spellings():
            self.forms.setdefault(mnemonic, []).append(_Form(entry, syntax, markers, alias))

    def encode(self, text: str, pc: int = 0, resolve: Resolver = no_symbols) -> int:
        """The word of one instruction at an address. Raises UserError; UndefinedError for an unknown symbol."""
        mnemonic, *operands = text.split(None, 1) or [""]
        rest = operands[0] if operands else ""
        forms = self.forms.get(mnemonic.lower())
        if forms is None:
            near = difflib.get_close_matches(mnemonic.lower(), self.forms, 3)
            raise UserError(f"{mnemonic}: no such instruction" + (f"; near: {', '.join(near)}" if near else ""))
        if self.core is not None:
            forms = [form for form in forms if form.entry.needs <= self.core.categories]
            if not forms:
                raise UserError(f"{mnemonic}: not an instruction of the {self.core.name}")
        given = split_operands(rest)
        problem: Exception | None = None
        for form in forms:
            extra = len(given) - len(form.syntax.operands)
            if 0 <= extra <= (len(unnamed_fields(form.entry)) if form.alias is None else 0):
                try:
                    return self._encode(form, given, pc, resolve)
                except UndefinedError:
                    raise
                except (ExpressionError, ValueError) as error:
                    problem = problem or error
        if problem is not None:
            raise UserError(str(problem))
        texts = [form.alias.text if form.alias else form.entry.syntax for form in forms]
        usages = sorted({f"{mnemonic} {text.partition(' ')[2]}".rstrip() for text in texts})
        raise UserError(f"{mnemonic} with {len(given)} operands; write {' or '.join(usages)}")

    def _encode(self, form: _Form, given: list[str], pc: int, resolve: Resolver) -> int:
        found: dict[str, Number] = {}
        named = len(form.syntax.operands)
        for operand, text in zip(form.syntax.operands, given, strict=False):
            self._operand(operand, text, resolve, found)
        for name, text in zip(unnamed_fields(form.entry), given[named:], strict=False):
            found[name] = evaluate(text, resolve)
        values = self._slots(form, found)
        word = form.entry.match
        for name, number in (values | {n: Number(v) for n, v in form.markers.items()}).items():
            word |= self._field(form.entry, name, number, pc, form.markers)
        return word

    @staticmethod
    def _slots(form: _Form, found: dict[str, Number]) -> dict[str, Number]:
        """Values of the entry's own fields."""
        if form.alias is None:
            return {name: number for name, number in found.items() if name}
        plain = {name: number.value for name, number in found.items()}
        values = {}
        for slot, linear in zip(parse_syntax(form.entry.syntax).slots, form.alias.values, strict=True):
            if slot.name:
                half = any(found[name].half for name, _ in linear.terms)
                values[slot.name] = Number(linear.value(plain), half)
        return values

    def _field(self, entry: Insn, name: str, number: Number, pc: int, markers: dict[str, int]) -> int:
        """A field's bits in the word."""
        value = number.value
        if name == "target":
            field = entry.fields[branch_field(entry)]
            sign = 1 << self.bits - 1
            value = (value - (0 if markers.get("aa") else pc) + sign & (1 << self.bits) - 1) - sign
            try:
                return field.put(value)
            except ValueError:
                reach = 1 << field.width + field.scale - 1
                where = f"{value:#x} bytes away" if value % 4 == 0 else "not a multiple of 4"
                raise ValueError(f"the branch target is {where}; it can be up to {reach:#x} away") from None
        field = entry.fields[name]
        sixteen = field.signed and field.width + field.scale == 16
        if sixteen and (number.half or entry.name in _UNSIGNED_TOO) and 0x8000 <= value <= 0xFFFF:
            value -= 0x1_0000
        return field.put(value)

    def _operand(self, operand: Operand, text: str, resolve: Resolver, found: dict[str, Number]) -> None:
        """Read one operand's slots."""
        if len(operand.slots) == 1:
            self._slot(operand.slots[0], text, resolve, found)
            return
        parts = re.fullmatch(r"(.*)\(([^()]*)\)", text)
        if parts is None:
            raise ValueError(f"{text!r}: a displacement and a base register are needed, such as 8(r1)")
        displacement, base = operand.slots
        self._slot(displacement, parts[1].strip() or "0", resolve, found)
        self._slot(base, parts[2].strip(), resolve, found)

    def _slot(self, slot: Slot, text: str, resolve: Resolver, found: dict[str, Number]) -> None:
        number = self._value(slot, text, resolve)
        if slot.kind == "fixed":
            if number.value != slot.number:
                raise ValueError(f"{text!r}: only {slot.number} is possible there")
        elif slot.name in found and found[slot.name].value != number.value:
            raise ValueError(f"{text!r}: must be the same as before")
        else:
            found[slot.name] = number

    @staticmethod
    def _value(slot: Slot, text: str, resolve: Resolver) -> Number:
        low = text.lower()
        prefix = _PREFIX.get(slot.kind)
        if prefix:
            name = re.fullmatch(rf"{prefix}(\d+)", low)
            if name:
                return Number(int(name[1]))
            if low == "sp" and prefix == "r":
                return Number(1)
            if re.fullmatch(r"(r|f|v|cr)\d+", low):
                raise ValueError(f"{text!r}: a register {prefix}N is needed")
        if slot.kind == "spr" and low in spr_numbers():
            return Number(spr_numbers()[low])
        if slot.kind in ("crf", "crbit"):
            return evaluate(low, lambda name: _CR_NAMES[name] if name in _CR_NAMES else resolve(name))
        return evaluate(text, resolve)
