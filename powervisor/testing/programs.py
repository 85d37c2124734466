"""Random programs of a differential test: nested loops, calls, switches, and what is between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ..insns import assemble
from ..isa.cores import Core
from ..isa.insn import Insn
from ..isa.registers import MSR, SPR
from ..translate.stencils import written
from . import place
from .cases import Case, CaseMaker
from .words import OFFSETS, POINTERS, STOP

CODE_LIMIT = 600
"""Words of a program."""
SAVED_LR = 9
COUNTERS = (10, 11, 12)
"""GPRs that count loops, by depth."""
KEPT = frozenset((SAVED_LR, *COUNTERS))
CASES, CASE_WORDS = 4, 8
"""Of a switch: a multiple of the words of a case is added to the address of the first."""
SMALL, BEFORE = 2, 3
"""Small functions, as long as a case, one of which an indirect call leads to; words from what LR has to where the
distance is added."""
_WORK = frozenset(
    "fixed logical rotate compare condition storage strings float float_move float_storage altivec altivec_float"
    " altivec_integer altivec_multiply altivec_permute altivec_storage atomic cache special system".split()
)
_NOT_IN_BODIES = frozenset("mtlr mtctr mtspr wrtee wrteei isync".split())
_CHANGED = frozenset(range(9))
"""GPRs that calm programs change, pointers that count up aside."""
_OWN_PAGES = (0, 1, 4, 7, 12)
"""Plain pages of every mode."""
_VECTOR_BITS = {"e6500": MSR.VEC}


@dataclass
class Program:
    """A case, and the words of it where loops and functions begin."""

    case: Case
    heads: list[int] = field(default_factory=list)


class ProgramMaker:
    """Makes programs for a core; the same seed makes the same programs, others with `indirect` calls than without.

    With `frames` their accesses lie together, as those of stack frames, where a page ends.
    """

    def __init__(self, core: Core, indirect: bool = True, frames: bool = False) -> None:
        self.core, self.cases, self._indirect, self._frames = core, CaseMaker(core), indirect, frames
        self._bases = POINTERS[:2] if frames else POINTERS
        self.rng: random.Random = self.cases.rng
        entries = [e for e in self.cases.all if e.group in _WORK and not e.ends]
        hot = [e for e in entries if e.hot and e.name not in _NOT_IN_BODIES]
        self._memory = [e for e in hot if e in self.cases.memory and ("d" in e.fields or not frames)]
        self._plain = [e for e in hot if e.group in ("fixed", "logical", "rotate", "compare", "condition")]
        self._other = [e for e in hot if e not in self._plain and e not in self._memory]
        self._rare = [e for e in entries if not e.hot and e.group not in ("special", "system", "cache")]
        self.words: list[int] = []
        self.heads: list[int] = []
        self._calls: list[tuple[int, int]] = []
        self._pointers: list[int] = []
        """Where the distance to the first small function is added to an address."""
        self._inside = self._calm = False

    def program(self, seed: str) -> Program:
        """A program by its seed."""
        rng = self.cases.seed(seed).rng
        self.words, self.heads, self._calls, self._pointers = [], [0], [], []
        wide = self.core.bits == 64 and rng.random() < 0.6
        self._calm = rng.random() < 0.6
        if rng.random() < 0.5:
            self._statement(1, leaf=False)
        self._loop(0, leaf=False)
        self.words.append(STOP)
        functions = []
        for leaf in (False, False, True, True):
            functions.append(len(self.words))
            self._function(leaf)
        for at, depth in self._calls:
            target = rng.choice(functions[2:] if depth else functions)
            self.words[at] = self._named("b").encode(li=4 * (target - at), lk=1)
        small = len(self.words)
        for _ in range(SMALL if self._indirect else 0):
            self._work(CASE_WORDS - 1)
            self._put("blr")
        for at in self._pointers:
            self.words[at] = assemble(f"addi r8,r8,{4 * (small - at + BEFORE)}", 0, self.core)
        self.heads += functions
        return Program(self._case(wide), list(self.heads))

    def _case(self, wide: bool) -> Case:
        """The words in a random state, often across a page's end."""
        rng, size = self.rng, 4 * len(self.words)
        offset = place.PAGE * rng.randint(1, 3) - 4 * rng.randint(1, len(self.words))
        if rng.random() < 0.4 or not 0 <= offset <= place.CODE_SIZE - size:
            offset = rng.randrange(0, place.CODE_SIZE - size, 4)
        case = self.cases.case(tuple(self.words), wide, offset=offset)
        state = case.registers
        state.words.clear()
        state.doublewords.clear()
        for number in (SPR.DBCR0, SPR.TCR, SPR.EPCR, SPR.MSRP):
            state.spr.pop(number, None)
        state.spr.update(place.vectors(False))
        if rng.random() < 0.7:
            state.fpscr = 0
        state.msr &= ~(MSR.EE | MSR.CE | MSR.DE)
        if self._calm:  # hardly an interrupt: long runs inside regions
            state.msr &= ~(MSR.FE0 | MSR.FE1)
            state.fpscr = 0
            for number in POINTERS:
                state.gpr[number] = case.layout.data + place.PAGE * rng.choice(_OWN_PAGES) + rng.randrange(512, 3584, 8)
        if self._frames:
            for number in self._bases:
                step = 8 if rng.random() < 0.8 else 2
                state.gpr[number] = case.layout.data + place.PAGE + rng.randrange(-96, 96, step)
        if self._calm or rng.random() < 0.7:
            state.msr |= MSR.FP | _VECTOR_BITS.get(self.core.name, 0)
        return case

    # ---- text ------------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Insn:
        return self.cases.by_name[name]

    def _put(self, *lines: str) -> None:
        self.words += [assemble(line, 0, self.core) for line in lines]

    def _branch_to(self, at: int, target: int, bo: int, bi: int = 0) -> None:
        """Make the word at an index a conditional branch to another."""
        self.words[at] = self._named("bc").encode(bo=bo, bi=bi, bd=4 * (target - at))

    def _work(self, count: int) -> None:
        rng = self.rng
        while count > 0:
            kind = rng.random()
            accesses = 0.6 if self._frames else 0.35
            pool = (
                self._memory if kind < accesses else self._plain if kind < 0.78 else self._other if kind < 0.97
                else self._rare
            )  # fmt: skip
            entry = rng.choice(pool)
            if self._calm and (entry.group == "atomic" or entry in self._rare):
                continue
            near = {}
            if "d" in entry.fields and (self._calm or rng.random() < 0.85):
                near = {"d": rng.randrange(-64, 64) & -8}
            if self._calm and entry in self._memory:
                near |= {"ra": rng.choice(self._bases)} | ({"rb": rng.choice(OFFSETS)} if "rb" in entry.fields else {})
            word = self.cases.words.word(entry, **near)
            operands = entry.operands(word)
            changed = {int(operands[name]) for name in written(entry)}
            if self._calm and not changed <= _CHANGED | {int(operands[name]) for name in ("ra",) if near}:
                continue
            if KEPT.isdisjoint(changed):
                self.words.append(word)
                count -= 1

    def _compare(self) -> int:
        """Maybe compare two registers; a bit of CR to branch by."""
        rng, bf = self.rng, self.rng.randrange(8)
        kind = rng.randrange(5)
        one, other = rng.randrange(1, 9), rng.randrange(1, 9)
        if kind == 0:
            self._put(f"cmpwi cr{bf},r{one},{rng.randint(-3, 3)}")
        elif kind == 1:
            self._put(f"cmplw cr{bf},r{one},r{other}")
        elif kind == 2:
            self._put(f"cmplwi cr{bf},r{one},{rng.randrange(0x10000)}")
        elif kind == 3:
            self._put(f"andi. r{one},r{other},{1 << rng.randrange(16)}")
            bf = 0
        return 4 * bf + rng.randrange(4)

    def _statement(self, depth: int, leaf: bool) -> None:
        """One of the things programs are made of."""
        rng = self.rng
        if len(self.words) > CODE_LIMIT or depth >= len(COUNTERS):
            self._work(rng.randint(1, 4))
            return
        kind = rng.random()
        if kind < 0.3:
            self._work(rng.randint(1, 10))
        elif kind < 0.45:
            self._counted_loop()
        elif kind < 0.65:
            self._loop(depth, leaf)
        elif kind < 0.82:
            self._choice(depth, leaf)
        elif leaf or kind < 0.92:
            self._call(depth, leaf)
        else:
            self._switch()

    def _counted_loop(self) -> None:
        """bdnz or bdz; nothing inside changes CTR."""
        rng = self.rng
        self._put(f"li r0,{rng.randint(1, 12)}", "mtctr r0")
        self.heads.append(len(self.words))
        head = len(self.words)
        self._work(rng.randint(1, 8))
        if rng.random() < 0.3:  # leave in the middle
            bit = self._compare()
            at = len(self.words)
            self.words.append(0)
            self._work(rng.randint(1, 3))
            self._branch_to(at, len(self.words) + 1, rng.choice((4, 12)), bit)
        self.words.append(0)
        self._branch_to(len(self.words) - 1, head, 16)

    def _loop(self, depth: int, leaf: bool) -> None:
        """A loop counted by a GPR, with statements inside."""
        rng, counter = self.rng, COUNTERS[depth]
        self._put(f"li r{counter},{rng.randint(1, 5) if depth else rng.choice((3, 30, 300))}")
        head = len(self.words)
        self.heads.append(head)
        for _ in range(rng.randint(1, 3) if depth else rng.randint(2, 4)):
            self._statement(depth + 1, leaf)
        bf = rng.randrange(8)
        if rng.random() < 0.4:
            bf = 0
            self._put(f"addic. r{counter},r{counter},-1")
        else:
            self._put(f"addi r{counter},r{counter},-1", f"cmpwi cr{bf},r{counter},0")
        if rng.random() < 0.3:
            self._work(1 if bf else 0)
        self.words.append(0)
        self._branch_to(len(self.words) - 1, head, 12, 4 * bf + 1)

    def _choice(self, depth: int, leaf: bool) -> None:
        """if, with or without else."""
        rng = self.rng
        bit = self._compare()
        at = len(self.words)
        self.words.append(0)
        self._statement(depth + 1, leaf)
        bo = rng.choice((4, 12))
        if rng.random() < 0.5:
            self._branch_to(at, len(self.words), bo, bit)
            return
        over = len(self.words)
        self.words.append(0)
        self._branch_to(at, len(self.words), bo, bit)
        self._statement(depth + 1, leaf)
        self.words[over] = self._named("b").encode(li=4 * (len(self.words) - over))

    def _call(self, depth: int, leaf: bool) -> None:
        """A call of a function, which is not there yet; leaves have none."""
        if leaf:
            self._work(2)
            return
        if self._indirect and self.rng.random() < 0.4:
            self._put("bcl 20,31,4", "mflr r8", f"rlwinm r7,r{self.rng.randrange(1, 7)},5,26,26", "add r8,r8,r7")
            self._pointers.append(len(self.words))
            self._put("nop", "mtctr r8", "bctrl")
            return
        self._calls.append((len(self.words), int(bool(self._inside))))
        self.words.append(0)

    def _switch(self) -> None:
        """A jump into a row of cases of the same length."""
        rng = self.rng
        first = len(self.words) + 7
        self._put("bcl 20,31,4", "mflr r8", f"rlwinm r7,r{rng.randrange(1, 7)},5,25,26", "add r8,r8,r7",
                  f"addi r8,r8,{4 * (first - len(self.words) - 1)}", "mtctr r8", "bctr")  # fmt: skip
        end = first + CASES * CASE_WORDS
        for _ in range(CASES):
            self._work(CASE_WORDS - 1)
            at = len(self.words)
            self.words.append(self._named("b").encode(li=4 * (end - at)))

    def _function(self, leaf: bool) -> None:
        """A function; one that calls keeps its return address in a register."""
        rng = self.rng
        self._inside = True
        if not leaf:
            self._put(f"mflr r{SAVED_LR}")
        for _ in range(rng.randint(1, 2)):
            self._statement(2, leaf)
        if leaf and rng.random() < 0.4:
            self.words.append(self._named("bclr").encode(bo=rng.choice((4, 12)), bi=self._compare()))
            self._work(2)
        if not leaf:
            self._put(f"mtlr r{SAVED_LR}")
        self._put("blr")
        self._inside = False
