"""Differential soak: random instructions by the oracle and by native code until they disagree.

    python -m powervisor.testing.soak                       10 million instructions, all cores, two processes
    python -m powervisor.testing.soak --seed 7 --case 1234  one case again, with its report

Case N of a seed and a list of cores is always the same. Exit status 0: no mismatch, 1: one was found, or a user's
mistake.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from ..insns import TABLE
from ..isa import cores
from .cases import Case, CaseMaker
from .differential import Mismatch, Pair

REPORT_EVERY = 2.0
"""Seconds between a worker's messages, and between progress lines."""
ONE_ENTRY = 8
"""One case in so many tries a single entry."""


@dataclass
class Progress:
    """What a worker has done: instructions (by the oracle), cases, completed executions by core and entry."""

    steps: int = 0
    cases: int = 0
    endless: int = 0
    excused: int = 0
    executed: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    mismatch: str = ""
    case: int = 0
    """The number of the case that did not match."""


class Soak:
    """The cases of a seed, over some cores."""

    def __init__(self, seed: str, names: Sequence[str]) -> None:
        self.seed, self.names = seed, list(names)
        self._pairs: dict[str, Pair] = {}
        self._makers: dict[str, CaseMaker] = {}

    def case(self, number: int) -> Case:
        """A case by its number."""
        name = self.names[number % len(self.names)]
        core = cores.get(name)
        if name not in self._makers:
            self._makers[name] = CaseMaker(core)
        maker = self._makers[name].seed(f"{self.seed}:{number}")
        if maker.rng.randrange(ONE_ENTRY):
            return maker.random_case()
        entry = maker.rng.choice(maker.all)
        return next(maker.entry_cases(entry, core.bits == 64 and maker.rng.random() < 0.5, 1))

    def check(self, number: int) -> Mismatch | None:
        """Run a case; what is wrong with it, as small as it could be made."""
        case = self.case(number)
        if case.core.name not in self._pairs:
            self._pairs[case.core.name] = Pair(case.core)
        pair = self._pairs[case.core.name]
        found = pair.check(case)
        return pair.shrink(found) if found else None

    def close(self) -> None:
        """Free the machines."""
        for pair in self._pairs.values():
            pair.close()
        self._pairs.clear()

    def progress(self) -> Progress:
        """Totals so far."""
        total = Progress()
        for name, pair in self._pairs.items():
            total.steps += pair.steps
            total.cases += pair.cases
            total.endless += pair.endless
            total.excused += pair.excused
            total.executed.update({(name, *key): count for key, count in pair.executed.items()})
        return total


def _work(seed: str, names: list[str], first: int, step: int, steps: int, messages: Any) -> None:
    """A worker: every `step`-th case from `first`, until `steps` instructions or a mismatch."""
    soak, number, told = Soak(seed, names), first, time.monotonic()
    parent = multiprocessing.parent_process()
    while True:
        found = soak.check(number)
        done = soak.progress() if found or time.monotonic() - told > REPORT_EVERY else None
        if found is not None and done is not None:
            done.mismatch, done.case = found.report(), number
        if done is not None:
            told = time.monotonic()
            finished = bool(done.mismatch) or done.steps >= steps
            messages.put((first, finished, done))
            if finished or (parent is not None and not parent.is_alive()):  # nobody waits for an orphan
                return
        number += step


def _line(total: Progress, wanted: int, seconds: float) -> str:
    rate = total.steps / max(seconds, 1e-9)
    return (
        f"{total.steps:,} of {wanted:,} instructions, {total.cases:,} cases, {rate:,.0f}/s, "
        f"{len(total.executed)} entries of {_entries({name for name, _, _ in total.executed})}"
    )


def _entries(names: set[str]) -> int:
    return sum(len(TABLE.for_core(cores.get(name).categories)) for name in names)


def soak(seed: str, names: list[str], steps: int, jobs: int) -> Progress:
    """Run workers until `steps` instructions in all; the first mismatch ends it."""
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(seed, names, n, jobs, steps // jobs, messages), daemon=True)
        for n in range(jobs)
    ]
    for worker in workers:
        worker.start()
    latest: dict[int, Progress] = {}
    running, began, told = set(range(jobs)), time.monotonic(), 0.0
    terminal = sys.stderr.isatty()
    total = Progress()
    try:
        while running:
            while messages.empty():
                if any(workers[n].exitcode not in (None, 0) for n in running):
                    raise RuntimeError("a worker of the soak died; its message is above")
                time.sleep(0.1)
            number, finished, latest[number] = messages.get()
            total = Progress()
            for one in latest.values():
                total.steps += one.steps
                total.cases += one.cases
                total.endless += one.endless
                total.excused += one.excused
                total.executed += one.executed
                if one.mismatch:
                    total.mismatch, total.case = one.mismatch, one.case
            if total.mismatch:
                break
            if finished:
                running.discard(number)
            now = time.monotonic()
            if terminal or now - told > 30 or not running:
                told = now
                print(_line(total, steps, now - began), end="\r" if terminal else "\n", file=sys.stderr, flush=True)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
            worker.close()
        messages.close()
    if terminal:
        print(file=sys.stderr)
    return total


def never_completed(total: Progress, names: list[str]) -> list[str]:
    """Entries that no case has executed to their end, as "core: name"."""
    return [
        f"{name}: {entry.name}"
        for name in names
        for entry in TABLE.for_core(cores.get(name).categories)
        if not total.executed[name, entry.name, entry.match]
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m powervisor.testing.soak", description=summary)
    parser.add_argument("--instructions", type=int, default=10_000_000, help="in all (default 10 million)")
    parser.add_argument("--seed", default="", help="text; a new one is chosen and printed otherwise")
    parser.add_argument("--core", action="append", default=[], metavar="NAME", help="only this core; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--case", type=int, metavar="N", help="only case N of the seed, with its report")
    options = parser.parse_args(arguments)
    seed = options.seed or secrets.token_hex(4)
    try:
        names = [cores.get(name).name for name in options.core] or list(cores.CORES)
        if options.jobs < 1 or options.instructions < 1:
            raise UserError("--jobs and --instructions: at least 1")
        if options.case is not None:
            one = Soak(seed, names)
            found = one.check(options.case)
            one.close()
            print(found.report() if found else f"seed {seed} case {options.case}: oracle and native code agree")
            return 1 if found else 0
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    cores_given = "".join(f" --core {name}" for name in options.core)
    print(f"seed {seed}{cores_given}", file=sys.stderr)
    total = soak(seed, names, options.instructions, options.jobs)
    if total.mismatch:
        print(total.mismatch)
        print(f"again: python -m powervisor.testing.soak --seed {seed}{cores_given} --case {total.case}")
        return 1
    missing = never_completed(total, names)
    print(
        f"{total.steps:,} instructions in {total.cases:,} cases without a mismatch "
        f"({total.endless:,} cases by handlers only, because they did not end; {total.excused:,} broke "
        "rules of code changes or of the TLB)"
    )
    print(f"entries never completed: {', '.join(missing) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
