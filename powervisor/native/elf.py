"""ELF relocatable objects for the host: read sections, place them, relocate. x86-64."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SHT_PROGBITS, SHT_RELA, SHT_NOBITS = 1, 4, 8
SHF_ALLOC, SHF_EXEC = 2, 4

R_64, R_PC32, R_PLT32, R_32, R_32S, R_PC64 = 1, 2, 4, 10, 11, 24


class RelocationError(Exception):
    """An object file this loader cannot place."""


@dataclass(frozen=True)
class Relocation:
    """One relocation: offset in its section, type, symbol and addend."""

    offset: int
    kind: int
    symbol: str
    section: int
    value: int
    addend: int


@dataclass
class Section:
    """One section that occupies memory."""

    index: int
    name: str
    data: bytes
    size: int
    align: int
    executable: bool
    relocations: list[Relocation]


class Object:
    """A relocatable object: its allocated sections and its symbols {name: (section index, value)}."""

    def __init__(self, image: bytes) -> None:
        """Raises RelocationError for what is no whole object file."""
        self.sections: dict[int, Section] = {}
        self.symbols: dict[str, tuple[int, int]] = {}
        try:
            self._read(image)
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise RelocationError(f"not a whole object file ({error})") from None

    def _read(self, image: bytes) -> None:
        shoff = struct.unpack_from("<Q", image, 40)[0]
        count, names_index = struct.unpack_from("<HH", image, 60)
        headers = [struct.unpack_from("<IIQQQQIIQQ", image, shoff + 64 * i) for i in range(count)]

        def text(table: int, offset: int) -> str:
            start = headers[table][4] + offset
            return image[start : image.index(b"\0", start)].decode()

        for index, header in enumerate(headers):
            name, kind, flags, _, offset, size, _, _, align, _ = header
            if kind in (SHT_PROGBITS, SHT_NOBITS) and flags & SHF_ALLOC and size:
                data = image[offset : offset + size] if kind == SHT_PROGBITS else b""
                if kind == SHT_PROGBITS and len(data) != size:
                    raise ValueError("a section ends early")
                if align & align - 1:
                    raise ValueError("an alignment that is no power of two")
                self.sections[index] = Section(
                    index, text(names_index, name), data, size, max(align, 1), bool(flags & SHF_EXEC), []
                )
        for header in headers:
            if header[1] != SHT_RELA or header[7] not in self.sections:
                continue
            symbols = headers[header[6]]
            for at in range(header[4], header[4] + header[5], 24):
                offset, info, addend = struct.unpack_from("<QQq", image, at)
                name, _, _, shndx, value, _ = struct.unpack_from("<IBBHQQ", image, symbols[4] + 24 * (info >> 32))
                if offset + (8 if info & 0xFFFFFFFF in (R_64, R_PC64) else 4) > self.sections[header[7]].size:
                    raise ValueError("a relocation outside its section")
                self.sections[header[7]].relocations.append(
                    Relocation(offset, info & 0xFFFFFFFF, text(symbols[6], name), shndx, value, addend)
                )
        for header in headers:
            if header[1] != 2:  # SHT_SYMTAB
                continue
            for at in range(header[4] + 24, header[4] + header[5], 24):
                name, _, _, shndx, value, _ = struct.unpack_from("<IBBHQQ", image, at)
                if name and shndx in self.sections:
                    self.symbols[text(header[6], name)] = (shndx, value)

    def executable(self) -> Iterator[Section]:
        """Sections of code."""
        return (section for section in self.sections.values() if section.executable)

    def load(self, place: Callable[[int, int], int], resolve: Callable[[str], int]) -> dict[str, int]:
        """Copy every section where `place(size, align)` says, relocate, return symbol addresses."""
        at: dict[int, int] = {}
        for section in self.sections.values():
            at[section.index] = place(section.size, max(section.align, 16))
            if section.data:
                ctypes.memmove(at[section.index], section.data, section.size)
            else:
                ctypes.memset(at[section.index], 0, section.size)
        for section in self.sections.values():
            for r in section.relocations:
                base = at[r.section] + r.value if r.section in at else resolve(r.symbol)
                relocate(at[section.index] + r.offset, r.kind, base + r.addend)
        return {name: at[section] + value for name, (section, value) in self.symbols.items()}


def relocate(where: int, kind: int, target: int) -> None:
    """Apply one relocation in memory; `target` is symbol plus addend."""
    if kind in (R_PC32, R_PLT32):
        target -= where
    elif kind == R_64:
        ctypes.c_uint64.from_address(where).value = target
        return
    elif kind == R_PC64:
        ctypes.c_int64.from_address(where).value = target - where
        return
    elif kind == R_32:
        if not 0 <= target < 1 << 32:
            raise RelocationError(f"{target:#x} does not fit an unsigned 32-bit relocation")
        ctypes.c_uint32.from_address(where).value = target
        return
    elif kind != R_32S:
        raise RelocationError(f"relocation type {kind} is not known")
    if not -(1 << 31) <= target < 1 << 31:
        raise RelocationError(f"{target:#x} does not fit a signed 32-bit relocation")
    ctypes.c_int32.from_address(where).value = target
