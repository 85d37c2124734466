"""Names of addresses: the symbol tables of the guest's ELF files, and Linux's own lists."""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from ..errors import UserError, argument
from ..properties import NUMBER, parse, prop
from .symbol_map import elf_of_map, is_map

_FUNCTION, _LABEL, _LOCAL, _GLOBAL, _WEAK = 2, 0, 0, 1, 2
_KINDS = {_FUNCTION: 0, _LABEL: 1}
"""Symbols that name code, the better ones first."""
_BINDINGS = {_GLOBAL: 0, _WEAK: 1, _LOCAL: 2}
_EXECUTABLE = 4
"""SHF_EXECINSTR."""
_DESCRIPTORS = ".opd"
"""Where symbols of the 64-bit ABI v1 lead: to function descriptors, which hold the address of the code."""


@dataclass(frozen=True)
class SymbolFile:
    """An ELF file, and where it was loaded; or a list of symbols."""

    file: str = prop("", "an ELF file with symbols: vmlinux, a program; or System.map, /proc/kallsyms", required=True)
    base: int = prop(0, "added to its addresses, for what was not loaded where it was linked", NUMBER)
    pid: int | None = prop(None, "its names are for addresses of this PID (the register) only", NUMBER)
    lpid: int | None = prop(None, "its names are for addresses of this partition only", NUMBER)

    @classmethod
    def parse(cls, text: str) -> SymbolFile:
        """From `FILE[,base=N,...]` or `file=FILE,...`. Raises UserError."""
        if "=" not in text.split(",", 1)[0]:
            text = f"file={text}"
        return parse(cls, text, f"{argument('symbols')} {text}")


class Symbol(NamedTuple):
    """A function, or a label in code; `end` is the address after its last byte."""

    address: int
    end: int
    name: str


class _Module:
    """The symbols of one file, by address."""

    def __init__(self, file: SymbolFile) -> None:
        self.file = file
        self.symbols = _read(file)
        self._addresses = [symbol.address for symbol in self.symbols]

    def find(self, address: int) -> Symbol | None:
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address >= self.symbols[at].end:
            return None
        return self.symbols[at]


class Symbols:
    """Symbols of several files. Looking them up is quick; the first file that knows an address names it."""

    def __init__(self, files: Iterable[str | os.PathLike[str] | SymbolFile] = ()) -> None:
        """Files as `SymbolFile.parse` takes them. Raises UserError for what cannot be read or has no symbols."""
        parsed = [f if isinstance(f, SymbolFile) else SymbolFile.parse(os.fspath(f)) for f in files]
        self._modules = [_Module(file) for file in parsed]
        self._known: dict[tuple[int, int, int], Symbol | None] = {}

    @classmethod
    def of_programs(cls, paths: Iterable[str | os.PathLike[str]]) -> Symbols:
        """The symbols of those programs that have some: a uImage, say, never has."""
        return cls(file for file in (SymbolFile(os.fspath(path)) for path in paths) if has_symbols(file))

    def __bool__(self) -> bool:
        return bool(self._modules)

    @property
    def files(self) -> list[SymbolFile]:
        """The files, in order."""
        return [module.file for module in self._modules]

    def find(self, address: int, pid: int = 0, lpid: int = 0) -> Symbol | None:
        """The symbol whose code holds an address, seen by a process of a partition."""
        key = address, pid, lpid
        if key not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(self, address: int, pid: int, lpid: int) -> Symbol | None:
        for module in self._modules:
            file = module.file
            if file.pid in (None, pid) and file.lpid in (None, lpid) and (symbol := module.find(address)):
                return symbol
        return None

    def text(self, address: int, pid: int = 0, lpid: int = 0) -> str:
        """` <name+0x10>`, or nothing for an address without a name."""
        symbol = self.find(address, pid, lpid)
        if symbol is None:
            return ""
        offset = address - symbol.address
        return f" <{symbol.name}+0x{offset:x}>" if offset else f" <{symbol.name}>"

    def named(self, name: str) -> Symbol:
        """The symbol of a name. Raises UserError when there is none."""
        for module in self._modules:
            for symbol in module.symbols:
                if symbol.name == name:
                    return symbol
        import difflib

        names = {symbol.name for module in self._modules for symbol in module.symbols}
        near = difflib.get_close_matches(name, names, 3)
        remedy = (
            f"did you mean {' or '.join(near)}?" if near else f"name a file that has it: {argument('symbols')} FILE"
        )
        raise UserError(f"{name}: no such symbol; {remedy}")


