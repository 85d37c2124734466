"""A linker for the built-in guest: one PowerPC object (ELF32, big-endian) and assembled code to one executable."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS = 1, 2, 3, 4, 8
SHF_WRITE, SHF_ALLOC, SHF_EXEC = 1, 2, 4
ET_EXEC, EM_PPC, PT_LOAD, PF_RWX = 2, 20, 1, 7
SHN_UNDEF = 0
PAGE_SIZE = 4096

EHDR = struct.Struct(">16sHHIIIIIHHHHHH")
PHDR = struct.Struct(">IIIIIIII")
SHDR = struct.Struct(">IIIIIIIIII")
SYM = struct.Struct(">IIIBBH")
RELA = struct.Struct(">IIi")
IDENT = b"\x7fELF\x01\x02\x01".ljust(16, b"\0")


class LinkError(Exception):
    """An object this linker cannot place; the message names symbol and relocation."""


def _signed(value: int, bits: int) -> int:
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{value:#x} does not fit {bits} bits")
    return value


# How a relocation changes the 32-bit word or halfword it is in: size, and (old, target, place) to new.
RELOCATIONS: dict[int, tuple[str, int, Callable[[int, int, int], int]]] = {
    1: ("R_PPC_ADDR32", 4, lambda old, target, place: target & 0xFFFF_FFFF),
    3: ("R_PPC_ADDR16", 2, lambda old, target, place: _signed(target, 17) & 0xFFFF),
    4: ("R_PPC_ADDR16_LO", 2, lambda old, target, place: target & 0xFFFF),
    5: ("R_PPC_ADDR16_HI", 2, lambda old, target, place: target >> 16 & 0xFFFF),
    6: ("R_PPC_ADDR16_HA", 2, lambda old, target, place: target + 0x8000 >> 16 & 0xFFFF),
    10: ("R_PPC_REL24", 4, lambda old, target, place: old & ~0x3FF_FFFC | _signed(target - place, 26) & 0x3FF_FFFC),
    26: ("R_PPC_REL32", 4, lambda old, target, place: target - place & 0xFFFF_FFFF),
}


@dataclass
class Section:
    """An allocated section; `relocations` are (offset, type, symbol index, addend)."""

    name: str
    data: bytes
    size: int
    align: int
    flags: int
    relocations: list[tuple[int, int, int, int]] = field(default_factory=list)
    address: int = 0


def _kind(section: Section) -> tuple[bool, bool]:
    return not section.data, not section.flags & SHF_EXEC


class Object:
    """A relocatable object, and where its sections are once `place` has been called."""

    def __init__(self, image: bytes) -> None:
        header = EHDR.unpack_from(image)
        if header[0][:7] != IDENT[:7] or header[2] != EM_PPC:
            raise LinkError("not a 32-bit big-endian PowerPC object")
        headers = [SHDR.unpack_from(image, header[6] + SHDR.size * n) for n in range(header[12])]
        names = headers[header[13]]

        def string(table: tuple[int, ...], offset: int) -> str:
            start = table[4] + offset
            return image[start : image.index(b"\0", start)].decode()

        self.sections: dict[int, Section] = {}
        self.symbols: list[tuple[str, int, int]] = []
        for index, (name, kind, flags, _, offset, size, _, _, align, _) in enumerate(headers):
            if flags & SHF_ALLOC and size:
                data = image[offset : offset + size] if kind != SHT_NOBITS else b""
                self.sections[index] = Section(string(names, name), data, size, max(align, 1), flags)
        for _, kind, _, _, offset, size, link, info, _, _ in headers:
            if kind == SHT_SYMTAB:
                for at in range(offset, offset + size, SYM.size):
                    name, value, _, _, _, section = SYM.unpack_from(image, at)
                    self.symbols.append((string(headers[link], name), value, section))
            elif kind == SHT_RELA and info in self.sections:
                for at in range(offset, offset + size, RELA.size):
                    where, what, addend = RELA.unpack_from(image, at)
                    self.sections[info].relocations.append((where, what & 0xFF, what >> 8, addend))

    def place(self, base: int) -> int:
        """Give every section an address: code, data, then zeros, each on pages of their own; returns where they end.

        Writing to a page that holds code would make a translator look at the code again.
        """
        at = base
        kind = None
        for section in sorted(self.sections.values(), key=_kind):
            align = section.align if _kind(section) == kind else max(section.align, PAGE_SIZE)
            kind = _kind(section)
            at = -(-at // align) * align
            section.address = at
            at += section.size
        return at

    def addresses(self) -> dict[str, int]:
        """Addresses of the symbols defined here."""
        return {name: self.sections[section].address + value
                for name, value, section in self.symbols if name and section in self.sections}  # fmt: skip

    def relocated(self, section: Section, others: Mapping[str, int]) -> bytes:
        """A section's bytes with its relocations applied; `others` has the symbols defined elsewhere."""
        data = bytearray(section.data)
        for where, kind, index, addend in section.relocations:
            name, value, home = self.symbols[index]
            if kind not in RELOCATIONS:
                raise LinkError(f"{name}: relocation type {kind} is not known")
            if home in self.sections:
                value += self.sections[home].address
            elif home != SHN_UNDEF or name not in others:
                raise LinkError(f"{name} is not defined")
            else:
                value = others[name]
            label, size, change = RELOCATIONS[kind]
            old = int.from_bytes(data[where : where + size], "big")
            try:
                new = change(old, value + addend, section.address + where)
            except ValueError as error:
                raise LinkError(f"{name}: {label}: {error}") from None
            data[where : where + size] = new.to_bytes(size, "big")
        return bytes(data)


