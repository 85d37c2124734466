"""Stencils out of LLVM's object file: template bytes, and relocations turned into patches."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from ..isa.insn import Insn
from ..native.compile import TAIL, Module
from ..native.elf import R_32, R_32S, R_64, R_PC32, R_PLT32, RelocationError, Section
from ..vcpu.state import Vcpu
from .edges import CONVENTION, SIGNATURE
from .fusion import Fused, FusedCompiler, fused_symbol
from .stencils import HoleTable, StencilCompiler, Variant, derived_symbol
from .tables import Kind, Source

_KINDS = {R_64: Kind.ABS64, R_32: Kind.ABS32, R_32S: Kind.ABS32, R_PC32: Kind.REL32, R_PLT32: Kind.REL32}
_SPECIAL = {
    "p.cia": Source.CIA, "p.count": Source.COUNT, "p.slot": Source.SLOT, "p.target": Source.TARGET,
    "p.mode": Source.MODE, "p.handler": Source.HANDLER, "p.word": Source.WORD, "p.index": Source.INDEX,
    "n.next": Source.NEXT, "n.cold": Source.COLD, "p.last": Source.LAST,
}  # fmt: skip
_FUNCTIONS = ("n.next", "n.cold", "rt.lookup", "rt.dispatch", "rt.miss", "p.handler")


@dataclass(frozen=True)
class PatchData:
    """A patch before it has an address; `function` names a derived function or a runtime symbol."""

    offset: int
    kind: int
    source: int
    pieces: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    sign: int = 0
    scale: int = 0
    addend: int = 0
    function: str = ""

    def pack(self, resolve: Callable[[str], int]) -> bytes:
        """The bytes of tables.Patch."""
        return struct.pack(
            "<HBBBBBBBBBBIqQ", self.offset, self.kind, self.source, *self.pieces, self.sign, self.scale, 0, 0,
            self.addend, resolve(self.function) if self.function else 0,
        )  # fmt: skip


@dataclass(frozen=True)
class TemplateData:
    """A stencil's bytes and patches."""

    code: bytes
    patches: tuple[PatchData, ...]

    @property
    def has_cold(self) -> bool:
        return any(p.source == Source.COLD for p in self.patches)


def pseudo_stencils() -> str:
    """Stencils that belong to no instruction: handler sites, block ends, the miss stub."""
    pc = Vcpu.offset("pc")

    def site(symbol: str, after: str) -> str:
        return f"""
define {CONVENTION} void @"{symbol}"{SIGNATURE} #3 section ".{symbol}" {{
  %ea = add i64 %page, ptrtoint (ptr @"p.cia" to i64)
  %low = and i64 %ea, 4294967295
  %modebit = and i64 %page, 1
  %narrow = icmp eq i64 %modebit, 0
  %pc = select i1 %narrow, i64 %low, i64 %ea
  %p = getelementptr i8, ptr %cpu, i64 {pc}
  store i64 %pc, ptr %p
  %r = call i32 @"p.handler"(ptr %cpu, i32 ptrtoint (ptr @"p.word" to i32))
{after}
}}
"""

    def leave(target: str, budget: str, x: str = "poison") -> str:
        return (
            f'  musttail call {CONVENTION} void @"{target}"(ptr %cpu, ptr %ctx, i64 {budget}, i64 %page, i64 {x})\n'
            "  ret void"
        )

    spent = '  %left = sub i64 %bud, ptrtoint (ptr @"p.count" to i64)\n'
    go_on = f"""  %z = icmp eq i32 %r, 0
  br i1 %z, label %next, label %gone, !prof !0
next:
  %g = getelementptr i8, ptr %cpu, i64 ptrtoint (ptr @"p.last" to i64)
  %h = getelementptr i8, ptr %g, i64 {Vcpu.offset("gpr")}
  %last = load i64, ptr %h
{leave("n.next", "%bud", "%last")}
gone:
{spent}{leave("rt.dispatch", "%left")}"""
    far = """  %ea = add i64 %page, ptrtoint (ptr @"p.target" to i64)
  %low = and i64 %ea, 4294967295
  %modebit = and i64 %page, 1
  %narrow = icmp eq i64 %modebit, 0
  %to = select i1 %narrow, i64 %low, i64 %ea
"""
    return (
        site("x.site", go_on)
        + site("x.site_end", spent + leave("rt.dispatch", "%left"))
        + f"""
define {CONVENTION} void @"x.goto_slot"{SIGNATURE} #3 section ".x.goto_slot" {{
{spent}  %f = load ptr, ptr @"p.slot"
  musttail call {CONVENTION} void %f(ptr %cpu, ptr %ctx, i64 %left, i64 %page, i64 poison)
  ret void
}}
define {CONVENTION} void @"x.goto_far"{SIGNATURE} #3 section ".x.goto_far" {{
{spent}{far}  musttail call {CONVENTION} void @"rt.lookup"(ptr %cpu, ptr %ctx, i64 %left, i64 %page, i64 %to)
  ret void
}}
define {CONVENTION} void @"x.miss"{SIGNATURE} #3 section ".x.miss" {{
  %i = add i64 0, ptrtoint (ptr @"p.index" to i64)
  musttail call {CONVENTION} void @"rt.miss"(ptr %cpu, ptr %ctx, i64 %bud, i64 %page, i64 %i)
  ret void
}}
"""
    )


