"""The benchmark programs: which class of work each is, how it is compiled, and how its lines are read."""

import hashlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from powervisor.errors import UserError
from powervisor.guests import debian
from powervisor.guests.archive import Cpio
from powervisor.guests.linux import TARGETS
from powervisor.guests.progress import Progress

# No contraction to fused multiply-add: the check values are the same on every platform only so.
_FLAGS = ("-O2", "-static", "-std=gnu11", "-ffp-contract=off")
DONE = "BENCH-DONE"
_LINE = re.compile(r"^BENCH (\S+)\s+time_s=([\d.]+) score=([\d.]+) (\S+) check=([0-9a-f]+)\s*$")


class Kind(StrEnum):
    """What a program mostly does; geometric means are taken within a kind."""

    INTEGER = "integer"
    FLOAT = "float"
    VECTOR = "vector"
    SYSTEM = "system"


@dataclass(frozen=True)
class Program:
    """A source file: its kind, and the names under which it reports."""

    kind: Kind
    reports: tuple[str, ...]


PROGRAMS = {
    "cmlike": Program(Kind.INTEGER, ("cmlike",)),
    "dhry": Program(Kind.INTEGER, ("dhry",)),
    "sieve": Program(Kind.INTEGER, ("sieve",)),
    "hash": Program(Kind.INTEGER, ("sha256", "crc32")),
    "interp": Program(Kind.INTEGER, ("interp", "fib")),
    "whet": Program(Kind.FLOAT, ("whet",)),
    "matmul": Program(Kind.FLOAT, ("matmul",)),
    "avec": Program(Kind.VECTOR, ("av_matmul", "av_int", "av_perm")),
    "sysb": Program(Kind.SYSTEM, ("getppid", "pipe", "pgfault", "signal", "fork", "forkexec")),
}
_KINDS = {report: program.kind for program in PROGRAMS.values() for report in program.reports}
_HELPER = "true"  # sysb starts it over and over


@dataclass(frozen=True)
class Core:
    """What is compiled and booted for a core."""

    name: str
    guest: str
    bits: int
    flags: tuple[str, ...]
    vector: bool = False


CORES = {
    core.name: core
    for core in (
        Core("e500mc", "k32", 32, ("-mcpu=e500mc",)),
        Core("e5500", "k64", 64, ("-mcpu=e5500",)),
        Core("e6500", "k64av", 64, ("-mcpu=e6500", "-maltivec"), vector=True),
    )
}


@dataclass(frozen=True)
class Score:
    """One measurement: work per second, and a check of the work's result."""

    name: str
    kind: Kind
    seconds: float
    score: float
    unit: str
    check: str


def sources(chosen: str | None) -> Path:
    """The directory with the programs' sources. Raises UserError."""
    here = Path(__file__).resolve().parent
    places = [Path(chosen)] if chosen else [here / "programs", here.parent.parent / "shared" / "bench"]
    for place in places:
        if (place / "bench.h").is_file():
            return place
    raise UserError(f"-sources: no bench.h in {' or '.join(map(str, places))}; name the directory with the programs")


def suite(core: Core | None, only: Sequence[str]) -> list[str]:
    """The programs to run on a core (None: this host), restricted to `only` if given. Raises UserError."""
    unknown = [name for name in only if name not in PROGRAMS]
    if unknown:
        raise UserError(f"-only {unknown[0]}: no such program; there are {', '.join(PROGRAMS)}")
    chosen = [name for name in PROGRAMS if not only or name in only]
    return [name for name in chosen if PROGRAMS[name].kind is not Kind.VECTOR or (core is not None and core.vector)]


def compile_for(core: Core | None, names: Sequence[str], source: Path, cache: Path) -> dict[str, Path]:
    """The compiled programs by name, for a core or (None) for this host; unchanged ones are not compiled again."""
    compiler = f"{TARGETS[core.bits].prefix if core else ''}gcc"
    made, commands = {}, {}
    for name in [*names, *([_HELPER] if "sysb" in names else [])]:
        file = source / f"{name}.c"
        command = [compiler, *_FLAGS, *(core.flags if core else ()), str(file), "-lm"]
        text = file.read_bytes() + (source / "bench.h").read_bytes() + " ".join(command).encode()
        made[name] = cache / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}"
        if not made[name].exists():
            commands[name] = command
    if commands:
        cache.mkdir(parents=True, exist_ok=True)
        with Progress(f"bench programs for {core.name if core else 'this host'}") as progress:
            debian.require(TARGETS[core.bits].packages if core else ("gcc", "libc6-dev"), progress)
            for name, command in commands.items():
                partial = made[name].with_suffix(".partial")
                debian.run([*command, "-o", str(partial)], f"compiling {name}.c")
                partial.replace(made[name])
    return made


def overlay(programs: dict[str, Path], percent: int) -> bytes:
    """A cpio archive that adds the programs and /bench/run, which runs them all, to a guest's RAM disk."""
    cpio = Cpio()
    lines = ["#!/bin/sh"]
    for name, path in programs.items():
        cpio.file(f"bench/{name}", path.read_bytes(), 0o755)
        if name in PROGRAMS:
            lines.append(f"/bench/{name} {percent}" + (f" /bench/{_HELPER}" if name == "sysb" else ""))
    cpio.file("bench/run", "\n".join([*lines, f"echo {DONE}", ""]).encode(), 0o755)
    return cpio.data()


def run_here(programs: dict[str, Path], percent: int) -> list[Score]:
    """The programs' scores on this host itself."""
    scores = []
    for name, path in programs.items():
        if name in PROGRAMS:
            extra = [str(programs[_HELPER])] if name == "sysb" else []
            done = subprocess.run([str(path), str(percent), *extra], capture_output=True, text=True, check=True)
            scores += scores_in(done.stdout)
    return scores


def scores_in(text: str) -> list[Score]:
    """The scores among the lines of a console."""
    found = []
    for line in text.splitlines():
        if (match := _LINE.match(line)) and match[1] in _KINDS:
            name, seconds, score, unit, check = match.groups()
            found.append(Score(name, _KINDS[name], float(seconds), float(score), unit, check))
    return found
