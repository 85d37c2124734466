"""What is measured and in which order: the VMMs take turns, round by round."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench import compiling, counters, inside, machines, programs
from bench.machines import BOOTED, Job, Vmm
from bench.programs import DONE, Core, Kind, Program, Score, Sources
from bench.progress import Progress
from bench.report import CoreResult
from powervisor.errors import UserError
from powervisor.guests import catalogue

MEASURES = {
    "boot": "boots, with an empty and with a warm cache",
    "start": "seconds to the first instructions of a guest",
    "idle": "host CPU of an idle Linux",
    "counts": "what the engine counts",
}
MEMORY = "512"
"""MiB of RAM that the machines have, if not told."""
IDLE_SECONDS = 10
STARTS = 3
"""Starts a round: they are short."""
OPEN = "console=ttyS0"
DISK_SIZE = 64 << 20
"""What programs/disk.c uses."""
Heard = Callable[[Score], None]
"""Told of each score as it comes."""


@dataclass(frozen=True)
class Choice:
    """What to measure, and how."""

    measures: frozenset[str]
    programs: Sequence[Program]
    rounds: int
    percent: int
    memory: str
    whole: bool
    """Whether nothing was left out, neither by the user nor because it is missing here."""


def choose(only: str, sources: Sources, rounds: int, percent: int, memory: str) -> Choice:
    """The classes, programs and measures named in `only` (a comma between them; "" is everything). Raises UserError."""
    there = sources.available()
    words = [word for word in only.split(",") if word]
    kinds = [kind.value for kind in Kind]
    named = dict.fromkeys([*kinds, *MEASURES, *programs.PROGRAMS])
    for word in words:
        if word not in named:
            raise UserError(f"-only {word}: there are {', '.join(named)}")
        if word in programs.PROGRAMS and sources.find(word) is None:
            raise UserError(
                f"-only {word}: {word}.c is not in {' nor in '.join(map(str, sources.places))}; see -sources"
            )
    chosen = [program for program in there if not words or program.name in words or program.kind.value in words]
    if any(program.kind is Kind.NETWORK for program in chosen) and not shutil.which("passt"):
        print("bench: passt is not installed; leaving the class network out", file=sys.stderr)
        chosen = [program for program in chosen if program.kind is not Kind.NETWORK]
    measures = frozenset(name for name in MEASURES if not words or name in words)
    whole = not words and percent == 100 and memory == MEMORY and len(chosen) == len(programs.PROGRAMS)
    return Choice(measures, chosen, rounds, percent, memory, whole)


@dataclass
class Step:
    """Something to do, worth so many units of progress: one for each score it tells of, and one."""

    what: str
    do: Callable[[Heard], None]
    units: int = 1


@dataclass
class _Group:
    """Programs that run in one boot."""

    name: str
    job: Job
    reports: list[str] = field(default_factory=list)


class CoreMeasurement:
    """Everything for one core: prepares, then gives the steps that fill `result`.

    `port` is where the host has a `Peer`.
    """

    def __init__(
        self, core: Core, vmms: Sequence[Vmm], choice: Choice, sources: Sources, scratch: Path, port: int
    ) -> None:
        self.core, self.vmms, self.choice, self.sources, self.scratch = core, vmms, choice, sources, scratch
        self.port = port
        self.result = CoreResult(core.name, [vmm.label for vmm in vmms])
        self.cache = (catalogue.cache() / "bench").resolve()
        kernel, initrd = (path.resolve() for path in catalogue.build(catalogue.get(core.guest)))
        self.linux = Job(core.name, "1", choice.memory, kernel, initrd, OPEN)
        self.boot = self._with_words("stop")
        self.own = programs.suite(core, choice.programs)
        self.groups = list(self._groups())
        self.result.reports = [report for group in self.groups for report in group.reports]
        self.inside = self._inside()
        self.starter = self._bare(programs.PROGRAMS["board"], 1) if "start" in choice.measures else None
        self.native = [program for program in programs.suite(None, choice.programs) if program in self.own]
        self.compiled_here = compiling.compile_for(None, self.native, sources, self.cache)

    def _with_words(self, words: str) -> Job:
        return replace(self.linux, append=f"{OPEN} {words} ")

    def _groups(self) -> Iterator[_Group]:
        for kind in Kind:
            chosen = programs.suite(self.core, self.own, [kind])
            if kind is Kind.BOARD:
                for program in chosen:
                    yield _Group(f"bare {program.name}", self._bare(program, self.choice.percent), _reports([program]))
            elif chosen and kind is not Kind.KVM:
                yield _Group(f"{kind.value} programs", self._with_programs(kind, chosen), _reports(chosen))

    def _with_programs(self, kind: Kind, chosen: Sequence[Program]) -> Job:
        assert self.linux.initrd is not None
        compiled = compiling.compile_for(self.core, chosen, self.sources, self.cache)
        disk = self.scratch / f"{self.core.name}-{kind.value}.cpio.gz"
        disk.write_bytes(compiling.ram_disk(self.linux.initrd, chosen, compiled, self.choice.percent))
        job = self._with_words("run=/bench/run stop")
        drive = self._image() if kind is Kind.DISK else None
        if kind is Kind.NETWORK:  # init finds the port in its environment, and hands it on
            job = replace(job, network=True, append=f"{job.append}BENCH_PORT={self.port} ")
        return replace(job, initrd=disk, smp="2" if kind is Kind.PARALLEL else "1", drive=drive)

    def _inside(self) -> Job | None:
        """A machine with another one inside; None when that is not asked for."""
        if not programs.suite(self.core, self.own, [Kind.KVM]):
            return None
        both = inside.suite(programs.suite(self.core, self.sources.available()))
        self.result.reports_inside = _reports(both)
        return inside.job(self.linux, self.core, both, self.sources, self.cache, self.scratch)

    def _image(self) -> Path:
        """An empty disk, in the host's page cache for everybody once it was written."""
        path = self.scratch / f"{self.core.name}.img"
        with path.open("wb") as file:
            file.truncate(DISK_SIZE)
        return path

    def _bare(self, program: Program, percent: int) -> Job:
        elf = compiling.compile_bare(program, percent, self.sources, self.cache)
        return Job(self.core.name, "1", self.choice.memory, elf)

    # ---- steps -------------------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Step]:
        """In order. A VMM that keeps something between runs has run everything once before it is timed."""
        for vmm in self.vmms:
            if vmm.cache is not None:
                yield Step(f"warming {vmm.label}", partial(self._warm, vmm))
                for group in self.groups:
                    yield Step(f"warming {vmm.label}, {group.name}", partial(self._run_once, vmm, group.job))
                if self.inside is not None:
                    yield Step(f"warming {vmm.label}, KVM inside", partial(self._inside_once, vmm, self.inside))
        for turn in range(self.choice.rounds):
            # Whoever comes second may find the host warmer: they change places every round.
            for what, do, units in self._round(self.vmms[:: -1 if turn % 2 else 1]):
                yield Step(f"round {turn + 1} of {self.choice.rounds}, {what}", do, units)
        if "counts" in self.choice.measures:
            for vmm in filter(counters.countable, self.vmms):
                yield Step(f"counting, {vmm.label}, boot", partial(self._count, vmm, self.boot, BOOTED))
                for group in self.groups:
                    yield Step(f"counting, {vmm.label}, {group.name}", partial(self._count, vmm, group.job, DONE))

    def _round(self, vmms: Sequence[Vmm]) -> Iterator[tuple[str, Callable[[Heard], None], int]]:
        measures = self.choice.measures
        for vmm in vmms:
            if "boot" in measures:
                if vmm.cache is not None:
                    yield f"{vmm.label}, cold boot", partial(self._boot, vmm, "cold"), 1
                yield f"{vmm.label}, warm boot", partial(self._boot, vmm, "warm"), 1
            if "start" in measures:
                yield f"{vmm.label}, starts", partial(self._start, vmm), 1
            if "idle" in measures:
                yield f"{vmm.label}, idle", partial(self._idle, vmm), 1
        for group in self.groups:
            for vmm in vmms:
                yield f"{vmm.label}, {group.name}", partial(self._programs, vmm, group.job), 1 + len(group.reports)
        if self.inside is not None:
            units = 1 + 2 * len(self.result.reports_inside) + len(programs.PROGRAMS["trips"].reports)
            for vmm in vmms:
                if vmm.cache is not None:  # ours: QEMU's cores have no hypervisor state
                    yield f"{vmm.label}, KVM inside", partial(self._run_inside, vmm, self.inside), units
        if self.native:
            yield "this host itself", self._native, 1 + len(_reports(self.native))

    def _programs(self, vmm: Vmm, job: Job, heard: Heard) -> None:
        self.result.runs.setdefault(vmm.label, []).append(machines.run(vmm, job, DONE, heard))

    def _run_inside(self, vmm: Vmm, job: Job, heard: Heard) -> None:
        self.result.inside.setdefault(vmm.label, []).append(inside.run(vmm, job, heard))

    def _inside_once(self, vmm: Vmm, job: Job, heard: Heard) -> None:
        inside.run(vmm, job)

    def _warm(self, vmm: Vmm, heard: Heard) -> None:
        machines.run(vmm, self.boot, BOOTED)
        machines.wait_for_builders(vmm)

    def _run_once(self, vmm: Vmm, job: Job, heard: Heard) -> None:
        machines.run(vmm, job, DONE)

    def _boot(self, vmm: Vmm, temperature: str, heard: Heard) -> None:
        cold = temperature == "cold"
        seconds = machines.boot_cold(vmm, self.boot) if cold else machines.run(vmm, self.boot, BOOTED).boot
        self.result.boots.setdefault(vmm.label, {}).setdefault(temperature, []).append(seconds)

    def _start(self, vmm: Vmm, heard: Heard) -> None:
        assert self.starter is not None
        times = self.result.starts.setdefault(vmm.label, [])
        times.extend(machines.run(vmm, self.starter, BOOTED).boot for _ in range(STARTS))

    def _idle(self, vmm: Vmm, heard: Heard) -> None:
        self.result.idle.setdefault(vmm.label, []).append(machines.idle_share(vmm, self.linux, IDLE_SECONDS))

    def _native(self, heard: Heard) -> None:
        scores = compiling.run_here(self.native, self.compiled_here, self.choice.percent, heard)
        self.result.native.append(scores)

    def _count(self, vmm: Vmm, job: Job, wanted: str, heard: Heard) -> None:
        counted = counters.count(vmm, job, wanted)
        if job is not self.boot:
            del counted["boot"]
        self.result.counts.setdefault(vmm.label, {}).update(counted)


def _reports(chosen: Sequence[Program]) -> list[str]:
    return [report for program in chosen for report in program.reports]


def measure(measurements: Sequence[CoreMeasurement], done: Callable[[CoreResult], None]) -> None:
    """Take every step of each; `done` gets the result of a core when it is whole."""
    plans = [(measurement, list(measurement.steps())) for measurement in measurements]
    with Progress(sum(step.units for _, steps in plans for step in steps)) as progress:
        for measurement, steps in plans:
            for step in steps:
                progress.step(f"{measurement.core.name}: {step.what}")
                step.do(lambda score: progress.advance(score.name))
                progress.advance()
            done(measurement.result)
