"""Random cases of a differential test: a state, and words to execute in it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..insns import TABLE
from ..isa.cores import Core
from ..isa.insn import Insn
from ..isa.registers import DBCR0, EPCR, EPLC, FPSCR, HID0, MAS0, MAS1, MAS8, MSR, MSRP, SPR, TCR
from ..native.ints import u32
from ..native.lang import NativeFunction
from ..translate.fusion import Fused
from ..translate.stencils import BACKWARD, FORWARD, OFF_PAGE, Variant, value_groups
from ..vcpu.fpscr import READ_ONLY, summary
from ..vcpu.modes import STEP_EVENTS
from ..vcpu.sprs import all_fields, core_mask, rows
from ..vcpu.state import Vcpu
from . import place
from .place import CODE_SIZE, PAGE, PAGES, PLAIN, Layout
from .values import double, integer, vector
from .words import ISYNC, NOP, NUMBERS, OFFSETS, POINTERS, STOP, SYNC, WordMaker, accesses_memory

NEVER = (1 << 64) - 1
_FILLER = struct.pack(">I", STOP) * (CODE_SIZE // 4)
_POOL = random.Random(1).randbytes(3 * place.DATA_SIZE)


@dataclass
class Registers:
    """The registers of a state; SPRs not named have their reset values."""

    pc: int
    msr: int
    gpr: list[int]
    cr: list[int] = field(default_factory=lambda: [0] * 8)
    xer: tuple[int, int, int, int] = (0, 0, 0, 0)
    fpscr: int = 0
    vscr: int = 0
    fpr: list[int] = field(default_factory=lambda: [0] * 32)
    vr: list[int] = field(default_factory=lambda: [0] * 32)
    spr: dict[int, int] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)
    """Other 32-bit fields of Vcpu."""
    doublewords: dict[str, int] = field(default_factory=dict)

    def write(self, memory: memoryview) -> None:
        """Store them in the memory of a Vcpu that is in its reset state."""
        at = Vcpu.offset
        struct.pack_into("<32Q", memory, at("gpr"), *self.gpr)
        struct.pack_into("<32Q", memory, at("fpr"), *self.fpr)
        memory[at("vr") : at("vr") + 512] = b"".join([v.to_bytes(16, "little") for v in self.vr])
        memory[at("cr") : at("cr") + 8] = bytes(self.cr)
        struct.pack_into("<4B", memory, at("so"), *self.xer)
        struct.pack_into("<Q", memory, at("pc"), self.pc)
        for name, value in {"msr": self.msr, "fpscr": self.fpscr, "vscr": self.vscr, **self.words}.items():
            struct.pack_into("<I", memory, at(name), value)
        for name, value in self.doublewords.items():
            struct.pack_into("<Q", memory, at(name), value)
        base = at("spr")
        for number, value in self.spr.items():
            struct.pack_into("<Q", memory, base + 8 * number, value)


@dataclass
class Case:
    """Words at an offset of the code area, and the state in which they are executed.

    `data` fills the data area; `warm`: data translations are cached; `patched`: offsets (from the first word) that the
    words themselves overwrite and make visible.
    """

    core: Core
    words: Sequence[int]
    offset: int
    layout: Layout
    registers: Registers
    data: bytes
    warm: bool
    clock_ns: int = 0
    patched: frozenset[int] = frozenset()

    def code(self) -> bytes:
        """The code area: the words, and branches to the end of the test everywhere else."""
        at = self.offset
        body = struct.pack(f">{len(self.words)}I", *self.words)
        return _FILLER[:at] + body + _FILLER[at + len(body) :]

    def with_words(self, words: Sequence[int]) -> Case:
        """The same state with other words."""
        return replace(self, words=words)


class CaseMaker:
    """Makes cases for a core; the same seed makes the same cases."""

    def __init__(self, core: Core, seed: str = "") -> None:
        self.core = core
        self.rng = random.Random(seed)
        self.words = WordMaker(core, self.rng)
        table = list(TABLE.for_core(core.categories))
        self.hot = [entry for entry in table if entry.hot]
        self.plain = [e for e in table if not e.ends or e.group == "branch" or e.name in ("isync", "tlbwe")]
        self.all = table
        self.branches = [entry for entry in table if entry.group == "branch"]
        self.memory = [entry for entry in table if accesses_memory(entry)]
        self._tlb1 = [n for n in range(core.tlb1_entries) if n not in place.OWN_ENTRIES][:24]
        self.by_name = {entry.name: entry for entry in table}
        self._vectors = place.vectors(False), place.vectors(True)
        self._spr_rows = [
            (row.number, row.writable(core))
            for row in rows(core)
            if row.access[1] != "-" and row.name not in _OWN_VALUES and not row.name.startswith(("IV", "GIV"))
        ]

    def seed(self, seed: str) -> CaseMaker:
        """Begin again at a seed."""
        self.rng.seed(seed)
        self.words.begin()
        return self

    # ---- states ----------------------------------------------------------------------------------------------------

    def pointer(self, layout: Layout) -> int:
        """An address in the data pages, mostly in those without peculiarities; often near a page's end."""
        rng = self.rng
        page = rng.choice(PLAIN) if rng.random() < 0.92 else rng.randrange(len(PAGES) + 1)
        kind = rng.random()
        if kind < 0.55:
            offset = rng.randrange(0, PAGE, 16)
        elif kind < 0.85:
            offset = rng.randrange(PAGE)
        else:
            offset = PAGE - rng.randrange(1, 20)
        return layout.data + page * PAGE + offset

    def registers(self, layout: Layout, wide: bool, offset: int, length: int) -> Registers:
        """A random state whose PC is at an offset of the code area, where `length` words lie."""
        rng, core = self.rng, self.core
        code = layout.code + offset
        gpr = [integer(rng) for _ in range(13)]
        gpr += [rng.choice((*_SMALL, rng.randrange(256))) & NEVER for _ in OFFSETS]
        gpr += [self.pointer(layout) for _ in POINTERS]
        if not wide:  # what is above bit 31 of an address does not matter
            gpr = [g | rng.getrandbits(32) << 32 if n >= 21 and rng.random() < 0.3 else g for n, g in enumerate(gpr)]
        msr = layout.msr() | (MSR.CM if wide else 0)
        for bit, chance in _MSR_CHANCES:
            msr |= bit if rng.random() < chance else 0
        if "altivec" in core.categories and rng.random() < 0.93:
            msr |= MSR.VEC
        fpscr = 0
        if rng.random() < 0.6:
            fpscr = rng.getrandbits(32) & rng.choice((0xFFFF_FF00, 0xFFFF_FFFF, 3, 0xFFFF_FF03)) & ~READ_ONLY
            fpscr = int(summary(fpscr & ~FPSCR.NI))
        state = Registers(
            code, msr, gpr, [rng.getrandbits(4) for _ in range(8)],
            (rng.getrandbits(1), rng.getrandbits(1), rng.getrandbits(1), rng.choice((0, 1, 3, 4, 7, 20, 127))),
            fpscr, rng.getrandbits(32) & 0x1_0001, [double(rng) for _ in range(32)],
        )  # fmt: skip
        if "altivec" in core.categories:
            state.vr = [vector(rng) for _ in range(32)]
        state.spr = self.sprs(layout, code, length)
        if rng.random() < 0.03:
            state.words["lines"] = rng.getrandbits(5)
        if rng.random() < 0.03:
            state.words["doorbells"] = rng.getrandbits(5)
        if rng.random() < 0.05:
            self._debug(state, code, length)
        if rng.random() < 0.1:
            state.doublewords |= {"tb_offset": rng.getrandbits(64), "dec_deadline": rng.getrandbits(40)}
            state.doublewords["next_deadline"] = state.doublewords["dec_deadline"]
        return state

    def sprs(self, layout: Layout, code: int, length: int) -> dict[int, int]:
        """Random values of special-purpose registers, sensible ones where others would end the test at once."""
        rng = self.rng
        spr: dict[int, int] = {}
        for number, mask in rng.sample(self._spr_rows, 24):
            spr[number] = integer(rng) & mask
        here = code + 4 * rng.randint(0, length)
        spr[SPR.LR] = rng.choice((place.STOP_EA, place.STOP_EA, code + 4 * length, here, integer(rng)))
        spr[SPR.CTR] = rng.choice((1, 2, 3, rng.randint(1, 6), rng.randint(1, 6), code + 4 * length, integer(rng)))
        spr[SPR.PID] = place.PID
        spr[SPR.LPIDR] = place.LPID if layout.guest else rng.choice((0, place.LPID))
        for save0, save1 in ((SPR.SRR0, SPR.SRR1), (SPR.GSRR0, SPR.GSRR1), (SPR.CSRR0, SPR.CSRR1)):
            if rng.random() < 0.7:
                spr[save0] = rng.choice((place.STOP_EA, here))
                spr[save1] = layout.msr() | rng.choice((0, MSR.PR, MSR.CM, MSR.EE, MSR.FP))
        if rng.random() < 0.15:
            spr[SPR.EPCR] = rng.getrandbits(32) & all_fields(EPCR) & (NEVER if self.core.bits == 64 else ~_ICM)
        if rng.random() < 0.1:
            spr[SPR.MSRP] = rng.getrandbits(32) & all_fields(MSRP)
        if rng.random() < 0.05:
            spr[SPR.TCR] = rng.getrandbits(32) & all_fields(TCR)
        if rng.random() < 0.05:
            spr[SPR.L1CSR0] = 8  # DCBZ32
        if rng.random() < 0.05:
            spr[SPR.HID0] = HID0.EMCP
        for number in (SPR.EPLC, SPR.EPSC):
            context = place.PID | (EPLC.EAS if layout.data_space else 0)
            context |= EPLC.EGS | place.LPID << 16 if layout.guest else 0
            spr[number] = context | rng.choice((0, 0, EPLC.EPR))
        spr.update(self.mas(layout))
        spr.update(self._vectors[rng.random() < 0.7])
        return spr

    def mas(self, layout: Layout) -> dict[int, int]:
        """MAS registers that describe a translation worth writing: near the data pages, over the data area."""
        rng, core = self.rng, self.core
        select = rng.getrandbits(1)
        size = rng.choice((2, 2, 4) if core.bits == 64 and core.mav2 else (2, 4)) if select else 2
        free = [n for n in range(len(PAGES) + 4) if n >= len(PAGES) or not PAGES[n].mapped]
        page = rng.choice(free) if select or rng.random() < 0.3 else rng.randrange(len(PAGES))
        # The way that has the page already: two entries for one address are a programming error (EREF 6.5.3).
        esel = rng.choice(self._tlb1) if select else page % core.tlb0_ways
        mas1 = (MAS1.V if rng.random() < 0.85 else 0) | size << 7
        mas1 |= rng.choice((0, place.PID, place.OTHER_PID)) << 16 | (MAS1.TS if layout.data_space else 0)
        mas0 = select << 28 | esel << 16 | rng.randrange(core.tlb0_ways)
        if core.mav2 and rng.random() < 0.1:
            mas0 |= MAS0.HES
        if select and rng.random() < 0.1:
            mas1 |= MAS1.IPROT
        guest = MAS8.TGS | place.LPID if layout.guest else 0
        return {
            SPR.MAS0: mas0, SPR.MAS1: mas1,
            SPR.MAS2: (layout.data + page * PAGE & ~0xFFF) | rng.choice((0, 0, 0, 1, 4, 0x1A)),
            SPR.MAS3: rng.randrange(16) << 12 | rng.getrandbits(6) | rng.choice((0x3F, 0)),
            SPR.MAS5: guest, SPR.MAS6: place.PID << 16 | layout.data_space | (2 << 7 if core.mav2 else 0),
            SPR.MAS7: rng.choice((0, 0, 0, 1)), SPR.MAS8: guest | (MAS8.VF if rng.random() < 0.05 else 0),
        }  # fmt: skip

    def _debug(self, state: Registers, code: int, length: int) -> None:
        """Enable debug events near the code and the data."""
        rng = self.rng
        events = STEP_EVENTS | DBCR0.TRAP | DBCR0.RET | DBCR0.IRPT | DBCR0.CIRPT | DBCR0.CRET | DBCR0.FT
        state.spr[SPR.DBCR0] = DBCR0.IDM | rng.getrandbits(32) & events & core_mask("DBCR0", self.core)
        state.msr |= MSR.DE if rng.random() < 0.7 else 0
        comparators = [SPR.IAC1, SPR.IAC2]
        if "iac8" in self.core.categories:
            comparators += [SPR.IAC3, SPR.IAC4, SPR.IAC5, SPR.IAC6, SPR.IAC7, SPR.IAC8]
        for spr in comparators:
            state.spr[spr] = code + 4 * rng.randint(0, length)
        state.spr[SPR.DAC1], state.spr[SPR.DAC2] = rng.choice(state.gpr[21:]), rng.choice(state.gpr[21:])

    def case(
        self, words: Sequence[int], wide: bool, patched: frozenset[int] = frozenset(), offset: int | None = None,
        plain: bool = False,
    ) -> Case:  # fmt: skip
        """A case for given words in a random state, at an `offset` of the code area or anywhere.

        `plain`: a supervisor whose pointers lead to plain memory that is cached, with no debug events.
        """
        rng = self.rng
        spaces = (0, 0) if plain or rng.random() < 0.8 else (rng.getrandbits(1), rng.getrandbits(1))
        layout = Layout(*spaces, int(not plain and rng.random() < 0.12), wide and rng.random() < 0.3)
        if offset is None:
            last = CODE_SIZE - 4 * len(words) - 64
            near_end = PAGE * rng.randint(1, 3) - 4 * rng.randint(1, len(words) + 1)
            offset = near_end if rng.random() < 0.25 and 0 <= near_end <= last else rng.randrange(0, last, 4)
        start = rng.randrange(len(_POOL) - place.DATA_SIZE)
        data = _POOL[start : start + place.DATA_SIZE]
        registers = self.registers(layout, wide, offset, len(words))
        if plain:
            self._make_plain(registers, layout)
        warm = plain or rng.random() < 0.75
        return Case(self.core, words, offset, layout, registers, data, warm, rng.getrandbits(50), patched)

    def _make_plain(self, state: Registers, layout: Layout) -> None:
        """Let nothing stand in a stencil's way."""
        rng = self.rng
        state.msr = state.msr & ~(MSR.PR | MSR.EE | MSR.CE | MSR.DE | MSR.FE0 | MSR.FE1) | MSR.FP | MSR.ME
        if "altivec" in self.core.categories:
            state.msr |= MSR.VEC
        state.fpscr = 0
        state.fpr = [rng.choice((_ONE, _ONE, 0x4000 << 48, 0xBFF8 << 48, 0x4059 << 48)) for _ in range(32)]
        state.words.clear()
        state.doublewords.clear()
        for number in (SPR.DBCR0, SPR.EPCR, SPR.MSRP, SPR.TCR):
            state.spr.pop(number, None)
        state.gpr[13:] = [0] * len(OFFSETS) + [layout.data + PAGE * rng.choice(PLAIN) + 64 for _ in POINTERS]
        if rng.random() < 0.5:
            state.gpr[:13] = [layout.data + PAGE * rng.choice(PLAIN) + 64 for _ in range(13)]

    # ---- words -----------------------------------------------------------------------------------------------------

    def block(self, length: int) -> list[int]:
        """Random words of any entry, with branches inside the block."""
        rng, words = self.rng, list[int]()
        while len(words) < length:
            kind = rng.random()
            if kind < 0.10:
                entry = rng.choice(self.branches)
            elif kind < 0.30:
                entry = rng.choice(self.memory)
            elif kind < 0.55:
                entry = rng.choice(self.hot)
            elif kind < 0.97:
                entry = rng.choice(self.plain)
            elif kind < 0.995:
                entry = rng.choice(self.all)
            else:
                words.append(rng.getrandbits(32))
                continue
            word = self.words.word(entry, len(words), length)
            words.append(word)
            if self.words.context_changing(entry, word):
                words.append(ISYNC)
        return words

    def random_case(self) -> Case:
        """A block of 1 to 60 words in a random state; one in twenty overwrites its own code."""
        rng = self.rng
        wide = self.core.bits == 64 and rng.random() < 0.6
        if rng.random() < 0.05:
            return self.self_modifying_case(wide)
        length = rng.choice((1, 2, 4, 8, 15, 30, 45, 60, 60, 60))
        return self.case(self.block(rng.randint(max(1, length // 2), length)), wide)

    def self_modifying_case(self, wide: bool) -> Case:
        """A loop that runs a word, overwrites it, makes that visible (dcbst, sync, icbi, isync) and runs it again."""
        rng, named = self.rng, self.by_name
        value, where = rng.sample(POINTERS, 2)
        harmless = [e for e in self.hot if e.group in ("fixed", "logical", "rotate", "compare", "condition")]

        def work(count: int) -> list[int]:
            words: list[int] = []
            while len(words) < count:
                entry = rng.choice(harmless)
                fixed = {n: rng.choice(NUMBERS) for n in ("rt", "ra", "rs") if n in entry.fields}
                words.append(self.words.word(entry, **fixed))
            return words

        before, after = work(rng.randint(1, 6)), work(rng.randint(0, 4))
        target = rng.randrange(len(before) + len(after))
        patch = [
            named["stw"].encode(rs=value, ra=where), named["dcbst"].encode(rb=where), SYNC,
            named["icbi"].encode(rb=where), ISYNC,
        ]  # fmt: skip
        words = [*before, *patch, *after]
        at = target if target < len(before) else target + len(patch)
        words.append(named["bc"].encode(bo=16, bd=-4 * len(words)))
        case = self.case(words, wide, patched=frozenset((4 * at,)))
        case.registers.gpr[value] = rng.choice((work(1)[0], NOP))
        case.registers.gpr[where] = case.registers.pc + 4 * at
        case.registers.spr[SPR.CTR] = rng.randint(1, 3)
        return case

    def entry_cases(self, entry: Insn, wide: bool, count: int) -> Iterator[Case]:
        """Cases that try an entry with boundary values."""
        for _ in range(count):
            length = 1 if entry.ends else 6
            yield self.case([self.words.word(entry, 0, length) for _ in range(length)], wide)

    def stencil_case(self, variant: Variant, pair: Fused | None, wide: bool) -> Case:
        """A case for one stencil of an entry (or of a compare and the branch after it), where no stencil need leave."""
        rng, entry = self.rng, variant.insn
        fixed: dict[str, int] = {}
        for name, value in variant.fixed:
            if entry.decided is not None and name == entry.decided.name:
                fixed |= self._deciding(entry, entry.decided, value)
            else:
                fixed[name] = rng.choice(self._meaning(entry, name, value))
        offset = rng.randrange(PAGE // 4, PAGE // 2, 4)
        words: list[int] = []
        for _ in range(1 if entry.ends or pair else 4):
            values = dict(fixed)
            for name in variant.nonzero:
                low = 21 if name == "ra" and accesses_memory(entry) else 1
                values[name] = rng.randrange(low, 1 << entry.fields[name].width)
            if variant.where is not None:
                values["li" if "li" in entry.fields else "bd"] = self._displacement(variant.where)
            word = self.words.word(entry, 0, 1, **values)
            if variant.cached is not None:
                register = int(entry.operands(word)[variant.cached])
                words.append(self.by_name["ori"].encode(rs=register, ra=register))  # leaves it in x
            words.append(word)
        if pair is not None:
            bi = 4 * int(entry.operands(words[-1])["bf"]) + pair.bit
            displacement = self._displacement(pair.where)
            words.append(self.by_name["bc"].encode(bo=pair.sense, bi=bi, bd=displacement))
        return self.case(words, wide, offset=offset, plain=True)

    def _deciding(self, entry: Insn, function: NativeFunction, value: int) -> dict[str, int]:
        """Fields for which `Insn.decided` has a value."""
        while True:
            fields = {name: self.rng.randrange(1 << entry.fields[name].width) for name in function.parameters}
            if function(*map(u32, fields.values())) == value:
                return fields

    @staticmethod
    def _meaning(entry: Insn, name: str, value: int) -> tuple[int, ...]:
        """The values of a field that the stencil for one of them serves."""
        if name in entry.variants:
            return next(group for group in value_groups(entry, name) if value in group)
        return (value,)

    def _displacement(self, where: int) -> int:
        distance = 4 * self.rng.randint(1, 10)
        return {FORWARD: distance, BACKWARD: -distance, OFF_PAGE: PAGE + distance}[where]


_OWN_VALUES = frozenset(
    "PID LPIDR EPCR MSRP DBCR0 DBSR DBSRWR TSR TCR DEC MMUCSR0 TENS TENC TENSR LR CTR XER TBL_WRITE TBU_WRITE HID0 "
    "L1CSR0 EPLC EPSC MAS5_MAS6 MAS8_MAS1 MAS7_MAS3 MAS0_MAS1 MAS0 MAS1 MAS2 MAS3 MAS5 MAS6 MAS7 MAS8 PIR".split()
)
"""Registers that do not get arbitrary values."""
_SMALL = (0, 1, 2, 4, 8, 12, 16, 32, -4, -8, -16, 3, -1)
_ONE = 0x3FF << 52
_ICM = EPCR.ICM | EPCR.GICM
_MSR_CHANCES = (
    (MSR.PR, 0.25), (MSR.FP, 0.93), (MSR.ME, 0.97), (MSR.EE, 0.2), (MSR.CE, 0.2), (MSR.DE, 0.05), (MSR.FE0, 0.3),
    (MSR.FE1, 0.3), (MSR.UCLE, 0.3), (MSR.PMM, 0.2), (MSR.RI, 0.3),
)  # fmt: skip
