"""Which stencils a differential test has executed: every template of the translator's tables.

Handlers are called through counting ones, so that a stencil counts only when it did the work itself.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..isa.insn import Insn
from ..translate import translator
from ..translate.fusion import BITS, SENSES, Fused, fused_variants, is_compare
from ..translate.stencils import BACKWARD, FORWARD, OFF_PAGE, Variant, variants
from ..translate.tables import NO_TEMPLATES, InsnRow, Tables, Template
from ..vcpu.codemap import WORDS_PER_PAGE, CodePage
from . import place
from .sides import NativeSide, OracleSide

_HANDLER = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint32)
_STUB = struct.Struct("<HQH")
"""x86-64: movabs rax, address; jmp rax."""
_PLACES = {None: "", FORWARD: " forward", BACKWARD: " backward", OFF_PAGE: " off page"}


@dataclass(frozen=True)
class Stencil:
    """A template and what it is for."""

    address: int
    insn: Insn
    variant: Variant
    fused: Fused | None
    wide: bool

    def __str__(self) -> str:
        fixed = "".join(f" {name}={value}" for name, value in self.variant.fixed)
        fixed += "".join(f" {name}!=0" for name in sorted(self.variant.nonzero))
        if self.variant.cached is not None:
            fixed += f" {self.variant.cached} in x"
        where = _PLACES[self.fused.where if self.fused else self.variant.where]
        pair = f" + bc {BITS[self.fused.bit]} bo={SENSES[self.fused.sense & 1]}" if self.fused else ""
        return f"{self.insn.name}{fixed}{pair}{where} {64 if self.wide else 32}-bit"


class StencilCoverage:
    """Watches a native side; `executed` are addresses of templates that ran, `all` the stencils there are."""

    def __init__(self, native: NativeSide) -> None:
        self.native = native
        self.tables = Tables.at(native.engine.symbols["tables"])
        self.rows: dict[tuple[str, int], Any] = {}
        self.all: dict[int, Stencil] = {}
        self.executed: set[int] = set()
        self.calls: set[int] = set()
        self._keep: list[Any] = []
        self._undo: list[tuple[Any, int]] = []
        self._hot = int(native.vm.hot_after), int(native.vm.hot_at_once)
        native.vm.hot_after = native.vm.hot_at_once = 0  # a region would do their work
        by_match = {(entry.mask, entry.match): entry for entry in native.table}
        for number in range(1, int(self.tables.row_count)):
            row = InsnRow.at(int(self.tables.rows) + number * InsnRow.size)
            entry = by_match[int(row.mask), int(row.match)]
            self.rows[entry.name, entry.match] = row
            self._count_calls(row)
            for stencil in self._stencils(entry, row):
                self.all[stencil.address] = stencil
        native.engine.flush()

    def _count_calls(self, row: Any) -> None:
        original: Callable[[int, int], int] = _HANDLER(int(row.handler))

        def handler(cpu: int, word: int) -> int:
            self.calls.add(word)
            return original(cpu, word)

        wrapped = _HANDLER(handler)
        self._undo.append((row, int(row.handler)))
        self._keep += [original, wrapped]
        engine = self.native.engine
        where = engine.space.take(_STUB.size, 16)  # near the stencils, which call handlers at 32-bit distances
        ctypes.memmove(where, _STUB.pack(0xB848, ctypes.cast(wrapped, ctypes.c_void_p).value, 0xE0FF), _STUB.size)
        engine.image.used = engine.space.used
        row.handler = where

    def _stencils(self, entry: Insn, row: Any) -> Iterator[Stencil]:
        if int(row.templates) == NO_TEMPLATES:
            return
        for wide in (False, True):
            first = int(row.templates) + (int(row.mode_step) if wide else 0)
            for variant in variants(entry):
                yield from self._stencil(first + variant.index, entry, variant, None, wide)
            if int(row.fused) != NO_TEMPLATES and is_compare(entry):
                first = int(row.fused) + (int(row.fused_step) if wide else 0)
                for pair in fused_variants(entry):
                    yield from self._stencil(first + pair.index, entry, pair.first, pair, wide)

    def _stencil(self, number: int, entry: Insn, variant: Variant, pair: Fused | None, wide: bool) -> Iterator[Stencil]:
        address = int(self.tables.templates) + number * Template.size
        if int(Template.at(address).length):
            yield Stencil(address, entry, variant, pair, wide)

    def begin(self) -> None:
        """Before a case runs in translated blocks."""
        self.calls.clear()

    def end(self, oracle: OracleSide) -> None:
        """After it: note the stencils of the first block, but for those that called their word's handler."""
        if not oracle.executed:
            return
        _, _, mode, _, pc = oracle.executed[0]
        completed = {word for _, word, _, done, _ in oracle.executed if done}
        for address, word in self._translated(pc, mode):
            if address in self.all and word in completed and word not in self.calls:
                self.executed.add(address)

    def _translated(self, pc: int, mode: int) -> list[tuple[int, int]]:
        """Templates and words of the block at an address of the code area, by the translator itself, run by Python."""
        cpu, vm = self.native.cpu, self.native.vm
        chosen: list[tuple[int, int]] = []

        def emit(cpu: Any, template: Any, row: Any, word: int, *rest: Any) -> None:
            chosen.append((template.address, int(word)))

        page: Any = CodePage.new()
        ctypes.memmove(page.address, struct.pack("<Q", int(vm.miss_ladder)) * WORDS_PER_PAGE, WORDS_PER_PAGE * 8)
        page.pa = place.CODE_PA + (pc & place.CODE_SIZE - 1 & ~0xFFF)
        kept = int(vm.code_next), int(vm.code_end), int(cpu.mode), translator.emit
        cpu.mode, translator.emit = mode, emit
        try:
            translator.translate_block(cpu, page, (pc & 0xFFF) >> 2)
        finally:
            vm.code_next, vm.code_end, cpu.mode, translator.emit = kept
        return chosen

    def close(self) -> None:
        """Give the native side its handlers back."""
        for row, handler in self._undo:
            row.handler = handler
        self.native.vm.hot_after, self.native.vm.hot_at_once = self._hot
        self.native.engine.flush()

    def missing(self) -> list[Stencil]:
        """Stencils that never ran."""
        return [stencil for address, stencil in self.all.items() if address not in self.executed]
