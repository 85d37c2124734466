"""Laying out an image: the runtime's object, stencil templates, decode tables, the miss ladder."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

from ..isa.cores import Core
from ..isa.insn import Insn
from ..native.codespace import CodeSpace
from ..native.elf import Object
from ..native.lang import NativeFunction
from ..native.llvm import QUICK_PASSES, STENCIL_PASSES, compile_object
from ..native.struct import Struct
from .exports import EXPORTS
from .fusion import fused_symbol, fused_variants, is_compare
from .later import EARLY, LaterHandlers
from .runtime import handler_symbol, runtime_ir
from .stencil_process import StencilProcess
from .stencil_set import StencilSet
from .stencils import destination, selectors, sources, variants
from .tables import (
    MAX_SELECTORS,
    MAX_SOURCES,
    NO_FIELD,
    NO_TEMPLATES,
    SUBTABLE,
    InsnRow,
    Kind,
    SelectorRow,
    Source,
    Tables,
    Template,
)
from .templates import TemplateData, extract, stencil_symbol
from .translator import BLOCK_LIMIT, BLOCK_SPACE

PSEUDO = ("site", "site_end", "goto_slot", "goto_far")
LADDER_STEPS = 1024


class Layout:
    """Builds one core's image into a CodeSpace; `symbols` are addresses by name."""

    def __init__(self, core: Core, space: CodeSpace, quick: bool = False) -> None:
        """`quick`: fewer stencils (see StencilSet), compiled the quick way."""
        self.space, self.quick = space, quick
        self.set = StencilSet(core, quick)
        self.table = self.set.table
        self.later: LaterHandlers | None = None
        """The handlers that a quick image gets when they are needed."""
        self.symbols: dict[str, int] = {}
        self.templates: dict[str, TemplateData] = {}
        self.template_rows: list[bytes] = []
        self.maps: dict[bytes, int] = {}

    def build(self, natives: dict[str, NativeFunction], stencils: list[StencilProcess]) -> dict[str, int]:
        """Compile and lay out everything; the addresses of what Python needs, by name."""
        level = 0 if self.quick else 1
        rare = [insn for insn in self.table if self.quick and insn.name not in EARLY]
        handlers, runtime, exported = runtime_ir(self.table, EXPORTS | natives, rare)
        passes = QUICK_PASSES if self.quick else STENCIL_PASSES
        code = compile_object(runtime, level, passes)
        self.symbols = Object(code).load(self.space.take, _no_symbol)
        code = compile_object(handlers, 0, passes)
        self.symbols |= Object(code).load(self.space.take, self.symbols.__getitem__)
        if rare:
            self.later = LaterHandlers(self.space, rare, self.symbols)
        for process in stencils:
            code, derived = process.result()
            self.symbols |= Object(derived).load(self.space.take, _no_symbol)
            self.take_templates(Object(code), process.cm)
        selects = {name: self.symbols[symbol] for name, symbol in exported.items()}
        rows = [bytearray(InsnRow.size)]
        undefined = self.symbols["handler.undefined"]
        set_fields(rows[0], InsnRow, handler=undefined, ends=1, templates=NO_TEMPLATES, fused=NO_TEMPLATES)
        rows += [self.row(insn, selects) for insn in self.table]
        largest = max(len(data.code) for data in self.templates.values())
        if (BLOCK_LIMIT + 2) * (largest + len(self.templates["x.site"].code) + 16) > BLOCK_SPACE:
            raise ValueError(f"a block of stencils of {largest} bytes may not fit translator.BLOCK_SPACE")
        result = {name: self.symbols[symbol] for name, symbol in exported.items()}
        result["run"] = self.symbols["rt.run"]
        result |= {name: self.symbols[name] for name in ("rt.lookup", "rt.once")}
        result["tables"] = self.put_tables(rows)
        result["miss_ladder"], result["miss_step"] = self.miss_ladder()
        return result

    def put(self, data: bytes | bytearray, align: int = 16) -> int:
        """Address of a copy of some bytes; what is read in words of 8 may be read past its end."""
        where = self.space.take(max(len(data), 1) + 8, align)
        ctypes.memmove(where, bytes(data), len(data))
        return where

    # ---- stencils --------------------------------------------------------------------------------------------------

    def take_templates(self, stencils: Object, cm: bool) -> None:
        """Templates of an object's stencils; constants the stencils refer to are placed in the image."""
        placed: dict[int, int] = {}
        for section in stencils.sections.values():
            if not section.name.startswith((".s.", ".x.", ".text")):
                placed[section.index] = self.space.take(section.size, max(section.align, 16))
                ctypes.memmove(placed[section.index], section.data, len(section.data))
        owners = {f".{stencil_symbol(v, cm)}": v.insn for v in self.set.every}
        owners |= {f".{fused_symbol(pair, cm)}": pair.first.insn for pair in self.set.pairs}

        def constant(section: int, value: int) -> str:
            name = f"const.{placed[section] + value:x}"
            self.symbols[name] = placed[section] + value
            return name

        for section in stencils.executable():
            if section.name.startswith((".s.", ".x.")):
                data = extract(section, owners.get(section.name), cm, constant, self.symbols.__contains__)
                self.templates[section.name[1:]] = data

    def template(self, symbol: str) -> bytes:
        """The bytes of tables.Template for a stencil; zeros where it does not exist."""
        data = self.templates.get(symbol)
        if data is None:
            return bytes(Template.size)
        patches = self.put(b"".join(p.pack(self.symbols.__getitem__) for p in data.patches))
        code = self.put(data.code)
        return struct.pack("<QQHHI", code, patches, len(data.code), len(data.patches), int(data.has_cold))

    def miss_ladder(self) -> tuple[int, int]:
        """Address of the stubs that tell their index to rt.miss, and the distance between two."""
        template, target = self.templates["x.miss"], self.symbols["rt.miss"]
        step = (len(template.code) + 15) & -16
        base = self.space.take(step * LADDER_STEPS, 64)
        for index in range(LADDER_STEPS):
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

    # ---- tables ----------------------------------------------------------------------------------------------------

    def run_of(self, symbols: Callable[[bool], list[str]]) -> int:
        """Index of the first of a run of templates: those of 32-bit mode, then those of 64-bit mode."""
        first = len(self.template_rows)
        for cm in (False, True):
            self.template_rows += [self.template(symbol) for symbol in symbols(cm)]
        return first

    def row(self, insn: Insn, selects: dict[str, int]) -> bytearray:
        """The bytes of tables.InsnRow for an entry."""
        row = bytearray(InsnRow.size)
        conditional = insn.ends and "bo" in insn.fields
        relative = next((name for name in ("li", "bd") if name in insn.fields), None)
        needs_fp = int("fp" in insn.needs)
        set_fields(
            row, InsnRow, mask=insn.mask, match=insn.match, ends=2 if conditional else int(insn.ends),
            relative=int(relative is not None), needs_fp=needs_fp, needs_exact=needs_fp,
            needs_vec=int("altivec" in insn.needs), templates=NO_TEMPLATES, fused=NO_TEMPLATES,
            handler=self.symbols[handler_symbol(insn)],
            select=selects[f"select.{insn.select.name}"] if insn.select is not None else 0,
        )  # fmt: skip
        if relative is not None:
            f = insn.fields[relative]
            set_fields(row, InsnRow, displacement=f.pieces[0].shift | f.width << 8 | f.scale << 16)
        if insn.hot:
            self.choose_stencils(insn, row)
        return row

    def choose_stencils(self, insn: Insn, row: bytearray) -> None:
        """Fill in where an entry's templates are and which fields choose among them."""
        chosen, own = selectors(insn), list(variants(insn))
        if len(chosen) > MAX_SELECTORS:
            raise ValueError(f"{insn.name}: more than {MAX_SELECTORS} fields choose its stencil")
        first = self.run_of(lambda cm: [stencil_symbol(self.set.serving(v), cm) for v in own])
        set_fields(row, InsnRow, templates=first, selector_count=len(chosen), mode_step=len(own))
        operands, result = sources(insn), destination(insn)
        if len(operands) > MAX_SOURCES:
            raise ValueError(f"{insn.name}: more than {MAX_SOURCES} GPR operands")
        at = InsnRow.offset("source_shift")
        row[at : at + len(operands)] = bytes(insn.fields[name].pieces[0].shift for name in operands)
        where = insn.fields[result].pieces[0].shift if result is not None else NO_FIELD
        set_fields(row, InsnRow, source_count=len(operands), destination_shift=where)
        if is_compare(insn) and not self.quick:
            pairs = list(fused_variants(insn))
            first = self.run_of(lambda cm: [fused_symbol(pair, cm) for pair in pairs])
            set_fields(row, InsnRow, fused=first, fused_step=len(pairs))
        for n, s in enumerate(chosen):
            if s.map not in self.maps:
                self.maps[s.map] = self.put(s.map)
            at = InsnRow.offset("selectors") + n * SelectorRow.size
            struct.pack_into("<QIBBH", row, at, self.maps[s.map], (1 << s.width) - 1, s.shift, s.radix, 0)

    def put_tables(self, rows: list[bytearray]) -> int:
        """Address of tables.Tables."""
        primary, subtables = decode_tables(list(self.table), rows)
        tables = bytearray(Tables.size)
        struct.pack_into("<64H", tables, 0, *primary)
        set_fields(
            tables, Tables, subtables=self.put(subtables), templates=self.put(b"".join(self.template_rows)),
            row_count=len(rows), rows=self.put(b"".join(rows)),
        )  # fmt: skip
        for name in PSEUDO:
            at = Tables.offset(name)
            tables[at : at + Template.size] = self.template(f"x.{name}")
        return self.put(tables, 64)


