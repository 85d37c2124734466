"""Differential testing: the same case by the oracle and by native code, twice, and what they disagree on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from ..insns import TABLE, disassemble
from ..isa.cores import Core
from ..isa.registers import FPSCR, MSR, SPR
from ..vcpu.state import ExitReason
from . import place
from .cases import Case
from .coverage import StencilCoverage
from .sides import NativeSide, OracleSide, Outcome, clear_upper_halves, differences, same
from .state import ambiguous
from .words import NOP

STUCK = int(ExitReason.CHECKSTOP), 1
"""How native code leaves where fetching from an interrupt vector raises the same interrupt again."""
BLOCKS, STEPS = "translated blocks", "handlers"


@dataclass
class Mismatch:
    """A case on which the oracle and native code disagree; `way` is BLOCKS or STEPS."""

    case: Case
    way: str
    details: list[str]

    def report(self) -> str:
        """All that is needed to look into it."""
        case, state = self.case, self.case.registers
        lines = [f"{case.core.name}: oracle and native code ({self.way}) disagree"]
        named: set[str] = set()
        for index, word in enumerate(case.words):
            if word == NOP:
                continue
            entry = TABLE.for_core(case.core.categories).decode(word)
            text = disassemble(word, state.pc + 4 * index, case.core)
            lines.append(f"  {state.pc + 4 * index:#x}  {word:08x}  {text}  [{entry.name if entry else 'undefined'}]")
            for name, value in entry.operands(word).items() if entry else ():
                letter = {"f": "f", "v": "v"}.get(name[0], "r")
                if name in _REGISTER_FIELDS:
                    named.add(f"{letter}{int(value)}")
        lines.append("state before:")
        lines.append(f"  pc {state.pc:#x}  msr {MSR.describe(state.msr)}  cr {state.cr}  xer(so ov ca n) {state.xer}")
        lines.append(f"  fpscr {FPSCR.describe(state.fpscr)}  vscr {state.vscr:#x}  lr {state.spr[SPR.LR]:#x}"
                     f"  ctr {state.spr[SPR.CTR]:#x}  warm {case.warm}  layout {case.layout}")  # fmt: skip
        registers = {"r": state.gpr, "f": state.fpr, "v": state.vr}
        lines += [f"  {name} {registers[name[0]][int(name[1:])]:#x}" for name in sorted(named)]
        lines.append("differences (oracle, native):")
        lines += [f"  {line}" for line in self.details[:24]]
        return "\n".join(lines)


_REGISTER_FIELDS = frozenset("rt rs ra rb frt frs fra frb frc vrt vrs vra vrb vrc".split())


class Pair:
    """The two sides of a core.

    `executed` counts completed executions by entry (name, match), `tried` those that were interrupted too, `steps` all.
    `excused` cases broke a rule that software must keep, and native code did otherwise than the oracle then.
    With a `coverage` the stencils that ran are noted.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.oracle, self.native = OracleSide(core), NativeSide(core)
        self.coverage: StencilCoverage | None = None
        self.executed: Counter[tuple[str, int]] = Counter()
        self.tried: Counter[tuple[str, int]] = Counter()
        self.steps = self.cases = self.endless = self.excused = 0

    def check(self, case: Case) -> Mismatch | None:
        """Run a case every way; None when all agree."""
        wanted = self._oracle(case)
        self.cases += 1
        self.steps += wanted.steps
        for entry, _, _, done, _ in self.oracle.executed:
            if entry is not None:
                key = entry.name, entry.match
                self.tried[key] += 1
                if done:
                    self.executed[key] += 1
        endless = wanted.exit[0] == ExitReason.BUDGET
        self.endless += endless
        for way in (STEPS,) if endless else (STEPS, BLOCKS):
            if self.coverage is not None and way == BLOCKS:
                self.coverage.begin()
            details = self._compare(case, way, wanted)
            if self.coverage is not None and way == BLOCKS:
                self.coverage.end(self.oracle)
            if details:
                if self._excused(case, way):
                    self.excused += 1
                    return None
                return Mismatch(case, way, details)
        return None

    def _oracle(self, case: Case) -> Outcome:
        self.oracle.load(case)
        return self.oracle.run(8 * len(case.words) + 60)

    def _compare(self, case: Case, way: str, wanted: Outcome) -> list[str]:
        """What native code does otherwise than the oracle, which has run the case."""
        endless = wanted.exit[0] == ExitReason.BUDGET
        self.native.load(case)
        got = self.native.run(wanted.steps if endless else wanted.steps + 1, way == STEPS)
        got.unfetched = wanted.unfetched
        if way == BLOCKS and wanted.unfetched:
            got.steps = wanted.steps
        if endless and got.exit == STUCK:
            return []
        if self.native.engine.regions is not None:
            clear_upper_halves(self.oracle, self.native)
        if got == wanted and same(self.oracle, self.native):
            return []
        rows = [
            f"{name}: {one}, native {other}"
            for name, one in vars(wanted).items()
            if (other := getattr(got, name)) != one
        ]
        return rows + differences(self.oracle, self.native)

    def _excused(self, case: Case, way: str) -> bool:
        """Whether the words did what software must not do, so that native code may do otherwise."""
        return ambiguous(self.oracle.cpu.tlb) or (way == BLOCKS and self._unsynchronised(case))

    def _unsynchronised(self, case: Case) -> bool:
        """Whether code was overwritten and not made visible with icbi: native code may run what was before."""
        ram = self.oracle.ram
        if ram[place.HANDLERS_PA : place.HANDLERS_PA + place.PAGE] != place.handlers():
            return True
        before = bytearray(case.code())
        after = bytearray(ram[place.CODE_PA : place.CODE_PA + place.CODE_SIZE])
        for at in case.patched:
            where = case.offset + at
            before[where : where + 4] = after[where : where + 4] = bytes(4)
        return before != after

    def shrink(self, found: Mismatch) -> Mismatch:
        """The same disagreement with as few words as possible: others become no-operations."""
        words = list(found.case.words)
        best = found
        for attempt in (list(range(len(words) - 1, -1, -1)),) * 2:
            for index in attempt:
                if words[index] == NOP:
                    continue
                kept, words[index] = words[index], NOP
                case = replace(found.case, words=tuple(words))
                wanted = self._oracle(case)
                details = []
                if found.way == STEPS or wanted.exit[0] != ExitReason.BUDGET:
                    details = self._compare(case, found.way, wanted)
                    if self._excused(case, found.way):
                        details = []
                if details:
                    best = Mismatch(case, found.way, details)
                else:
                    words[index] = kept
        return best

    def close(self) -> None:
        """Free both sides."""
        self.oracle.close()
        self.native.close()
