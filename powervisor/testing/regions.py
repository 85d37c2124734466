"""Random programs by translated blocks, by compiled regions and by the oracle, until they disagree.

    python -m powervisor.testing.regions                       a new seed, 200 programs a core
    python -m powervisor.testing.regions --seed 7 --case 12    one program again, with its report
    python -m powervisor.testing.regions --set near=0          with an optimisation off

Every interrupt leaves native code, so that all registers and memory are compared there; the program then goes on after
the instruction, or at it with the facility made available. Case N of a seed and a list of cores is always the same.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UserError
from ..isa import cores
from ..isa.cores import Core
from ..isa.registers import IVOR, MSR, SPR
from ..native.llvm import REGION_PASSES
from ..translate.tier1.options import DEFAULTS, RegionOptions
from ..vcpu.codemap import CodePage
from ..vcpu.state import ExitReason
from . import place
from .cases import Case
from .differential import Mismatch
from .programs import Program, ProgramMaker
from .sides import NativeSide, OracleSide, Outcome, Side, clear_upper_halves, differences, same
from .words import NOP

MOST_STOPS = 150
"""Interrupts of a program that are compared."""
MOST_STEPS = 60_000
ORACLE_STEPS = 1500
"""A program that takes no more instructions is executed by the oracle too."""
MOST_HEADS = 3
"""Loops and functions of a program that are made regions in advance."""
RESUMED = (*place.SKIPPED, IVOR.INSTRUCTION_STORAGE)
AT_ONCE, IN_ADVANCE = "regions at once", "regions in advance"


class RegionSide(NativeSide):
    """Executes a case with what is hot compiled, either as it is met or in advance."""

    def __init__(self, core: Core, options: RegionOptions = DEFAULTS) -> None:
        super().__init__(core, "force", options)
        self._keep = False
        assert self.engine.regions is not None
        self._compiler = self.engine.regions
        self.statistics = self._compiler.statistics

    def _drop_code(self) -> None:
        if not self._keep:
            super()._drop_code()

    def load_cold(self, case: Case, at_once: bool) -> None:
        """Load a case with nothing compiled; whether what is met will be compiled at once."""
        self.vm.hot_after = self.vm.hot_at_once = int(at_once)
        self.load(case)

    def load_again(self, case: Case) -> None:
        """Load a case and keep the code."""
        self._keep = True
        self.load(case)
        self._keep = False

    def compile(self, program: Program, heads: Sequence[int]) -> None:
        """Make regions of some words of a program that was executed."""
        case, mode = program.case, int(self.cpu.mode)
        first = case.registers.pc - case.offset
        mapped = {
            first + place.PAGE * n | mode: page
            for n in range(place.CODE_SIZE // place.PAGE)
            if (page := self._code_page(place.CODE_PA + place.PAGE * n, mode))
        }
        for head in heads:
            offset = case.offset + 4 * head
            home = mapped.get(first + offset & -place.PAGE | mode)
            if home is not None:
                self._compiler.ask(home, offset % place.PAGE // 4, first + offset & -place.PAGE | mode, mapped)

    def _code_page(self, pa: int, mode: int) -> int:
        """The CodePage of a physical page in a mode, or 0."""
        address = ctypes.c_uint64.from_address(int(self.vm.code_map) + (pa >> 12) * 8).value
        while address and int((page := CodePage.at(address)).mode) != mode:
            address = int(page.next)
        return int(address)


@dataclass
class Stop:
    """Where a side stopped: an interrupt's number, or the end."""

    number: int | None
    guest: bool = False


def stopped_at(cpu: Any) -> Stop:
    """The interrupt whose vector a side has reached, if one."""
    pc = int(cpu.pc)
    for base, guest in ((place.VECTORS_EA + place.PAGE, False), (place.GUEST_VECTORS_EA, True)):
        if base <= pc < base + place.PAGE:
            return Stop(pc - base >> 6, guest)
    return Stop(None)


