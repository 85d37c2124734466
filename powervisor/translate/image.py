"""The image of a core: runtime, tables and stencil templates, built by LLVM once and kept as bytes on disk.

An image is position-dependent: it is relocated for the address its CodeSpace got, which is nearly always the same, so
a later start reads one file and runs. The key covers this package's sources, the host CPU and llvmlite's version.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from ..native.struct import Struct
from .tables import MAX_SELECTORS, NO_TEMPLATES, SUBTABLE, InsnRow, SelectorRow, Tables, Template

MAGIC = b"pvimage1"


class Image:
    """What a CodeSpace holds after loading: symbols {name: address}, and where free space begins."""

    def __init__(self, symbols: dict[str, int], used: int) -> None:
        self.symbols, self.used = symbols, used


def cache_directory() -> Path | None:
    """Where built images are kept: $POWERVISOR_CACHE, else the XDG cache directory; None when it is not writable."""
    root = os.environ.get("POWERVISOR_CACHE")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "powervisor")
    path = Path(root) / "images"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path


def image_key(core: Core, base: int, natives: list[NativeFunction]) -> str:
    """Hash of everything an image depends on."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for room in ("native", "isa", "vcpu", "insns", "translate", "devices"):
        for path in sorted((root / room).glob("*.py")):
            if room != "devices" or path.name.startswith("mpic"):
                digest.update(path.read_bytes())
    for name in ("model name", "flags"):
        digest.update(_cpuinfo(name).encode())
    digest.update(f"{core.name} {base:#x} {sorted(f.name for f in natives)}".encode())
    return digest.hexdigest()[:32]


