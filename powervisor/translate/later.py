"""Handlers that a quick image gets only when a guest needs them: one that boots uses a tenth of the instruction set."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ..isa.insn import Insn
from ..native.codespace import CodeSpace
from ..native.elf import Object
from ..native.llvm import QUICK_PASSES, compile_object
from .runtime import handler_symbol, later_handlers_ir

EARLY = frozenset(
    """
    b bc bclr dcbst dcbt dcbtst dcbz dssall icbi isync lbz lbzu lbzx ld ldarx ldu ldx lfd lha lhbrx lhz lhzu lhzx
    lmw lvx lwa lwarx lwax lwbrx lwsync lwz lwzu lwzx mffs mfmsr mfspr mfvscr mtcrf mtfsf mtmsr mtspr mtvscr oris
    popcntd popcntw rfi rlwimi rlwinm sc stb stbu stbx std stdu stdx stfd sth sthbrx sthx stmw stvx stw stwbrx
    stwu stwux stwx sync tlbilx tlbivax tlbre tlbsx tlbsync tlbwe wrtee wrteei
    """.split()
)
"""What Linux, booting on the three cores, executes through handlers: the rest it does by stencils, or later."""
ROOM = 8 << 20
"""Bytes kept for them in the image."""
_STUB = bytes.fromhex("ff2502000000 0f0b")  # jmp [rip+2], to the address that follows


class LaterHandlers:
    """The handlers of some instructions: stubs which leave with ExitReason.HANDLER until they are compiled."""

    def __init__(self, space: CodeSpace, insns: Sequence[Insn], symbols: dict[str, int]) -> None:
        """Adds the stubs to `symbols`, which are those of the runtime."""
        self.waiting, self._slots = list(insns), {}
        """The instructions without a handler."""
        missing = symbols["handler.missing"]
        for insn in insns:
            stub = space.take(16)
            ctypes.memmove(stub, _STUB + missing.to_bytes(8, "little"), 16)
            self._slots[insn] = ctypes.c_uint64.from_address(stub + 8)
            symbols[handler_symbol(insn)] = stub
        self._symbols = symbols
        self._next = space.take(ROOM, 4096)
        self._end = self._next + ROOM

    def compile(self, word: int) -> None:
        """Compile the handler of a word, if that was not done meanwhile."""
        wanted = [insn for insn in self.waiting if word & insn.mask == insn.match]
        if not wanted:
            return
        self.waiting = [insn for insn in self.waiting if insn not in wanted]
        stubs = {handler_symbol(insn) for insn in wanted}
        known = self._symbols.keys() - stubs
        code = compile_object(later_handlers_ir(wanted, known), 0, QUICK_PASSES)
        found = Object(code).load(self._take, self._symbols.__getitem__)
        self._symbols |= {name: address for name, address in found.items() if name not in stubs}
        for insn in wanted:
            self._slots[insn].value = found[handler_symbol(insn)]

    def _take(self, size: int, align: int) -> int:
        start = (self._next + align - 1) & -align
        if start + size > self._end:
            raise MemoryError("no room for the handlers of a quick image")
        self._next = start + size
        return start
