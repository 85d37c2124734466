"""ELF executables for PowerPC, 32 and 64 bit, big-endian."""

from __future__ import annotations

import struct

from powervisor.boot.image import Image, Segment
from powervisor.errors import UserError, argument

MAGIC = b"\x7fELF"
_CLASS32, _CLASS64, _MSB = 1, 2, 2
_EXEC, _DYN = 2, 3
_PPC, _PPC64 = 20, 21
_PT_LOAD = 1
_TYPES = {1: "an object file that is not linked", 4: "a core dump"}
_MACHINES = {3: "x86", 8: "MIPS", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}

# Program headers as (header format, fields): type, offset, vaddr, paddr, filesz, memsz in ELF's order of each class.
_PHDR32, _PHDR64 = struct.Struct(">IIIIIIII"), struct.Struct(">IIQQQQQQ")
_SHDR64 = struct.Struct(">IIQQQQIIQQ")
KERNEL_BASES = {32: 0xC000_0000, 64: 0xC000_0000_0000_0000}
"""Where Linux is linked; images whose physical addresses are left virtual are moved down by this."""


def load(data: bytes, where: str, ram_size: int, bits: int) -> Image:
    """The ELF executable `data` for a core of `bits` bits. Raises UserError, naming `where`."""
    entry, headers, elf_bits = _headers(data, where)
    if elf_bits > bits:
        raise UserError(f"{where}: a 64-bit image, and the core is 32-bit; choose {argument('cpu')} e5500 or e6500")
    entry, toc = _function(data, entry) if elf_bits == 64 else (entry, 0)
    base = KERNEL_BASES[elf_bits]
    physical_entry = None
    segments = []
    for kind, offset, vaddr, paddr, filesz, memsz in headers:
        if kind != _PT_LOAD or memsz == 0:
            continue
        if offset + filesz > len(data):
            raise UserError(
                f"{where}: truncated ELF file, {offset + filesz} bytes expected and {len(data)} found; copy it again"
            )
        if filesz > memsz:
            raise UserError(f"{where}: broken ELF file, a segment has more bytes ({filesz}) than room ({memsz})")
        if paddr >= base and paddr + memsz > ram_size:
            paddr -= base
        if vaddr <= entry < vaddr + memsz:
            physical_entry = entry - vaddr + paddr
        segments.append(Segment(paddr, data[offset : offset + filesz], memsz))
    if not segments:
        raise UserError(f"{where}: ELF file has nothing to load (no PT_LOAD segment); link it as an executable")
    image = Image(where, entry if physical_entry is None else physical_entry, tuple(segments), elf_bits, toc)
    image.check_fits(ram_size)
    if not image.entry < ram_size:
        raise UserError(f"{where}: entry point 0x{image.entry:x} is in no segment; set it when linking (-e)")
    return image


def _function(data: bytes, entry: int) -> tuple[int, int]:
    """Code address and TOC pointer of `entry`: in the 64-bit ABI v1 it may name a descriptor in section .opd."""
    offset, size, count, names = struct.unpack_from(">Q10xHHH", data, 40)
    if size < _SHDR64.size or offset + size * count > len(data) or names >= count:
        return entry, 0
    sections = [_SHDR64.unpack_from(data, offset + size * i) for i in range(count)]
    for name, address, at, length in ((s[0], s[3], s[4], s[5]) for s in sections):
        start = sections[names][4] + name
        where = at + entry - address
        if data[start : start + 5] == b".opd\0" and 0 <= entry - address <= length - 16 and where + 16 <= len(data):
            code, toc = struct.unpack_from(">QQ", data, where)
            return code, toc
    return entry, 0


def _headers(data: bytes, where: str) -> tuple[int, list[tuple[int, int, int, int, int, int]], int]:
    """Entry, program headers (type, offset, vaddr, paddr, filesz, memsz) and word size."""
    if len(data) < 52:
        raise UserError(f"{where}: truncated ELF file ({len(data)} bytes); copy it again")
    if data[4] not in (_CLASS32, _CLASS64):
        raise UserError(f"{where}: broken ELF file, class {data[4]}")
    order = ">" if data[5] == _MSB else "<"
    kind, machine = struct.unpack_from(order + "HH", data, 16)
    if machine not in (_PPC, _PPC64):
        what = _MACHINES.get(machine, f"machine {machine}")
        raise UserError(f"{where}: an ELF file for {what}, not PowerPC; build it with a powerpc tool chain")
    if order == "<":
        raise UserError(f"{where}: a little-endian ELF file; these cores start big-endian, build it for powerpc")
    if kind not in (_EXEC, _DYN):
        raise UserError(f"{where}: {_TYPES.get(kind, f'ELF type {kind}')}; give a linked executable")
    wide = data[4] == _CLASS64
    if wide and len(data) < 64:
        raise UserError(f"{where}: truncated ELF file ({len(data)} bytes); copy it again")
    entry, phoff = struct.unpack_from(">QQ" if wide else ">II", data, 24)
    size, count = struct.unpack_from(">HH", data, 54 if wide else 42)
    layout = _PHDR64 if wide else _PHDR32
    if count and size < layout.size:
        raise UserError(f"{where}: broken ELF file, program headers of {size} bytes")
    if phoff + count * size > len(data):
        raise UserError(f"{where}: truncated ELF file, program headers end at {phoff + count * size}; copy it again")
    headers = []
    for at in range(phoff, phoff + count * size, size or 1):
        fields = layout.unpack_from(data, at)
        if wide:
            p_type, _, offset, vaddr, paddr, filesz, memsz, _ = fields
        else:
            p_type, offset, vaddr, paddr, filesz, memsz, _, _ = fields
        headers.append((p_type, offset, vaddr, paddr, filesz, memsz))
    return entry, headers, 64 if wide else 32
