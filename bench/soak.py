"""Run the benchmark's programs for long, twice at once, under timer interrupts: python -m bench.soak [-minutes 30]

Two CPUs run every program that needs no device over and over, beside `tick`, which asks each for 10,000 timer
interrupts a second. Each result is compared with the declared one, or with what this host computes. Exit status 0: no
difference.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench import compiling, machines, programs
from bench.machines import Job, Vmm
from bench.programs import CORES, Kind, Program, Score, Sources
from powervisor.cli.main import guarded
from powervisor.cli.options import Parser
from powervisor.errors import UserError
from powervisor.guests import catalogue

TICK = Program("tick", Kind.SYSTEM, {})
SCRIPT = "/bench/soak"
NOT_SOAKED = Kind.BOARD, Kind.DISK, Kind.NETWORK, Kind.KVM
"""Programs that need a machine of their own."""
EVERY = 60.0
"""Seconds between progress lines."""


class Results:
    """What the guest reported, against what it must be."""

    def __init__(self, expected: dict[str, str]) -> None:
        self.expected = expected
        self.counts: Counter[str] = Counter()
        self.ticks: list[int] = []

    def hear(self, line: str) -> str:
        """Take a line of the console; what is wrong with it."""
        if line.startswith("TICK ") and len(words := line.split()) == 3 and words[2].isdecimal():
            self.ticks.append(int(words[2]))
        if line.startswith("tick:"):
            return line.rstrip()
        if (score := programs.score_in(line)) is None:
            return ""
        self.counts[score.name] += 1
        wanted = self.expected.setdefault(score.name, score.check)
        return "" if score.check == wanted else f"{score.name}: {score.check}, expected {wanted}"

    def __str__(self) -> str:
        ticks = (
            f"{min(self.ticks)} to {max(self.ticks)} timer interrupts a second and CPU" if self.ticks else "no ticks"
        )
        return f"{self.counts.total()} results of {len(self.counts)} measurements, {ticks}"


def expectations(suite: list[Program], sources: Sources, cache: Path, percent: int) -> dict[str, str]:
    """The results by name: declared, or computed on this host; those of other programs must only stay what they are."""
    known = {name: check for program in suite for name, check in program.reports.items() if check}
    open_ones = [p for p in suite if p.portable and not all(p.reports.values()) and p.kind is not Kind.SYSTEM]
    compiled = compiling.compile_for(None, open_ones, sources, cache)
    scores: list[Score] = compiling.run_here(open_ones, compiled, percent)
    return known | {score.name: score.check for score in scores}


def script(suite: list[Program], percent: int) -> bytes:
    """What the guest runs."""
    lines = [" ".join(compiling.command(program, "/bench", None, percent)) for program in suite]
    loop = "\n".join(["while :; do", *lines, "done"])
    return f"#!/bin/sh\n/bench/tick &\n(\n{loop}\n) &\n{loop}\n".encode()


def soak(job: Job, results: Results, minutes: float) -> str:
    """Boot and watch; the first difference, or "" when there was none until the time was over."""
    vmm = Vmm(
        "powervisor", (sys.executable, "-m", "powervisor", "run"), {"PYTHONPATH": str(machines.TREE)}, machines.TREE
    )
    until, told = time.monotonic() + 60 * minutes, time.monotonic()
    last: list[str] = []
    with machines.started(vmm, [*vmm.command, *job.options()], 60 * minutes + EVERY) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-11:], line.rstrip()]
            if wrong := results.hear(line):
                return wrong
            if time.monotonic() > until:
                return "" if results.counts else "no results"
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                print(f"{results}", file=sys.stderr, flush=True)
    return "\n".join(["the machine ended:", *last])


def main(words: list[str]) -> int:
    """The command; its exit status."""
    parser = Parser("soak", "Benchmark programs for long, under timer interrupts, their results compared.")
    parser.prog = "python -m bench.soak"
    parser.option("-cpu", default="e5500", metavar="NAME", help=f"of {', '.join(CORES)}; e5500")
    parser.option("-minutes", type=float, default=30.0, metavar="N", help="how long; 30")
    parser.option("-percent", type=int, default=5, metavar="P", help="of the programs' usual work at a time; 5")
    parser.option("-sources", metavar="DIR", help="more programs, if not ../shared/bench")
    options = parser.parse(words)
    if options.cpu not in CORES or options.percent < 1:
        raise UserError(f"-cpu must be one of {', '.join(CORES)}, and -percent at least 1")
    core, sources = CORES[options.cpu], Sources(options.sources)
    suite = [p for p in programs.suite(core, sources.available()) if p.kind not in NOT_SOAKED]
    cache = (catalogue.cache() / "bench").resolve()
    results = Results(expectations(suite, sources, cache, options.percent))
    kernel, initrd = catalogue.build(catalogue.get(core.guest))
    compiled = compiling.compile_for(core, [*suite, TICK], sources, cache)
    with tempfile.TemporaryDirectory(prefix="powervisor-soak-") as scratch:
        disk = Path(scratch) / "soak.cpio.gz"
        extra = {SCRIPT.strip("/"): script(suite, options.percent)}
        disk.write_bytes(compiling.ram_disk(initrd, suite, compiled, options.percent, extra))
        job = Job(core.name, "2", "512", kernel.resolve(), disk, f"console=ttyS0 run={SCRIPT} stop ")
        wrong = soak(job, results, options.minutes)
    print(results)
    for name, count in sorted(results.counts.items()):
        print(f"  {name:14} {results.expected[name]}  {count} times")
    if wrong:
        print(wrong)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(guarded("soak", main, sys.argv[1:]))
