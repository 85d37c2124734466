"""Source lines of programs by DWARF, and lcov's tracefiles."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from ..errors import UserError
from .symbols import SymbolFile, Symbols, open_elf


class Executed(Protocol):
    """Addresses that were executed."""

    def touches(self, begin: int, end: int) -> bool:
        """Whether any from `begin` on, before `end`, was."""


class Line(NamedTuple):
    """A run of instructions of one source line."""

    begin: int
    end: int
    path: str
    number: int


class SourceLines:
    """The line table of a program; false when it has none."""

    def __init__(self, file: SymbolFile) -> None:
        from elftools.common.exceptions import DWARFError, ELFError

        self.file = file
        elf = open_elf(file.file)
        try:
            self.lines = sorted(_lines(elf, file.base)) if elf.has_dwarf_info() else []
        except (DWARFError, ELFError, KeyError, ValueError, IndexError, AttributeError) as error:
            raise UserError(
                f"{file.file}: its DWARF cannot be read ({error}); compile it again with -gdwarf-4"
            ) from None
        finally:
            elf.stream.close()

    def __bool__(self) -> bool:
        return bool(self.lines)


def _lines(elf: Any, base: int) -> Iterator[Line]:
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        top = unit.get_top_DIE()
        directory = _text(top.attributes["DW_AT_comp_dir"].value) if "DW_AT_comp_dir" in top.attributes else ""
        paths: dict[int, str] = {}
        before = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if before is not None and state.address > before.address and before.line:
                number = before.file
                if number not in paths:
                    paths[number] = _path(program, number, directory)
                yield Line(before.address + base, state.address + base, paths[number], before.line)
            before = None if state.end_sequence else state


def _path(program: Any, number: int, directory: str) -> str:
    """The path of a file of a line program: numbers count from 0 in DWARF 5, from 1 before."""
    header = program.header
    first = 0 if header["version"] >= 5 else 1
    file = header["file_entry"][number - first]
    index = file["dir_index"]
    if header["version"] >= 5:
        within = _text(header["include_directory"][index])
    else:
        within = _text(header["include_directory"][index - 1]) if index else ""
    return posixpath.normpath(posixpath.join(directory, within, _text(file["name"])))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def lcov(source: SourceLines, executed: Executed, symbols: Symbols) -> str:
    """A program's part of a tracefile."""
    hits: dict[str, dict[int, int]] = defaultdict(dict)
    functions: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for line in source.lines:
        hit = int(executed.touches(line.begin, line.end))
        lines = hits[line.path]
        lines[line.number] = max(hit, lines.get(line.number, 0))
        symbol = symbols.find(line.begin, source.file.pid or 0, source.file.lpid or 0)
        if symbol is not None and symbol.address == line.begin:
            functions[line.path].setdefault(symbol.name, (line.number, hit))
    return "".join(_record(path, hits[path], functions[path]) for path in sorted(hits))


def _record(path: str, hits: dict[int, int], functions: dict[str, tuple[int, int]]) -> str:
    def rows() -> Iterable[str]:
        yield "TN:"
        yield f"SF:{path}"
        ordered = sorted((number, name, hit) for name, (number, hit) in functions.items())
        yield from (f"FN:{number},{name}" for number, name, _ in ordered)
        yield from (f"FNDA:{hit},{name}" for _, name, hit in ordered)
        yield f"FNF:{len(ordered)}"
        yield f"FNH:{sum(hit for _, _, hit in ordered)}"
        yield from (f"DA:{number},{hit}" for number, hit in sorted(hits.items()))
        yield f"LF:{len(hits)}"
        yield f"LH:{sum(hits.values())}"
        yield "end_of_record"

    return "".join(f"{row}\n" for row in rows())
