"""The instruction set as a page: `python -m powervisor.isa.document > docs/instructions.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from .aliases import aliases, regular_families
from .cores import CORES
from .insn import FORM_FIELDS, Insn, Table

_INTRODUCTION = """\
# Instructions

Written by `python -m powervisor.isa.document` from the entries in `powervisor/insns`; do not edit.

{count} entries. Braces in a mnemonic are optional letters: {letters}. An operand `ra0` is the
register field `ra` where 0 means the value zero, not r0. In an encoding, read from bit 0, a number alone is the
primary opcode, `266:9` nine bits holding 266, `si:s16` a signed field, `<<2` a scaled one, `sh[5]` a bit of a split
field, `/:5` bits that are ignored.

{cores}
"""


def _family_title(entry: Insn) -> str:
    """First sentence of the family's module text."""
    text = sys.modules[entry.function.body.__module__].__doc__ or entry.group
    return re.split(r"\.(?:\s|$)", " ".join(text.split()))[0]


def _cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"


def _cores_of(entry: Insn) -> str:
    having = [name for name, core in CORES.items() if entry.needs <= core.categories]
    return "all" if len(having) == len(CORES) else " ".join(having)


def _families(table: Table) -> Iterator[str]:
    groups: dict[str, list[Insn]] = {}
    for entry in table:
        groups.setdefault(entry.group, []).append(entry)
    for group, entries in groups.items():
        yield f"\n## {_family_title(entries[0])}\n\n`insns/{group}.py`\n\n"
        yield _cells("Instruction", "Name", "Encoding", "Cores") + _cells(*["---"] * 4)
        for entry in entries:
            yield _cells(f"`{entry.syntax}`", entry.summary, f"`{entry.encoding}`", _cores_of(entry))


def _extended(table: Table) -> Iterator[str]:
    yield "\n## Extended mnemonics\n\nThe assembler takes them; the disassembler prints those marked.\n\n"
    for text in regular_families():
        yield f"- {text}\n"
    yield "\n" + _cells("Mnemonic", "Stands for", "Printed") + _cells(*["---"] * 3)
    for alias in aliases(table, regular=False):
        yield _cells(f"`{alias.text}`", f"`{alias.meaning}`", "yes" if alias.shown else "")


def document(table: Table) -> str:
    """The page of an instruction set."""
    letters = ", ".join(f"`{{{name}}}` for `{letter}`" for name, letter in FORM_FIELDS.items())
    cores = "\n".join(f"- {core.name}: {core.summary}" for core in CORES.values())
    head = _INTRODUCTION.format(count=len(table), letters=letters, cores=cores)
    return head + "".join(_families(table)) + "".join(_extended(table))


def main() -> None:
    """Print the page."""
    from ..insns import TABLE

    sys.stdout.write(document(TABLE))


if __name__ == "__main__":
    main()
