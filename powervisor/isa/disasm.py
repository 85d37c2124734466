"""Words to assembly text, in GNU objdump's spelling, derived from the syntax strings of the entries.

A syntax string is the mnemonic, a space, and the operands separated by commas: `lwz rt,d(ra0)`. In the mnemonic
`{oe} {rc} {lk} {aa}` stand for the letter the field adds when it is 1 (`o . l a`). Operands are fields of the encoding,
printed as their names say:

    rt ra rb rs          r3            general register
    ra0 (or rb0 ...)     0, r3         the same field `ra` where 0 means the value zero, not r0
    frt fra frb frc frs  f1            floating-point register
    vrt vra vrb vrc vrs  v2            vector register
    bf bfa               cr1           CR field
    bt ba bb bi bc       4*cr1+eq, lt  CR bit
    d(ra0), ds(ra0)      -8(r1)        displacement and base
    target               0x1008        the field `li` or `bd`: relative to the instruction, or absolute when `aa` is 1
    spr                  srr0, 1021    special-purpose register by name where it has one
    anything else        -5            a number, signed or not as the field is

A digit in an operand's place is printed as it is (`tlbilx 1,ra0,rb`). FPSCR fields of mtfsfi, mtfsb0 ... are numbers:
name such fields otherwise (`bff`, `fbt`). An `Rc` field is named `rc` and is never an operand.
"""

from __future__ import annotations

from .aliases import aliases
from .insn import Insn, Table
from .syntax import CR_BITS, Alias, Operand, Slot, Syntax, parse_syntax, spr_names, unnamed_fields


def branch_field(entry: Insn) -> str:
    """The displacement field of a branch."""
    return "li" if "li" in entry.fields else "bd"


def target_of(entry: Insn, values: dict[str, int], pc: int, bits: int) -> int:
    """Where a branch goes."""
    base = 0 if values.get("aa") else pc
    return base + values[branch_field(entry)] & (1 << bits) - 1


def _spelled(slot: Slot, values: dict[str, int]) -> str:
    if slot.kind == "fixed":
        return str(slot.number)
    value = values[slot.name]
    match slot.kind:
        case "gpr":
            return f"r{value}"
        case "zero":
            return f"r{value}" if value else "0"
        case "fpr":
            return f"f{value}"
        case "vr":
            return f"v{value}"
        case "crf":
            return f"cr{value}"
        case "crbit":
            name = CR_BITS[value & 3]
            return f"4*cr{value >> 2}+{name}" if value >> 2 else name
        case "spr":
            return spr_names().get(value, str(value))
        case "target":
            return f"{value:#x}"
    return str(value)


def _operand(operand: Operand, values: dict[str, int]) -> str:
    first, *base = (_spelled(slot, values) for slot in operand.slots)
    return f"{first}({base[0]})" if base else first


def render(syntax: Syntax, values: dict[str, int]) -> str:
    """The text of a syntax with values for its slots and markers."""
    operands = ",".join(_operand(operand, values) for operand in syntax.operands)
    return f"{syntax.mnemonic(values)} {operands}".rstrip()


class Disassembler:
    """Text of instruction words, for one instruction set (a core's table, say) of `bits` wide addresses."""

    def __init__(self, table: Table, bits: int = 64) -> None:
        self.table, self.bits = table, bits
        self.aliases: dict[str, list[Alias]] = {}
        for alias in aliases(table):
            if alias.shown:
                self.aliases.setdefault(alias.entry.name, []).append(alias)

    def text(self, word: int, pc: int = 0) -> str:
        """One instruction; `.long` for a word that is none."""
        entry = self.table.decode(word)
        if entry is None:
            return f".long {word:#010x}"
        values = {name: int(value) for name, value in entry.operands(word).items()}
        # Bits that the core ignores are not in the text.
        note = "" if entry.encode(**values) == word else "  # reserved bits set"
        if "li" in values or "bd" in values:
            values["target"] = target_of(entry, values, pc, self.bits)
        for alias in self.aliases.get(entry.name, ()):
            bound = alias.match(values)
            if bound is not None:
                return render(alias.syntax, bound) + note
        text = render(parse_syntax(entry.syntax), values)
        extra = [str(values[name]) for name in unnamed_fields(entry)]
        while extra and extra[-1] == "0":
            extra.pop()
        if extra:
            text += ("," if parse_syntax(entry.syntax).operands else " ") + ",".join(extra)
        return text + note
