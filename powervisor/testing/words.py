"""Random instruction words: fields whose values matter are chosen so that something happens.

Registers have roles, which `cases` fills accordingly: r1 to r12 numbers, r13 to r20 small offsets, r21 to r31 pointers
into the data pages.
"""

from __future__ import annotations

import random

from ..insns import TABLE
from ..isa.cores import Core
from ..isa.insn import Insn
from ..isa.registers import SPR, TMR
from ..vcpu.spr_access import Pmr
from ..vcpu.sprs import Access, access_table, rows
from . import place

NUMBERS, OFFSETS, POINTERS = range(1, 13), range(13, 21), range(21, 32)
MEMORY_GROUPS = frozenset("storage strings atomic cache external float_storage altivec_storage".split())
ADDRESSING = frozenset(("tlbsx", "tlbilx", "tlbivax"))
_BO_BRANCHES = (4, 6, 7, 12, 14, 15, 16, 18, 20, 24, 25, 26, 27)
_BO_LOOPS = (16, 24, 25)  # decrement CTR, branch if not zero
_DISPLACEMENTS = (0, 0, 1, 2, 3, 4, 6, 8, 12, 16, -1, -2, -4, -8, -16, 0xFF8, 0xFFC, 0x1000, -0x1000, 0x7FFF, -0x8000)

VECTOR_REGISTERS = frozenset(
    int(number) for name, number in vars(SPR).items() if name.startswith(("IVPR", "IVOR", "GIVPR", "GIVOR"))
)
"""Registers that a test must not write before it may be interrupted."""


def _entry(name: str) -> Insn:
    return next(entry for entry in TABLE if entry.name == name)


STOP = _entry("b").encode(li=place.STOP_EA, aa=1)
"""The word that ends a test: a branch to the page without memory."""
NOP = _entry("ori").encode()
ISYNC = _entry("isync").encode()
SYNC = _entry("sync").encode()


def accesses_memory(entry: Insn) -> bool:
    """Whether RA and RB of an entry make an effective address."""
    return entry.group in MEMORY_GROUPS or entry.name in ADDRESSING


class WordMaker:
    """Makes words for a core."""

    def __init__(self, core: Core, rng: random.Random) -> None:
        self.core, self.rng = core, rng
        self.begin()
        self.sprs = [row.number for row in rows(core)]
        self.access = access_table(core)
        self.writable = [n for n in self.sprs if n not in VECTOR_REGISTERS]
        self.pmrs = [
            base + n - user
            for user in (0, 16)
            for base, count in ((Pmr.PMC, 7), (Pmr.PMLCA, 7), (Pmr.PMLCB, 7), (Pmr.PMGC0, 1))
            for n in range(count)
        ]
        self.tmrs = [int(n) for name, n in vars(TMR).items() if name.isupper()]

    def begin(self) -> None:
        """Forget the register just used, on which the next word may depend."""
        self._recent = 3

    def word(self, entry: Insn, index: int = 0, length: int = 1, **fixed: int) -> int:
        """A word of an entry at an index of a block of `length` words; `fixed` fields are given, still scaled."""
        values = dict(fixed)
        if accesses_memory(entry):
            self._address(entry, values)
        for name, field in entry.fields.items():
            if name in values:
                continue
            if name in ("li", "bd"):
                values[name] = self._target(entry, values, index, length)
                continue
            values[name] = self._field(entry, name, field.width, field.signed, field.scale)
        return entry.encode(**values)

    def context_changing(self, entry: Insn, word: int) -> bool:
        """Whether the word writes a register whose effect needs an isync to be sure of."""
        return entry.name == "mtspr" and bool(self.access[int(entry.operands(word)["spr"])] & Access.EFFECT)

    def _address(self, entry: Insn, values: dict[str, int]) -> None:
        rng, fields = self.rng, entry.fields
        kind = rng.random()
        if "ra" in fields and "ra" not in values:
            values["ra"] = rng.choice(POINTERS) if kind < 0.85 else 0 if kind < 0.93 else rng.randrange(32)
        if "rb" in fields and "rb" not in values:
            if rng.random() < 0.05:
                values["rb"] = rng.randrange(32)
            else:
                indirect = values.get("ra", 0) in POINTERS and "decorat" not in (entry.summary or "").lower()
                values["rb"] = rng.choice(OFFSETS if indirect else POINTERS)
        if "d" in fields and "d" not in values:
            step = fields["d"].scale
            if values.get("ra") == 0 and rng.random() < 0.8:
                values["d"] = rng.randrange(0, 0x1000, 4)
                return
            d = rng.choice(_DISPLACEMENTS) if rng.random() < 0.6 else rng.randrange(-300, 300)
            values["d"] = d >> step << step

    def _field(self, entry: Insn, name: str, width: int, signed: bool, scale: int) -> int:
        rng = self.rng
        if name in ("rt", "rs", "ra", "rb") and width == 5:
            kind = rng.random()
            if kind < 0.2 and not accesses_memory(entry):
                return self._recent
            if kind < 0.8:
                self._recent = rng.choice(NUMBERS)
            else:
                self._recent = 0 if kind < 0.84 else rng.randrange(32)
            return self._recent
        if name[0] in "fv" and width == 5 and rng.random() < 0.5:
            return rng.randrange(6)
        if name == "bo":
            return rng.choice(_BO_BRANCHES) if rng.random() < 0.95 else rng.randrange(32)
        if name == "spr":
            return self._spr(entry.name == "mtspr")
        if name == "pmrn" and rng.random() < 0.9:
            return rng.choice(self.pmrs)
        if name == "tmr" and rng.random() < 0.9:
            return rng.choice(self.tmrs)
        if name == "tbr" and rng.random() < 0.9:
            return int(rng.choice((SPR.TBL, SPR.TBU)))
        if name == "fxm" and rng.random() < 0.7:
            return 1 << rng.randrange(8)
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        if rng.random() < 0.2:
            return rng.choice((low, low + 1, 0, 1 & high, high >> 1, high - 1, high)) << scale
        return rng.randint(low, high) << scale

    def _spr(self, write: bool) -> int:
        rng = self.rng
        number = rng.choice(self.writable if write else self.sprs) if rng.random() < 0.95 else rng.randrange(1024)
        return int(SPR.SPRG0) if write and number in VECTOR_REGISTERS else number

    def _target(self, entry: Insn, values: dict[str, int], index: int, length: int) -> int:
        """A displacement inside the block, backward only for loops that CTR ends; or an absolute address."""
        rng = self.rng
        if values.setdefault("aa", int(rng.random() < 0.05)):
            if "li" in entry.fields and rng.random() < 0.8:
                return place.STOP_EA
            return rng.randrange(-0x2000, 0x2000) << 2
        backward = "bd" in entry.fields and index > 0 and rng.random() < 0.35
        if backward and values.setdefault("bo", rng.choice(_BO_LOOPS)) in _BO_LOOPS:
            return -4 * rng.randint(1, min(index, 12))
        return 4 * rng.randint(1, max(1, min(length - index, 12)))