def has_symbols(file: SymbolFile) -> bool:
    """Whether it is an ELF file with a symbol table that names code."""
    try:
        return bool(_read(file))
    except UserError:
        return False


def open_elf(path: str) -> Any:
    """The ELFFile of a path, to be closed with its stream; of a list of symbols, one with these. Raises UserError."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    stream: BinaryIO
    try:
        stream = open(path, "rb")
        if is_map(stream.peek()):
            with stream:
                stream = BytesIO(elf_of_map(stream.read(), path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return ELFFile(stream)
    except (ELFError, ValueError, KeyError):
        stream.close()
        raise UserError(
            f"{path}: not an ELF file; give the linked program with its symbols (vmlinux), or a System.map"
        ) from None


def _read(file: SymbolFile) -> list[Symbol]:
    from elftools.common.exceptions import ELFError

    elf = open_elf(file.file)
    try:
        found = list(_code_symbols(elf))
    except (ELFError, ValueError, KeyError, IndexError, struct.error) as error:
        raise UserError(f"{file.file}: broken ELF file ({error}); link it again") from None
    finally:
        elf.stream.close()
    if not found:
        raise UserError(f"{file.file}: has no symbols; give the file as it was before it was stripped")
    best: dict[int, tuple[tuple[int, int, str], int, int]] = {}
    for address, size, limit, rank in found:
        if address not in best or rank < best[address][0]:
            best[address] = rank, size, limit
    addresses = sorted(best)
    symbols = []
    for address, following in zip(addresses, [*addresses[1:], None], strict=True):
        (_, _, name), size, limit = best[address]
        end = address + size if size else min(limit, following or limit)
        symbols.append(Symbol(address + file.base, end + file.base, name))
    return symbols


def _code_symbols(elf: Any) -> Iterable[tuple[int, int, int, tuple[int, int, str]]]:
    """Address, size, end of the section and rank of each symbol that names code.

    Kernels have tens of thousands of symbols: the table is taken apart here, which takes a tenth of elftools' time.
    """
    table = elf.get_section_by_name(".symtab") or elf.get_section_by_name(".dynsym")
    if table is None:
        return
    descriptors = elf.get_section_by_name(_DESCRIPTORS)
    data, start = (descriptors.data(), descriptors["sh_addr"]) if descriptors is not None else (b"", 0)
    limits = {
        number: section["sh_addr"] + section["sh_size"]
        for number, section in enumerate(elf.iter_sections())
        if section["sh_flags"] & _EXECUTABLE and section["sh_size"]
    }
    descriptor_section = None if descriptors is None else elf.get_section_index(_DESCRIPTORS)
    ends = sorted(limits.values())
    names = elf.get_section(table["sh_link"]).data()
    for name_at, address, size, info, section in _rows(table.data(), elf.elfclass):
        kind, binding = info & 15, info >> 4
        if kind not in _KINDS or section not in limits and section != descriptor_section:
            continue
        name = names[name_at : names.index(0, name_at)].decode("utf-8", "replace").removeprefix(".")
        if not name or binding == _LOCAL and name[0] in "L$" and name[1:].isdigit():
            continue
        limit = limits.get(section)
        if limit is None:
            if not start <= address <= start + len(data) - 8:
                continue
            address = int.from_bytes(data[address - start : address - start + 8], "big")
            limit = next((end for end in ends if address < end), address)
        yield address, size if kind == _FUNCTION else 0, limit, (_KINDS[kind], _BINDINGS.get(binding, 3), name)


def _rows(data: bytes, bits: int) -> Iterable[tuple[int, int, int, int, int]]:
    """Offset of the name, value, size, type and binding, and section of each symbol."""
    if bits == 32:
        for name, value, size, info, _, section in struct.iter_unpack(">IIIBBH", data):
            yield name, value, size, info, section
    else:
        for name, info, _, section, value, size in struct.iter_unpack(">IBBHQQ", data):
            yield name, value, size, info, section


def files_help() -> list[tuple[str, str]]:
    """What can be said of a file of symbols."""
    from ..properties import listing

    return listing(SymbolFile)


__all__ = ["Symbol", "SymbolFile", "Symbols", "files_help", "open_elf"]
