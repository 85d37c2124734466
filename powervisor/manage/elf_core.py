"""ELF core files of a machine: a note with registers for each vCPU, and its RAM.

Notes are what Linux writes for processes on Power (struct elf_prstatus, elf_fpregset_t, elf_vrregset_t), which gdb
reads: pids are vCPU numbers from 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..isa.cores import Core
from ..isa.registers import MAS1

if TYPE_CHECKING:
    from ..hv.vcpu import Vcpu

_CORE, _PPC, _PPC64, _LINUX = 4, 20, 21, 3
_LOAD, _NOTE = 1, 4
_PRSTATUS, _FPREGSET, _VMX = 1, 2, 0x100
_RWX = 7
_ALIGN = 1 << 12
_GREGS = 48
_ORIGINAL_R3 = 34
_PLACES = (*range(32), 32, 33, 35, 36, 37, 38)
_NAMES = (*(f"r{n}" for n in range(32)), "pc", "msr", "ctr", "lr", "xer", "cr")
_DAR, _DSISR = 41, 42
"""Of pt_regs: DEAR and ESR are there on Book E."""
_ELF32 = struct.Struct(">16sHHIIIIIHHHHHH")
_ELF64 = struct.Struct(">16sHHIQQQIHHHHHH")
_SEGMENT32 = struct.Struct(">8I")
_SEGMENT64 = struct.Struct(">IIQQQQQQ")
_STATUS32 = struct.Struct(f">72x{_GREGS}I4x")
_STATUS64 = struct.Struct(f">112x{_GREGS}Q8x")
_PID_AT = {32: 24, 64: 32}
_MOST_SEGMENTS = 0xFFFE
MOST_32 = (1 << 32) - 1


class Segment(NamedTuple):
    """A run of RAM, and where programs see it; without translation that is its physical address."""

    ea: int
    pa: int
    length: int


def notes(vcpus: Sequence[Vcpu]) -> bytes:
    """The notes of vCPUs that stand still."""
    return b"".join(
        _note(kind, name, data) for vcpu in vcpus for kind, name, data in _registers(vcpu, vcpu.engine.core)
    )


def _registers(vcpu: Vcpu, core: Core) -> Iterable[tuple[int, bytes, bytes]]:
    gregs = [0] * _GREGS
    for place, name in zip(_PLACES, _NAMES, strict=True):
        gregs[place] = vcpu.regs[name]
    gregs[_ORIGINAL_R3], gregs[_DAR], gregs[_DSISR] = vcpu.regs["r3"], vcpu.regs["dear"], vcpu.regs["esr"]
    status = bytearray((_STATUS64 if core.bits == 64 else _STATUS32).pack(*gregs))
    struct.pack_into(">I", status, _PID_AT[core.bits], vcpu.index + 1)
    yield _PRSTATUS, b"CORE", bytes(status)
    yield _FPREGSET, b"CORE", struct.pack(">33Q", *(vcpu.regs[f"f{n}"] for n in range(32)), vcpu.regs["fpscr"])
    if "altivec" in core.categories:
        vectors = b"".join(vcpu.regs[f"v{n}"].to_bytes(16, "big") for n in range(32))
        last = bytes(12) + struct.pack(">I", vcpu.regs["vscr"]) + struct.pack(">I", vcpu.regs["vrsave"]) + bytes(12)
        yield _VMX, b"LINUX", vectors + last


def _note(kind: int, name: bytes, data: bytes) -> bytes:
    name += b"\0"
    head = struct.pack(">III", len(name), len(data), kind)
    return head + name + bytes(-len(name) % 4) + data + bytes(-len(data) % 4)


def head(core: Core, note: bytes, start: int, length: int, seen: Sequence[Segment] = ()) -> bytes:
    """Everything before RAM from `start`, `length` bytes of it; `seen` are parts of it as programs see them.

    Without those it is at its physical addresses. Raises ValueError where a file of this kind cannot hold so much.
    """
    wide = core.bits == 64
    segment_size = (_SEGMENT64 if wide else _SEGMENT32).size
    segments = list(seen) or [Segment(start, start, length)]
    if len(segments) > _MOST_SEGMENTS:
        raise ValueError(f"{len(segments)} mappings")
    header = _ELF64 if wide else _ELF32
    note_at = header.size + segment_size * (1 + len(segments))
    ram_at = -(-(note_at + len(note)) // _ALIGN) * _ALIGN
    if not wide and ram_at + start + length > MOST_32:
        raise ValueError(f"{length} bytes from 0x{start:x}")
    ident = b"\x7fELF" + bytes((2 if wide else 1, 2, 1, _LINUX)) + bytes(8)
    flags = 1 if wide else 0  # ELFv1: what addresses of functions mean to gdb
    data = bytearray(
        header.pack(
            ident,
            _CORE,
            _PPC64 if wide else _PPC,
            1,
            0,
            header.size,
            0,
            flags,
            header.size,
            segment_size,
            1 + len(segments),
            0,
            0,
            0,
        )  # fmt: skip
    )
    data += _segment(wide, _NOTE, note_at, 0, 0, len(note), 0)
    for ea, pa, size in segments:
        data += _segment(wide, _LOAD, ram_at + pa - start, ea, pa, size, _RWX)
    data += note
    return bytes(data.ljust(ram_at, b"\0"))


def _segment(wide: bool, kind: int, at: int, ea: int, pa: int, size: int, flags: int) -> bytes:
    align = 1 if kind == _LOAD else 4
    if wide:
        return _SEGMENT64.pack(kind, flags, at, ea, pa, size, size if kind == _LOAD else 0, align)
    return _SEGMENT32.pack(kind, at, ea & MOST_32, pa, size, size if kind == _LOAD else 0, flags, align)


def translated(vcpu: Vcpu, start: int, length: int) -> list[Segment]:
    """What the TLBs of a vCPU's core map of RAM now, in address space 0 of whoever runs there; the largest pages first.

    What another entry has shown at an effective address already is left out.
    """
    tlb, core = vcpu.state.tlb, vcpu.engine.core
    found: list[Segment] = []
    for entries, count in ((tlb.tlb1, core.tlb1_entries), (tlb.tlb0, core.tlb0_entries)):
        for n in range(count):
            entry = entries[n]
            if not int(entry.valid) or int(entry.mas1) & MAS1.TS:
                continue
            size, ea, pa = int(entry.mask) + 1, int(entry.ea), int(entry.pa)
            first, last = max(pa, start), min(pa + size, start + length)
            if first < last:
                found.append(Segment(ea + first - pa, first, last - first))
    found.sort(key=lambda one: -one.length)
    return list({one.ea: one for one in reversed(found)}.values())
