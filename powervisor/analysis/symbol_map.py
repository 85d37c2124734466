"""Linux's lists of symbols, System.map and /proc/kallsyms, as ELF files that have nothing but these symbols."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from ..errors import UserError

_LINE = re.compile(rb"^([0-9a-f]{8}|[0-9a-f]{16}) ([A-Za-z?]) (\S+)(?:[ \t]+\[\S+\])?[ \t\r]*$", re.MULTILINE)
_SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS = 2, 3, 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_STT_OBJECT, _STT_FUNC = 1, 2
_STB_LOCAL, _STB_GLOBAL, _STB_WEAK = 0, 1, 2
_EM_PPC, _EM_PPC64 = 20, 21
_MOST_SECTIONS = 0xFE00
"""Section numbers from 0xff00 on have meanings of their own."""


class _Entry(NamedTuple):
    """A symbol; `letter` is nm's, a capital for what other files may use."""

    address: int
    letter: str
    name: str

    @property
    def code(self) -> bool:
        """Whether it names code. Of weak ones lists of kernels do not say."""
        return self.letter in "tTwW"

    @property
    def info(self) -> int:
        """Binding and type as ELF has them."""
        binding = _STB_WEAK if self.letter in "wWvV" else _STB_GLOBAL if self.letter.isupper() else _STB_LOCAL
        return binding << 4 | (_STT_FUNC if self.code else _STT_OBJECT)


class _Section(NamedTuple):
    """A run of addresses whose symbols all name code, or none does."""

    start: int
    end: int
    code: bool
    entries: list[_Entry]


def is_map(data: bytes) -> bool:
    """Whether a file begins as such a list does."""
    return _LINE.match(data[:4096].split(b"\n", 1)[0]) is not None


def elf_of_map(data: bytes, where: str) -> bytes:
    """An ELF file with the symbols of a list, which gdb takes for a kernel's. Raises UserError, beginning with `where`.

    On 64-bit kernels functions are their code, not the descriptors of the same names.
    """
    bits, entries = _entries(data, where)
    return _Writer(bits).file(_sections(entries, where))


def _entries(data: bytes, where: str) -> tuple[int, list[_Entry]]:
    """Bits of addresses, and the symbols in order."""
    found = _LINE.findall(data)
    if not found:
        raise UserError(f"{where}: no list of symbols; give System.map or a copy of /proc/kallsyms")
    entries = [
        _Entry(int(address, 16), letter.decode(), name.decode("ascii", "replace"))
        for address, letter, name in found
        if letter not in b"aAU?"
    ]
    if not any(entry.address for entry in entries):
        raise UserError(f"{where}: all addresses are 0; copy /proc/kallsyms as root, with kernel.kptr_restrict=0")
    functions = {entry.name[1:] for entry in entries if entry.code and entry.name.startswith(".")}
    chosen = [
        entry._replace(name=entry.name.removeprefix(".")) if entry.code else entry
        for entry in entries
        if entry.code or entry.name not in functions  # else its descriptor
    ]
    return 4 * len(found[0][0]), sorted(chosen, key=lambda entry: entry.address)


def _sections(entries: list[_Entry], where: str) -> list[_Section]:
    runs = [(code, list(run)) for code, run in groupby(entries, lambda entry: entry.code)]
    if len(runs) > _MOST_SECTIONS:
        raise UserError(f"{where}: code and data alternate {len(runs)} times; leave the modules out")
    ends = [run[0].address for _, run in runs[1:]]
    return [
        _Section(run[0].address, end if end is not None else run[-1].address + 4, code, run)
        for (code, run), end in zip(runs, [*ends, None], strict=True)
    ]


class _Writer:
    """Writes big-endian ELF files of 32 or 64 bits."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        word = "Q" if bits == 64 else "I"
        self._header = struct.Struct(f">16sHHI3{word}I6H")
        self._section = struct.Struct(f">II4{word}II2{word}")

    def file(self, sections: list[_Section]) -> bytes:
        """The file: symbols, their names, names of sections, and the table of sections."""
        symbols, names = [self._symbol(0, 0, 0, 0, 0)], bytearray(1)
        ordered = sorted(self._described(sections), key=lambda one: bool(one[1].info >> 4))  # local ones come first
        for number, entry, size in ordered:
            symbols.append(self._symbol(len(names), entry.address, size, entry.info, number))
            names += entry.name.encode() + b"\0"
        titles = bytearray(1)
        rows = [(0,) * 10]

        def title(text: str) -> int:
            titles.extend(text.encode() + b"\0")
            return len(titles) - len(text) - 1

        for number, section in enumerate(sections, 1):
            flags = _SHF_ALLOC | (_SHF_EXECINSTR if section.code else _SHF_WRITE)
            name = title(f"{'.text' if section.code else '.data'}.{number}" if number > 1 else ".text")
            size = section.end - section.start
            rows.append((name, _SHT_NOBITS, flags, section.start, self._header.size, size, 0, 0, 4, 0))
        table, at = b"".join(symbols), self._header.size
        first_global = 1 + sum(not entry.info >> 4 for _, entry, _ in ordered)
        last = len(rows)
        rows.append((title(".symtab"), _SHT_SYMTAB, 0, 0, at, len(table), last + 1, first_global, 8, len(symbols[0])))
        at += len(table)
        rows.append((title(".strtab"), _SHT_STRTAB, 0, 0, at, len(names), 0, 0, 1, 0))
        at += len(names)
        own = title(".shstrtab")
        rows.append((own, _SHT_STRTAB, 0, 0, at, len(titles), 0, 0, 1, 0))
        at += len(titles)
        padding = bytes(-at % 8)
        identity = bytes([0x7F, *b"ELF", self._bits // 32, 2, 1])
        machine = _EM_PPC64 if self._bits == 64 else _EM_PPC
        start = next((section.start for section in sections if section.code), 0)
        header = self._header.pack(
            identity, 2, machine, 1, start, 0, at + len(padding), 1 if self._bits == 64 else 0, self._header.size, 0, 0,
            self._section.size, len(rows), len(rows) - 1,
        )  # fmt: skip
        return b"".join([header, table, names, titles, padding, *(self._section.pack(*row) for row in rows)])

    def _described(self, sections: list[_Section]) -> Iterable[tuple[int, _Entry, int]]:
        """The section's number and the size of each symbol: up to the next one."""
        for number, section in enumerate(sections, 1):
            addresses = sorted({entry.address for entry in section.entries})
            following = dict(zip(addresses, [*addresses[1:], section.end], strict=True))
            for entry in section.entries:
                yield number, entry, following[entry.address] - entry.address

    def _symbol(self, name: int, address: int, size: int, info: int, section: int) -> bytes:
        if self._bits == 64:
            return struct.pack(">IBBHQQ", name, info, 0, section, address, size)
        return struct.pack(">IIIBBH", name, address, size, info, 0, section)