class Trio:
    """The sides of a core. `stops` counts the interrupts compared, `steps` instructions."""

    def __init__(self, core: Core, options: RegionOptions = DEFAULTS) -> None:
        self.core = core
        self.blocks, self.regions, self.oracle = NativeSide(core, "off"), RegionSide(core, options), OracleSide(core)
        self.stops = self.steps = self.programs = self.by_oracle = self.excused = 0

    @property
    def compiled(self) -> int:
        """Regions compiled so far."""
        return self.regions.statistics.compiled

    @property
    def refused(self) -> int:
        """Regions whose compiler crashed, which ends its process only."""
        return self.regions.statistics.refused["not compiled"]

    def check(self, program: Program, seed: str) -> Mismatch | None:
        """Run a program every way; None when all agree."""
        rng, case, side = random.Random(seed), program.case, self.regions
        limit = MOST_STEPS if rng.random() < 0.6 else rng.randrange(1000, 8000)
        self.programs += 1
        at_once = rng.random() < 0.25
        side.load_cold(case, at_once)
        if at_once:
            found = self._compare(case, side, limit, seed)
            return Mismatch(case, AT_ONCE, found) if found else None
        self._compare(case, side, limit, seed)
        side.load_again(case)
        heads = rng.sample(program.heads, min(MOST_HEADS, len(program.heads)))
        side.compile(program, heads)
        if found := self._compare(case, side, limit, seed):
            return Mismatch(case, IN_ADVANCE, found)
        if int(self.blocks.cpu.executed) <= ORACLE_STEPS:
            self.by_oracle += 1
            self.oracle.load(case)
            if found := self._compare(case, self.oracle, limit, seed):
                return Mismatch(case, "blocks", found)
        return None

    def _compare(self, case: Case, side: Side, limit: int, seed: str) -> list[str]:
        """What a side, in which the case is loaded, does otherwise than translated blocks."""
        self.blocks.load(case)
        found = self._stops(case, side, limit, random.Random(seed + " stops"))
        self.steps += int(self.blocks.cpu.executed)
        return found

    def _stops(self, case: Case, side: Side, limit: int, rng: random.Random) -> list[str]:
        """Run and compare from stop to stop."""
        blocks = self.blocks
        for _ in range(MOST_STOPS):
            wanted = blocks.run(limit, False, exact=True)
            got = self._run(side, limit, wanted)
            clear_upper_halves(blocks, side)
            if got != wanted or not same(blocks, side):
                if bytes(blocks.ram[place.CODE_PA : place.CODE_PA + place.CODE_SIZE]) != case.code():
                    self.excused += 1  # code was overwritten, and nothing said so
                    return []
                rows = [f"after {wanted.steps} steps"]
                rows += [f"{n}: {v}, {type(side).__name__} {o}" for n, v in vars(wanted).items()
                         if (o := getattr(got, n)) != v]  # fmt: skip
                return rows + differences(blocks, side)
            stop = stopped_at(blocks.cpu)
            if wanted.exit[0] or stop.number not in RESUMED:
                return []
            self.stops += 1
            self._go_on(side, stop, rng)
        return []

    def _run(self, side: Side, limit: int, wanted: Outcome) -> Outcome:
        if isinstance(side, NativeSide):
            return side.run(limit, False, exact=True)
        assert isinstance(side, OracleSide)
        before = int(side.cpu.executed)
        got = side.run(limit - before)
        side.cpu.executed = got.steps = before + got.steps
        if got.unfetched:
            got.unfetched, got.steps = 0, wanted.steps
        if wanted.exit[0] == ExitReason.BUDGET and not got.exit[0]:
            got.exit = wanted.exit
        return got

    def _go_on(self, side: Side, stop: Stop, rng: random.Random) -> None:
        """Return from an interrupt to the instruction after it, or to the same with the facility made available."""
        spr = self.blocks.cpu.spr
        save0, save1 = (SPR.GSRR0, SPR.GSRR1) if stop.guest else (SPR.SRR0, SPR.SRR1)
        pc, msr = int(spr[save0]), int(spr[save1])
        facility = {IVOR.FP_UNAVAILABLE: MSR.FP, IVOR.ALTIVEC_UNAVAILABLE: MSR.VEC}.get(stop.number or 0, 0)
        if facility and rng.random() < 0.5:
            msr |= facility
        elif stop.number not in (IVOR.SYSTEM_CALL, IVOR.HYPERVISOR_SYSTEM_CALL):
            pc = pc + 4 & (1 << 64 if msr & MSR.CM else 1 << 32) - 1
        for one in (self.blocks, side):
            one.go_on(pc, msr)

    def shrink(self, found: Mismatch, program: Program, seed: str) -> Mismatch:
        """The same disagreement with as few words as possible: others become no-operations."""
        best, words = found, list(found.case.words)
        size = len(words) // 2
        while size:
            for first in range(0, len(words), size):
                kept = words[first : first + size]
                if all(word == NOP for word in kept):
                    continue
                words[first : first + size] = [NOP] * len(kept)
                case = replace(found.case, words=tuple(words))
                again = self.check(replace(program, case=case), seed)
                if again is not None:
                    best = again
                else:
                    words[first : first + size] = kept
            size //= 2
        return best

    def close(self) -> None:
        """Free the sides."""
        for side in (self.blocks, self.regions, self.oracle):
            side.close()


