"""Which guest code was executed: blocks, for drcov files, and source lines by DWARF, for lcov.

A block is told when it is translated, which is when it is first executed. Blocks end after every branch meanwhile, and
nothing is compiled as a region, so that what is told was executed up to its last instruction, unless an interrupt came
between. Translations belong to physical pages: code that several processes share is told of the first one's addresses.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

from ..errors import UserError, argument
from ..hv.tracing import Event, Listening, TraceEvent
from ..machine import Machine
from .files import Path, create, finish
from .lcov import SourceLines, lcov
from .symbols import SymbolFile, Symbols, open_elf
from .text import key_lpid, key_pid

_BLOCK = struct.Struct("<IHH")
_UNKNOWN_SHIFT = 32
"""Blocks of no known file are in modules of 4 GiB: drcov's offsets have 32 bits."""
LCOV_SUFFIX = ".info"


class Block(NamedTuple):
    """`size` bytes of code from an effective address, in a process of a partition."""

    address: int
    size: int
    pid: int
    lpid: int


class _Module(NamedTuple):
    """Where a file's code is: a row of drcov's module table."""

    base: int
    end: int
    entry: int
    file: SymbolFile | None

    def holds(self, block: Block) -> bool:
        file = self.file
        mine = file is None or file.pid in (None, block.pid) and file.lpid in (None, block.lpid)
        return mine and self.base <= block.address < self.end

    @property
    def path(self) -> str:
        return f"[0x{self.base:x}]" if self.file is None else self.file.file


class Coverage:
    """Notes the code that a machine executes from now until `close`, which writes `files`.

    Files that end in .info are for lcov (genhtml), all others drcov's. `symbols` are the programs; those in lcov files
    need a line table (-g). Raises UserError.
    """

    def __init__(self, machine: Machine, files: Iterable[Path] = (), symbols: Symbols | None = None) -> None:
        self._where = argument("coverage")
        self._machine = machine
        programs = [] if symbols is None else symbols.files
        self._symbols = symbols or Symbols()
        names = [str(file) for file in files]
        self._modules = [module for program in programs for module in _modules(program)]
        self._sources: list[SourceLines] = []
        if any(name.endswith(LCOV_SUFFIX) for name in names):
            self._sources = _sources(programs, f"{self._where} {next(n for n in names if n.endswith(LCOV_SUFFIX))}")
        self._files = [create(name, self._where, not name.endswith(LCOV_SUFFIX)) for name in names]
        self._sizes: dict[tuple[int, int, int], int] = {}
        self._closed = False
        self._listening = Listening(self._hear, coverage=True)
        machine.vm.tracing.open(self._listening)

    def _hear(self, events: Sequence[Event]) -> None:
        sizes = self._sizes
        for event in events:
            if event.kind == TraceEvent.BLOCK:
                key = event.pc, key_pid(event.key), key_lpid(event.key)
                sizes[key] = max(event.detail, sizes.get(key, 0))

    @property
    def blocks(self) -> list[Block]:
        """What was executed so far, in order of addresses."""
        self._machine.vm.tracing.read()
        return [Block(address, size, pid, lpid) for (address, pid, lpid), size in sorted(self._sizes.items())]

    def covers(self, address: int) -> bool:
        """Whether the instruction at an effective address was executed, in any process."""
        return any(block.address <= address < block.address + block.size for block in self.blocks)

    def drcov(self) -> bytes:
        """The blocks as DynamoRIO's drcov writes them (version 2), for Lighthouse and its like."""
        modules = list(self._modules)
        rows: list[tuple[int, int, int]] = []
        for block in self.blocks:
            number = next((n for n, module in enumerate(modules) if module.holds(block)), None)
            if number is None:
                number, base = len(modules), block.address >> _UNKNOWN_SHIFT << _UNKNOWN_SHIFT
                modules.append(_Module(base, base + (1 << _UNKNOWN_SHIFT), 0, None))
            rows.append((block.address - modules[number].base, block.size, number))
        lines = ["DRCOV VERSION: 2", "DRCOV FLAVOR: powervisor", f"Module Table: version 2, count {len(modules)}"]
        lines.append("Columns: id, base, end, entry, path")
        lines += [
            f" {number}, 0x{m.base:016x}, 0x{m.end:016x}, 0x{m.entry:016x}, {m.path}"
            for number, m in enumerate(modules)
        ]
        lines.append(f"BB Table: {len(rows)} bbs")
        return "\n".join(lines).encode() + b"\n" + b"".join(_BLOCK.pack(*row) for row in rows)

    def lcov(self) -> str:
        """Lines and functions that were executed, as an lcov tracefile; counts are 1 or 0."""
        sources = self._sources or _sources(self._symbols.files, self._where)
        return "".join(lcov(source, self._ranges(source.file), self._symbols) for source in sources)

    def _ranges(self, file: SymbolFile) -> _Ranges:
        return _Ranges(
            (block.address, block.address + block.size)
            for block in self.blocks
            if file.pid in (None, block.pid) and file.lpid in (None, block.lpid)
        )

    def close(self) -> None:
        """Note what was executed until now, and write the files. Raises UserError when that fails."""
        if self._closed:
            return
        self._machine.vm.tracing.close(self._listening)
        for file in self._files:
            finish(file, self.lcov() if str(file.name).endswith(LCOV_SUFFIX) else self.drcov(), self._where)
        self._closed = True

    def __enter__(self) -> Coverage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Ranges:
    """A set of addresses as runs that do not touch."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in sorted(ranges):
            if self._ends and begin <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def touches(self, begin: int, end: int) -> bool:
        """Whether an address from `begin` on, before `end`, is in the set."""
        at = bisect_right(self._begins, end - 1) - 1
        return at >= 0 and self._ends[at] > begin


def _modules(file: SymbolFile) -> Iterable[_Module]:
    """Runs of a program's segments, which lie close together mostly."""
    elf = open_elf(file.file)
    try:
        loaded = [s.header for s in elf.iter_segments() if s.header["p_type"] == "PT_LOAD" and s.header["p_memsz"]]
        entry = elf.header["e_entry"]
    finally:
        elf.stream.close()
    found: list[tuple[int, int]] = []
    for segment in sorted(loaded, key=lambda segment: int(segment["p_vaddr"])):
        begin, end = segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"]
        if found and end - found[-1][0] < 1 << _UNKNOWN_SHIFT:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    for begin, end in found:
        yield _Module(begin + file.base, end + file.base, entry + file.base, file)


def _sources(programs: Iterable[SymbolFile], where: str) -> list[SourceLines]:
    """The line tables of programs; those without one are left out, but one must have one."""
    found = [lines for lines in map(SourceLines, programs) if lines]
    if not found:
        names = ", ".join(PurePath(program.file).name for program in programs) or "none was named"
        raise UserError(
            f"{where}: no program with a line table ({names}); compile with -g and name it: {argument('symbols')} FILE"
        )
    return found