def executable(entry: int, base: int, data: bytes, end: int, symbols: Mapping[str, int]) -> bytes:
    """An ELF executable: `data` at address `base`, zeros from there to `end`, and symbols for debuggers."""
    strings, table = bytearray(b"\0"), bytearray(SYM.size)
    for name, value in sorted(symbols.items(), key=lambda item: item[1]):
        table += SYM.pack(len(strings), value, 0, 0x10, 0, 1)
        strings += name.encode() + b"\0"
    names = b"\0.text\0.bss\0.symtab\0.strtab\0"
    start = EHDR.size + PHDR.size
    start += -start % 16
    after = base + len(data)
    parts, at = [data, bytes(table), bytes(strings) + names], start
    offsets = []
    for part in parts:
        offsets.append(at)
        at += len(part) + -len(part) % 4
    headers = [
        (0,) * 10,
        (names.index(b".text"), SHT_PROGBITS, SHF_ALLOC | SHF_EXEC, base, offsets[0], len(data), 0, 0, 4, 0),
        (names.index(b".bss"), SHT_NOBITS, SHF_ALLOC | SHF_WRITE, after, offsets[1], end - after, 0, 0, 1, 0),
        (names.index(b".symtab"), SHT_SYMTAB, 0, 0, offsets[1], len(table), 4, 1, 4, SYM.size),
        (names.index(b".strtab"), SHT_STRTAB, 0, 0, offsets[2], len(strings) + len(names), 0, 0, 1, 0),
    ]
    headers = [(h[0] + len(strings) if n else 0, *h[1:]) for n, h in enumerate(headers)]
    out = EHDR.pack(IDENT, ET_EXEC, EM_PPC, 1, entry, EHDR.size, at, 0, EHDR.size, PHDR.size, 1, SHDR.size,
                    len(headers), len(headers) - 1)  # fmt: skip
    out += PHDR.pack(PT_LOAD, start, base, base, len(data), end - base, PF_RWX, 16)
    for offset, part in zip(offsets, parts, strict=True):
        out = out.ljust(offset, b"\0") + part
    return out.ljust(at, b"\0") + b"".join(SHDR.pack(*header) for header in headers)