def _no_symbol(name: str) -> int:
    raise KeyError(f"the runtime refers to {name}, which nothing defines")


def set_fields(buffer: bytearray, layout: type[Struct], **values: int) -> None:
    """Write integer fields of a struct held as bytes."""
    for name, value in values.items():
        field = layout.fields[name]
        buffer[field.offset : field.offset + field.type.size] = int(value).to_bytes(field.type.size, "little")


def decode_tables(entries: list[Insn], rows: list[bytearray]) -> tuple[list[int], bytes]:
    """Primary table of 64 and subtables of 2048 row numbers; rows that may match the same word are chained."""
    primary = [0] * 64
    subtables: list[list[int]] = []
    numbered = sorted(enumerate(entries, 1), key=lambda pair: pair[1].mask.bit_count())
    for opcode in range(64):
        mine = [(n, e) for n, e in numbered if e.match >> 26 == opcode]
        if not mine:
            continue
        if all(e.mask & 0x7FF == 0 for _, e in mine):
            primary[opcode] = chain(tuple(n for n, _ in reversed(mine)), rows, len(entries))
            continue
        table: list[tuple[int, ...]] = [()] * 2048
        for n, e in mine:
            match, free = e.match & 0x7FF, ~e.mask & 0x7FF
            part = free
            while True:  # every value of the bits the encoding leaves free
                table[match | part] = (n, *table[match | part])
                if part == 0:
                    break
                part = (part - 1) & free
        primary[opcode] = SUBTABLE | len(subtables)
        subtables.append([chain(candidates, rows, len(entries)) for candidates in table])
    return primary, b"".join(struct.pack("<2048H", *t) for t in subtables)


def chain(candidates: tuple[int, ...], rows: list[bytearray], originals: int) -> int:
    """First row of a chain of candidates, the most exact first; rows are copied where chains differ."""
    head = 0
    at = InsnRow.offset("next")
    for n in reversed(candidates):
        current = int.from_bytes(rows[n][at : at + 2], "little")
        if current == head:
            head = n
            continue
        copy = bytearray(rows[n])
        copy[at : at + 2] = head.to_bytes(2, "little")
        known = next((m for m in range(originals + 1, len(rows)) if rows[m] == copy), None)
        if known is None:
            rows.append(copy)
            known = len(rows) - 1
        head = known
    return head