def stencil_ir(
    chosen: list[Variant], pairs: list[Fused], branch: Insn | None, cm: bool, holes: HoleTable, pseudo: bool
) -> str:
    """IR of a set of stencils, each in a section of its own; `branch` is the bc of the fused pairs."""
    module, names = Module(), {"p.cia", "p.count", "p.slot", "p.target", "p.word", "p.index", "p.last"}
    parts = [StencilCompiler(module, holes, v, cm, names).stencil(stencil_symbol(v, cm)) for v in chosen]
    if branch is not None:
        parts += [
            FusedCompiler(module, holes, pair, branch, cm, names).stencil(fused_symbol(pair, cm)) for pair in pairs
        ]
    if pseudo:
        parts.append(pseudo_stencils())
    for name in sorted(names - {"p.slot"}):
        # Not-negative values get the range that lets LLVM use 32-bit moves; ".wide" ones need all 64 bits, and words
        # that are computed from fields may have their highest bit set.
        signed = name in ("p.cia", "p.target") or name.split(".")[1] in _signed_fields(chosen)
        span = "!11" if name.endswith(".wide") else "!10" if signed else "!13" if name[0] == "d" else "!12"
        parts.append(f'@"{name}" = external global i8, !absolute_symbol {span}')
    parts.append('@"p.slot" = external dso_local global ptr')
    parts += [f'declare {CONVENTION} void @"{n}"(ptr, ptr, i64, i64, i64)' for n in _FUNCTIONS[:-1]]
    parts.append('declare i32 @"p.handler"(ptr, i32)')
    return (
        "\n".join([*parts, *sorted(module.declarations)])
        + TAIL
        + "!10 = !{i64 -2147483648, i64 2147483648}\n!11 = !{i64 -1, i64 -1}\n!12 = !{i64 0, i64 2147483648}\n"
        + "!13 = !{i64 0, i64 4294967296}\n"
        + 'attributes #3 = { nounwind optsize "no-builtins" "no-jump-tables"="true" }\n'
    )


def _signed_fields(chosen: list[Variant]) -> set[str]:
    return {name for v in chosen for name, f in v.insn.fields.items() if f.signed}


def stencil_symbol(variant: Variant, cm: bool) -> str:
    """Symbol of a stencil; unique to the instruction, the variant and the mode."""
    return f"s.{variant.insn.name}.{variant.insn.match:08x}.{variant.index}.{int(cm)}"


def extract(
    section: Section, insn: Insn | None, cm: bool, constants: Callable[[int, int], str], extern: Callable[[str], bool]
) -> TemplateData:
    """Template of a stencil's section; a trailing jump to what follows is cut off."""
    code, relocations = section.data, sorted(section.relocations, key=lambda r: r.offset)
    if relocations and relocations[-1].symbol == "n.next" and relocations[-1].offset == len(code) - 4:
        if code[-5] == 0xE9:  # jmp rel32
            code, relocations = code[:-5], relocations[:-1]
    patches = []
    for r in relocations:
        if r.kind not in _KINDS:
            raise RelocationError(f"{section.name}: relocation type {r.kind} of {r.symbol}")
        kind, addend, name = _KINDS[r.kind], r.addend, r.symbol
        if name in _SPECIAL:
            patches.append(PatchData(r.offset, kind, _SPECIAL[name], addend=addend))
        elif name.startswith("f."):
            assert insn is not None
            _, field_name, scale = name.split(".")
            f = insn.fields[field_name]
            pieces = f.pieces
            if len(pieces) > 2 or pieces[0].at:
                ordered = sorted(pieces, key=lambda p: p.at)
                if len(ordered) > 2:
                    raise RelocationError(f"{insn.name}: field {field_name} has more than two pieces")
                pieces = tuple(ordered)
            second = (pieces[1].shift, pieces[1].width, pieces[1].at) if len(pieces) > 1 else (0, 0, 0)
            patches.append(
                PatchData(
                    r.offset, kind, Source.FIELD, (pieces[0].shift, pieces[0].width, *second),
                    f.width if f.signed else 0, int(scale), addend,
                )
            )  # fmt: skip
        elif name.startswith("d."):
            parts = name.split(".")
            symbol = derived_symbol(int(parts[1]), cm)
            patch = PatchData(r.offset, kind, Source.DERIVED, (0,) * 5, 0, int(parts[2]), addend, symbol)
            patches.append(patch)
        elif r.section:
            where = constants(r.section, r.value)
            patches.append(PatchData(r.offset, kind, Source.CONSTANT, addend=addend, function=where))
        elif extern(name):
            patches.append(PatchData(r.offset, kind, Source.CONSTANT, addend=addend, function=name))
        else:
            raise RelocationError(f"{section.name}: symbol {name} is not known")
    return TemplateData(code, tuple(patches))
