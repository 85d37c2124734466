"""What the native translator reads: decode tables, stencil templates and their patches, as structs."""

from __future__ import annotations

from ..native.ints import i64, u8, u16, u32, u64
from ..native.struct import Array, Struct

MAX_SELECTORS = 4
SUBTABLE = 0x8000


class Patch(Struct):
    """One place of a template to fill in: `offset` in the code, how (`kind`), and from what (`source`).

    FIELD takes two pieces of the instruction word (width 0: none), sign-extends from `sign` bits when not 0, and
    shifts left by `scale`. DERIVED calls `function(word) -> u64` and shifts. Everything gets `addend` added.
    """

    offset: u16
    kind: u8
    source: u8
    shift: u8
    width: u8
    shift2: u8
    width2: u8
    at2: u8
    sign: u8
    scale: u8
    spare: u8
    spare32: u32
    addend: i64
    function: u64


class Kind:
    """Patch kinds."""

    ABS32 = 0
    ABS64 = 1
    REL32 = 2


class Source:
    """Patch sources."""

    FIELD = 0
    DERIVED = 1
    CONSTANT = 2  # `function` is the value
    NEXT = 3
    COLD = 4
    SLOT = 5
    CIA = 6
    COUNT = 7
    TARGET = 8
    MODE = 9
    HANDLER = 10
    WORD = 11
    INDEX = 12
    LAST = 13


class Template(Struct):
    """One stencil: its bytes and patches; length 0 where an instruction has no such stencil."""

    code: u64
    patches: u64
    length: u16
    patch_count: u16
    has_cold: u32


class SelectorRow(Struct):
    """A field that chooses the stencil: map[(word >> shift) & mask] is the index, 0xff the handler."""

    map: u64
    mask: u32
    shift: u8
    radix: u8
    spare: u16


MAX_SOURCES = 3
NO_FIELD = 0xFF
NO_GPR = 32
"""No GPR is in x."""


class InsnRow(Struct):
    """One entry of the instruction set as the translator sees it."""

    mask: u32
    match: u32
    next: u16  # the next row to try, 0: none
    selector_count: u8
    ends: u8
    relative: u8
    needs_fp: u8
    needs_vec: u8
    needs_exact: u8  # no stencil while FPSCR asks for the exact path
    source_count: u8  # GPR operands that may be in x, and where their fields are
    source_shift: Array[u8, MAX_SOURCES]
    destination_shift: u8  # where the field of the GPR is that the stencil leaves in x, or NO_FIELD
    templates: u32  # index of the first, NO_TEMPLATES without stencils
    mode_step: u32  # templates of CM=1 follow those of CM=0 at this distance
    fused: u32  # index of the first fused template, NO_TEMPLATES where the row is no compare
    fused_step: u32
    displacement: u32  # patch-like description of the branch displacement: shift, width, scale in bytes 0..2
    handler: u64
    select: u64
    selectors: Array[SelectorRow, MAX_SELECTORS]


NO_TEMPLATES = 0xFFFF_FFFF


class Tables(Struct):
    """Everything the translator needs to know, for one core model."""

    primary: Array[u16, 64]  # row, or SUBTABLE | subtable number
    subtables: u64  # u16[n][2048], indexed by the low 11 bits of the word
    rows: u64  # InsnRow[], row 0 is the undefined instruction
    templates: u64  # Template[]
    site: Template  # call the handler, go on with the next instruction
    site_end: Template  # call the handler, leave the block
    goto_slot: Template  # continue at an entry of this page
    goto_far: Template  # continue in another page
    row_count: u32
    spare: u32