def _cpuinfo(name: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next((line for line in lines if line.startswith(name)), "")
    except OSError:
        return ""


def load_or_build(
    core: Core, space: CodeSpace, natives: list[NativeFunction], progress: Callable[[str], None] | None = None
) -> Image:
    """Put the core's image at the start of an empty CodeSpace; `natives` are compiled in and exported by name."""
    directory = cache_directory()
    path = directory / f"{core.name}-{image_key(core, space.base, natives)}.image" if directory is not None else None
    if path is not None:
        image = _read(path, space)
        if image is not None:
            return image
    if progress is not None:
        progress(f"building the {core.name} translator (once)")
    image = build(core, space, natives)
    if path is not None:
        _write(path, image, space)
    return image


def _read(path: Path, space: CodeSpace) -> Image | None:
    """Load a cached image; None when there is none or it is damaged."""
    try:
        with open(path, "rb") as file:
            head = file.read(8 + 16 + 32)
            if len(head) != 56 or head[:8] != MAGIC:
                return None
            names, size = struct.unpack_from("<QQ", head, 8)
            rest = file.read(names + size)
    except OSError:
        return None
    if len(rest) != names + size or hashlib.sha256(rest).digest() != head[24:]:
        return None
    ctypes.memmove(space.take(size), rest[names:], size)
    return Image(json.loads(rest[:names]), size)


def _write(path: Path, image: Image, space: CodeSpace) -> None:
    """Keep an image: a temporary file renamed, so that readers see all of it or nothing."""
    names = json.dumps(image.symbols).encode()
    data = ctypes.string_at(space.base, image.used)
    rest = names + data
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(MAGIC + struct.pack("<QQ", len(names), len(data)) + hashlib.sha256(rest).digest() + rest)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def build(core: Core, space: CodeSpace, natives: list[NativeFunction]) -> Image:
    """Compile the runtime and every stencil for a core and lay them out in a CodeSpace."""
    from ..insns import TABLE
    from ..native.elf import Object
    from ..native.llvm import Background, compile_object
    from .exports import EXPORTS
    from .fusion import fused_symbol, fused_variants, is_compare
    from .runtime import handler_symbol, runtime_ir
    from .stencils import HoleTable, selectors, variants
    from .templates import extract, stencil_ir, stencil_symbol

    table = TABLE.for_core(core.categories)
    holes = HoleTable()
    hot = [insn for insn in table if insn.hot]
    every = [v for insn in hot for v in variants(insn)]
    modes = (False, True) if core.bits == 64 else (False,)
    pairs = [pair for insn in table if is_compare(insn) for pair in fused_variants(insn)]
    branch = next((insn for insn in table if insn.name == "bc"), None)
    compiling = [Background(stencil_ir(every, pairs, branch, cm, holes, pseudo=not cm)) for cm in modes]
    text, exported = runtime_ir(table, holes, EXPORTS | {f.name: f for f in natives})
    runtime = Object(compile_object(text))
    symbols = runtime.load(space.take, lambda name: _no_symbol(name))

    templates: dict[str, Any] = {}
    for job in compiling:
        stencils = Object(job.result())
        placed: dict[int, int] = {}
        for section in stencils.sections.values():
            if not section.name.startswith((".s.", ".x.", ".text")):
                placed[section.index] = space.take(section.size, max(section.align, 16))
                ctypes.memmove(placed[section.index], section.data, len(section.data))
        by_symbol = {f".{stencil_symbol(v, cm)}": v.insn for cm in modes for v in every}
        by_symbol |= {f".{fused_symbol(pair, cm)}": pair.first.insn for cm in modes for pair in pairs}

        def constant(section: int, value: int, placed: dict[int, int] = placed) -> str:
            symbols[f"const.{placed[section] + value:x}"] = placed[section] + value
            return f"const.{placed[section] + value:x}"

        for section in stencils.executable():
            if section.name.startswith((".s.", ".x.")):
                templates[section.name[1:]] = extract(
                    section, by_symbol.get(section.name), constant, symbols.__contains__
                )

    def put(data: bytes | bytearray, align: int = 16) -> int:
        where = space.take(max(len(data), 1) + 8, align)
        ctypes.memmove(where, bytes(data), len(data))
        return where

    def template_bytes(data: Any) -> bytes:
        code = put(data.code)
        patches = put(b"".join(p.pack(symbols.__getitem__) for p in data.patches))
        return struct.pack("<QQHHI", code, patches, len(data.code), len(data.patches), int(data.has_cold))

    template_rows: list[bytes] = []
    rows = [bytearray(InsnRow.size)]
    _set(rows[0], InsnRow, handler=symbols["handler.undefined"], ends=1, templates=NO_TEMPLATES, fused=NO_TEMPLATES)
    maps: dict[bytes, int] = {}
    for insn in table:
        row = bytearray(InsnRow.size)
        conditional = insn.ends and "bo" in insn.fields
        relative = next((n for n in ("li", "bd") if n in insn.fields), None)
        _set(
            row, InsnRow, mask=insn.mask, match=insn.match, ends=2 if conditional else int(insn.ends),
            relative=int(relative is not None), needs_fp=int("fp" in insn.needs), needs_vec=int("altivec" in insn.needs),
            needs_exact=int("fp" in insn.needs), templates=NO_TEMPLATES, fused=NO_TEMPLATES, handler=symbols[handler_symbol(insn)],
            select=symbols[exported[f"select.{insn.select.name}"]] if insn.select is not None else 0,
        )  # fmt: skip
        if relative is not None:
            f = insn.fields[relative]
            _set(row, InsnRow, displacement=f.pieces[0].shift | f.width << 8 | f.scale << 16)
        if insn.hot:
            chosen = selectors(insn)
            if len(chosen) > MAX_SELECTORS:
                raise ValueError(f"{insn.name}: more than {MAX_SELECTORS} fields choose its stencil")
            # modes lie side by side: index * 2 + CM is not needed, each mode has a run of its own
            _set(row, InsnRow, templates=len(template_rows), selector_count=len(chosen), mode_step=len(list(variants(insn))))
            for cm in (False, True):
                for v in variants(insn):
                    data = templates.get(stencil_symbol(v, cm))
                    template_rows.append(template_bytes(data) if data is not None else bytes(Template.size))
            _set(row, InsnRow, fused=NO_TEMPLATES)
            if is_compare(insn):
                fused = list(fused_variants(insn))
                _set(row, InsnRow, fused=len(template_rows), fused_step=len(fused))
                for cm in (False, True):
                    for pair in fused:
                        data = templates.get(fused_symbol(pair, cm))
                        template_rows.append(template_bytes(data) if data is not None else bytes(Template.size))
            for n, s in enumerate(chosen):
                if s.map not in maps:
                    maps[s.map] = put(s.map)
                at = InsnRow.offset("selectors") + n * SelectorRow.size
                struct.pack_into("<QIBBH", row, at, maps[s.map], (1 << s.width) - 1, s.shift, s.radix, 0)
        rows.append(row)

    primary, subtables = decode_tables(list(table), rows)
    tables = bytearray(Tables.size)
    struct.pack_into("<64H", tables, 0, *primary)
    _set(
        tables, Tables, subtables=put(subtables), templates=put(b"".join(template_rows)), row_count=len(rows),
        rows=put(b"".join(rows)),
    )  # fmt: skip
    for name in ("site", "site_end", "goto_slot", "goto_far"):
        at = Tables.offset(name)
        tables[at : at + Template.size] = template_bytes(templates[f"x.{name}"])
    symbols = {name: symbols[symbol] for name, symbol in exported.items()} | {"run": symbols["rt.run"]} | {
        "tables": put(tables, 64),
        "miss_ladder": 0,
        "rt.miss": symbols["rt.miss"],
    }
    symbols["miss_ladder"], symbols["miss_step"] = miss_ladder(templates["x.miss"], symbols["rt.miss"], space)
    return Image(symbols, space.used)


def _no_symbol(name: str) -> int:
    raise KeyError(f"the runtime refers to {name}, which nothing defines")


def _set(buffer: bytearray, layout: type[Struct], **values: int) -> None:
    for name, value in values.items():
        field = layout.fields[name]
        buffer[field.offset : field.offset + field.type.size] = int(value).to_bytes(field.type.size, "little")


def decode_tables(entries: list[Any], rows: list[bytearray]) -> tuple[list[int], bytes]:
    """Primary table of 64 and subtables of 2048 row numbers; rows that may match the same word are chained."""
    primary = [0] * 64
    subtables: list[list[int]] = []
    numbered = sorted(enumerate(entries, 1), key=lambda pair: pair[1].mask.bit_count())
    for opcode in range(64):
        mine = [(n, e) for n, e in numbered if e.match >> 26 == opcode]
        if not mine:
            continue
        if all(e.mask & 0x7FF == 0 for _, e in mine):
            chain: tuple[int, ...] = ()
            for n, _ in mine:
                chain = (n, *chain)
            primary[opcode] = _chain(chain, rows, entries)
            continue
        table: list[tuple[int, ...]] = [()] * 2048
        for n, e in mine:
            mask, match = e.mask & 0x7FF, e.match & 0x7FF
            free = ~mask & 0x7FF
            sub = free
            while True:
                table[match | sub] = (n, *table[match | sub])
                if sub == 0:
                    break
                sub = (sub - 1) & free
        primary[opcode] = SUBTABLE | len(subtables)
        subtables.append([_chain(chain, rows, entries) for chain in table])
    return primary, b"".join(struct.pack("<2048H", *t) for t in subtables)


def _chain(chain: tuple[int, ...], rows: list[bytearray], entries: list[Any]) -> int:
    """First row of a chain of candidates, the most exact first; rows are copied where chains differ."""
    head = 0
    for n in reversed(chain):
        at = InsnRow.offset("next")
        current = int.from_bytes(rows[n][at : at + 2], "little")
        if current == head:
            head = n
            continue
        for m in range(len(entries) + 1, len(rows)):
            same = rows[m][:at] == rows[n][:at] and rows[m][at + 2 :] == rows[n][at + 2 :]
            if same and int.from_bytes(rows[m][at : at + 2], "little") == head:
                head = m
                break
        else:
            copy = bytearray(rows[n])
            copy[at : at + 2] = head.to_bytes(2, "little")
            rows.append(copy)
            head = len(rows) - 1
    return head


def miss_ladder(template: Any, target: int, space: CodeSpace) -> tuple[int, int]:
    """1024 stubs at equal distances, each telling its index to rt.miss."""
    from .tables import Kind, Source

    step = (len(template.code) + 15) & -16
    base = space.take(step * 1024, 64)
    for index in range(1024):
        code = bytearray(template.code)
        where = base + index * step
        for p in template.patches:
            value = (index if p.source == Source.INDEX else target) + p.addend
            if p.kind == Kind.REL32:
                value -= where + p.offset
            size = 8 if p.kind == Kind.ABS64 else 4
            code[p.offset : p.offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        ctypes.memmove(where, bytes(code), len(code))
    return base, step
