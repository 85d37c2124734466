"""The registers as a page: `python -m powervisor.vcpu.document > docs/registers.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from ..isa import registers
from ..isa.cores import CORES
from ..isa.registers import SPR, Register
from .sprs import GROUPS, LPIDS, WORD, Access, SprRow

_INTRODUCTION = f"""\
# Registers

Written by `python -m powervisor.vcpu.document` from `powervisor/vcpu/sprs.py` and `powervisor/isa/registers.py`; do not
edit.

gdb, the monitor, traces and the library use these names. *Reads* and *writes* are the privilege needed: user,
supervisor (a guest's too), hypervisor (MSR[GS]=0; a guest supervisor's access is an embedded hypervisor privilege
interrupt). Bits are numbered from 0, the most significant one, as in the manuals; LPIDs have {LPIDS.bit_length()} bits.
"""
_LEVELS = {"-": "", "u": "user", "s": "supervisor", "h": "hypervisor"}
_OTHERS = ("MSR", "FPSCR", "VSCR")
"""Registers with fields that are no SPRs."""
_LAID_OUT_AS = {"EPSC": "EPLC", "TLB0CFG": "TLBCFG", "TLB1CFG": "TLBCFG", "DBSRWR": "DBSR"}
"""SPRs whose fields another name has."""


def _cells(*texts: str) -> str:
    return "| " + " | ".join(texts) + " |\n"


def _cores_of(rows: Iterable[SprRow]) -> str:
    having = [name for name, core in CORES.items() if any(row.on(core) for row in rows)]
    return "all" if len(having) == len(CORES) else " ".join(having)


def _layout(name: str) -> type[Register] | None:
    """The class that names a register's fields."""
    found = getattr(registers, _LAID_OUT_AS.get(name, name), None)
    return found if isinstance(found, type) and issubclass(found, Register) else None


def _resets(rows: list[SprRow]) -> str:
    """Values after reset, by core where they differ."""
    number = rows[0].number
    values = {
        name: core.pvr if number == SPR.PVR else core.sprs.get(number, 0)
        for name, core in CORES.items()
        if any(row.on(core) for row in rows)
    }
    texts = {name: f"0x{value:x}" for name, value in values.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values())).replace("0x0", "")
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _notes(row: SprRow) -> str:
    flags = {
        Access.GUEST: f"for a guest G{row.name.removesuffix('U')}", Access.CLEAR: "write one to clear",
        Access.SHARED: "one for all threads of a core",
    }  # fmt: skip
    return ", ".join(text for flag, text in flags.items() if row.flags & flag)


def _group(title: str, rows: Iterable[SprRow]) -> Iterator[str]:
    yield f"\n## {title.capitalize()}\n\n"
    yield _cells("Register", "SPR", "Reads", "Writes", "Bits", "After reset", "Cores", "Notes") + _cells(*["---"] * 8)
    named: dict[str, list[SprRow]] = {}
    for row in rows:
        named.setdefault(row.name, []).append(row)
    for name, same in named.items():
        row = same[0]
        reads, writes = (_LEVELS[letter] for letter in row.access)
        shown = f"[{name}](#{_LAID_OUT_AS.get(name, name).lower()})" if _layout(name) else name
        wide = "64 or 32" if row.mask > WORD else "32"
        yield _cells(shown, str(row.number), reads, writes, wide, _resets(same), _cores_of(same), _notes(row))


def _bits(mask: int) -> str:
    """Bits of a 32-bit register by the manuals' numbers."""
    first, last = 32 - mask.bit_length(), 32 - (mask & -mask).bit_length()
    return str(first) if first == last else f"{first}-{last}"


def _fields(name: str, layout: type[Register]) -> Iterator[str]:
    text = " ".join((layout.__doc__ or "").split())
    yield f"\n### {name}\n\n{text}\n\n" + _cells("Bits", "Field", "Mask") + _cells(*["---"] * 3)
    for field, mask in sorted(layout.masks().items(), key=lambda one: -one[1]):
        yield _cells(_bits(mask), field, f"`0x{mask:08x}`")


def document() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for title, rows in GROUPS.items():
        parts += _group(title, rows)
    parts.append("\n## Fields\n\nOf registers with 64 bits, those of the lower half.\n")
    names = dict.fromkeys([*_OTHERS, *(_LAID_OUT_AS.get(r.name, r.name) for rows in GROUPS.values() for r in rows)])
    for name in names:
        if (layout := _layout(name)) is not None:
            parts += _fields(name, layout)
    return "".join(parts)


def main() -> None:
    """Print the page."""
    sys.stdout.write(document())


if __name__ == "__main__":
    main()