class Programs:
    """The programs of a seed, over some cores."""

    def __init__(
        self, seed: str, names: Sequence[str], options: RegionOptions = DEFAULTS, indirect: bool = True,
        frames: bool = False,
    ) -> None:  # fmt: skip
        self.seed, self.names, self.options, self.indirect, self.frames = seed, list(names), options, indirect, frames
        self.trios: dict[str, Trio] = {}
        self._makers: dict[str, ProgramMaker] = {}

    def check(self, number: int) -> Mismatch | None:
        """Run program `number`; what is wrong with it, as small as it could be made."""
        name = self.names[number % len(self.names)]
        if name not in self.trios:
            self.trios[name] = Trio(cores.get(name), self.options)
            self._makers[name] = ProgramMaker(cores.get(name), self.indirect, self.frames)
        seed = f"{self.seed}:{number}"
        program = self._makers[name].program(seed)
        found = self.trios[name].check(program, seed)
        return self.trios[name].shrink(found, program, seed) if found else None

    def total(self, what: str) -> int:
        """The sum of a counter."""
        return sum(getattr(trio, what) for trio in self.trios.values())

    def close(self) -> None:
        """Free the machines."""
        for trio in self.trios.values():
            trio.close()
        self.trios.clear()

    def __str__(self) -> str:
        return (
            f"{self.total('programs'):,} programs, {self.total('compiled'):,} regions, {self.total('steps'):,} "
            f"instructions, {self.total('stops'):,} interrupts, {self.total('by_oracle'):,} by the oracle too, "
            f"{self.total('refused'):,} regions LLVM failed at"
        )


def options_of(settings: Sequence[str]) -> RegionOptions:
    """Region options from NAME=NUMBER, or `without=PASS` for an LLVM pass; raises UserError."""
    values: dict[str, Any] = {}
    numbers = [name for name, value in vars(DEFAULTS).items() if isinstance(value, int)]
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "without" and value in REGION_PASSES and value != "always_inliner":
            values[name] = (*values.get(name, ()), value)
        elif name in numbers and value.isdecimal():
            values[name] = int(value)
        else:
            raise UserError(
                f"--set {setting}: it is NUMBER for one of {', '.join(numbers)}, or without=PASS for one of "
                f"{', '.join(REGION_PASSES[1:])}"
            )
    return replace(DEFAULTS, **values)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m powervisor.testing.regions", description=summary)
    parser.add_argument("--programs", type=int, default=600, metavar="N", help="in all (default 600)")
    parser.add_argument("--minutes", type=float, help="go on for so long instead")
    parser.add_argument("--seed", default="", help="text; a new one is chosen and printed otherwise")
    parser.add_argument("--core", action="append", default=[], metavar="NAME", help="only this core; may be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of regions")
    parser.add_argument("--case", type=int, metavar="N", help="only program N of the seed, with its report")
    options = parser.parse_args(arguments)
    seed = options.seed or secrets.token_hex(4)
    try:
        names = [cores.get(name).name for name in options.core] or list(cores.CORES)
        programs = Programs(seed, names, options_of(options.set))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    again = "".join(f" --core {name}" for name in options.core) + "".join(f" --set {one}" for one in options.set)
    print(f"seed {seed}{again}", file=sys.stderr)
    numbers = range(options.programs) if options.case is None else [options.case]
    until = time.monotonic() + 60 * (options.minutes or 1 << 20)
    number, told = numbers[0], time.monotonic()
    try:
        while time.monotonic() < until and (options.minutes is not None and options.case is None or number in numbers):
            if found := programs.check(number):
                print(found.report())
                print(f"again: python -m powervisor.testing.regions --seed {seed}{again} --case {number}")
                return 1
            number += 1
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(programs, file=sys.stderr, flush=True)
        print(f"{programs}: no mismatch")
        return 0
    finally:
        programs.close()


if __name__ == "__main__":
    sys.exit(main())
