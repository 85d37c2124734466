"""Medians, spreads, ratios and means of what was measured, and the marks they are held against."""

import math
import os
import statistics
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.counters import Counts
from bench.inside import PERCENT, Inside
from bench.machines import Run
from bench.programs import HYPERCALL, MONITOR_READ, ONE, OTHER, SYSTEM_CALL, Kind, Score

MARKS = {Kind.INTEGER: 2.0, Kind.FLOAT: 12.0, Kind.VECTOR: 4.0, Kind.MEMORY: 3.0, Kind.SYSTEM: 1.3}
"""Our speed over QEMU's, at least: the geometric mean of a kind."""
LOWEST_MARK = 0.9
"""The same for each program of these kinds by itself."""
PROGRAM_MARKS = {"disk_write": 0.8, "disk_read": 0.8, "disk_random": 0.5, "net_receive": 0.5, "net_send": 0.5}
"""The same for single programs: kinds of work on a device have little to do with each other."""
BOOT_MARKS = {"warm": 1.2, "cold": 0.5}
"""QEMU's time from the start of the process to BOOT-OK over ours, at least; `cold` is ours with an empty cache."""
SECOND_CPU_MARK = 1.9
"""Speed of a parallel program on two CPUs over its speed on one, at least."""
START_MARK = 0.25
"""Seconds from the start of the process to the guest's first instructions, at most."""
TRANSLATION_MARK = 64 << 20
"""Bytes of translation for a boot of Linux, at most."""
IDLE_MARK = 0.01
"""Share of a host CPU that an idle Linux takes, at most."""

INNER_MARKS = {Kind.INTEGER: 0.9, Kind.FLOAT: 0.9}
"""Speed of programs in a virtual machine of the guest's KVM over their speed in the guest itself, at least."""
INNER_BOOT_MARK = 3.0
"""Time of a boot in such a machine over the guest's own, at most."""


def host_cpus() -> int:
    """CPUs of the host that this process may use."""
    return len(os.sched_getaffinity(0))


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive numbers."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


@dataclass(frozen=True)
class Sample:
    """Measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of them are smaller."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance from least to greatest, as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True)
class Verdict:
    """A result with its mark; `met` is None where no mark applies."""

    what: str
    value: str
    mark: str = ""
    met: bool | None = None


@dataclass
class CoreResult:
    """Everything measured for one core, by the label of the VMM; the first is compared with, the last is ours."""

    core: str
    vmms: list[str]
    runs: dict[str, list[Run]] = field(default_factory=dict)
    boots: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Seconds to BOOT-OK by temperature of the cache."""
    starts: dict[str, list[float]] = field(default_factory=dict)
    """Seconds to the first instructions of a guest without an operating system."""
    idle: dict[str, list[float]] = field(default_factory=dict)
    native: list[list[Score]] = field(default_factory=list)
    counts: dict[str, dict[str, Counts]] = field(default_factory=dict)
    """What engines of ours counted, by program, and for the `boot`."""
    reports: list[str] = field(default_factory=list)
    """What was to be reported."""
    inside: dict[str, list[Inside]] = field(default_factory=dict)
    reports_inside: list[str] = field(default_factory=list)
    """What both guests were to report, of virtual machines inside."""

    @property
    def ours(self) -> str:
        """The VMM that is judged."""
        return self.vmms[-1]

    @property
    def other(self) -> str | None:
        """The VMM that it is compared with."""
        return self.vmms[0] if len(self.vmms) > 1 else None

    def sample(self, vmm: str, name: str) -> Sample | None:
        """The scores of a program under a VMM."""
        return _sample(score.score for run in self.runs.get(vmm, []) for score in run.scores if score.name == name)

    def native_sample(self, name: str) -> Sample | None:
        """The scores of a program on the host itself."""
        return _sample(score.score for scores in self.native for score in scores if score.name == name)

    def names(self) -> list[Score]:
        """One score of each program, in order, for name, kind and unit."""
        first: dict[str, Score] = {}
        for runs in self.runs.values():
            for run in runs:
                for score in run.scores:
                    first.setdefault(score.name, score)
        return list(first.values())

    def ratio(self, name: str) -> float | None:
        """Our median speed over the other's."""
        if self.other is None:
            return None
        a, b = self.sample(self.ours, name), self.sample(self.other, name)
        return a.median / b.median if a and b else None

    def mean(self, kind: Kind) -> float | None:
        """The geometric mean of the ratios of a kind; speeds of 0 are `wrong`, and left out."""
        known = [ratio for ratio, _ in self.ratios((kind,))]
        return geometric_mean(known) if known else None

    def ratios(self, kinds: Container[Kind]) -> Iterator[tuple[float, str]]:
        """The ratios and names of programs of some kinds."""
        for score in self.names():
            if score.kind in kinds and (ratio := self.ratio(score.name)):
                yield ratio, score.name

    def boot(self, vmm: str, temperature: str) -> Sample | None:
        """Seconds to BOOT-OK."""
        return _sample(self.boots.get(vmm, {}).get(temperature, ()))

    def outer(self, name: str) -> Sample | None:
        """The scores of a program in the guest of ours that has another one inside."""
        return _sample(s.score for run in self.inside.get(self.ours, ()) for s in run.outer if s.name == name)

    def inner(self, name: str) -> Sample | None:
        """The scores of a program in the inner guest."""
        return _sample(s.score for run in self.inside.get(self.ours, ()) for s in run.inner if s.name == name)

    def inner_ratio(self, name: str) -> float | None:
        """The inner guest's median speed over the outer one's."""
        inner, outer = self.inner(name), self.outer(name)
        return inner.median / outer.median if inner and outer and outer.median else None

    def _inner_verdicts(self) -> Iterator[Verdict]:
        runs = self.inside.get(self.ours, ())
        kinds = {score.name: score.kind for run in runs for score in run.inner}
        for kind in PERCENT:
            known = [ratio for name in kinds if kinds[name] is kind and (ratio := self.inner_ratio(name))]
            if known:
                what = f"{kind.value} programs in KVM inside, geometric mean of speeds over the outer guest's"
                yield _verdict(what, geometric_mean(known), INNER_MARKS.get(kind), "{:.2f}", least=True)
        call = self.outer(SYSTEM_CALL)
        for name, what in ((HYPERCALL, "hypercall to KVM and back"), (MONITOR_READ, "device read from KVM's monitor")):
            if trip := self.inner(name):
                calls = f", {call.median / trip.median:.1f} system calls of the outer guest" if call else ""
                yield Verdict(what, f"{1e6 / trip.median:.2f} us{calls}")
        if runs:
            inner = statistics.median(run.inner_boot for run in runs)
            outer = statistics.median(run.outer_boot for run in runs)
            what = f"time of a boot in KVM inside ({inner:.2f} s) over the outer guest's ({outer:.2f} s)"
            yield _verdict(what, inner / outer, INNER_BOOT_MARK, "{:.2f}", least=False)

    def verdicts(self) -> Iterator[Verdict]:
        """Every result that sums something up, against its mark."""
        judged = self.ours.startswith("powervisor") and self.other == "qemu"  # the marks are about that
        for kind in Kind:
            if (mean := self.mean(kind)) is not None:
                mark = MARKS.get(kind) if judged else None
                yield _verdict(f"{kind.value} programs, geometric mean of speeds", mean, mark, "{:.2f}", least=True)
        if lowest := min(self.ratios(MARKS), default=None):
            what = f"{lowest[1]}, the lowest of the programs of kinds with a mark"
            yield _verdict(what, lowest[0], LOWEST_MARK if judged else None, "{:.2f}", least=True)
        for name, least in PROGRAM_MARKS.items():
            if (ratio := self.ratio(name)) is not None:
                yield _verdict(f"{name}, ratio of speeds", ratio, least if judged else None, "{:.2f}", least=True)
        for temperature, mark in BOOT_MARKS.items():
            mine = self.boot(self.ours, temperature)
            theirs = self.other and (self.boot(self.other, temperature) or self.boot(self.other, "warm"))
            if mine and theirs:
                what = f"speed of a boot, {temperature} cache ({mine.median:.2f} s against {theirs.median:.2f} s)"
                yield _verdict(what, theirs.median / mine.median, mark if judged else None, "{:.2f}", least=True)
            elif mine:
                yield Verdict(f"time of a boot, {temperature} cache", f"{mine.median:.2f} s")
        one, two = self.sample(self.ours, ONE), self.sample(self.ours, OTHER)
        if one and two:
            mark = SECOND_CPU_MARK if host_cpus() > 1 else None
            yield _verdict("two CPUs over one, parallel program", two.median / one.median, mark, "{:.2f}", least=True)
        if start := _sample(self.starts.get(self.ours, ())):
            yield _verdict("start to first instructions, warm", start.median, START_MARK, "{:.3f} s", least=False)
        if idle := _sample(self.idle.get(self.ours, ())):
            yield _verdict("host CPU of an idle Linux", 100 * idle.median, 100 * IDLE_MARK, "{:.2f} %", least=False)
        if boot := self.counts.get(self.ours, {}).get("boot"):
            size, most = boot["translation-bytes"] / (1 << 20), TRANSLATION_MARK / (1 << 20)
            yield _verdict("memory of translation, boot of Linux", size, most, "{:.1f} MiB", least=False)
        yield from self._inner_verdicts()

    def wrong(self) -> list[str]:
        """Programs that are not there or whose results differ: from the right ones, or among the VMMs and the host.

        A check without a known right result may differ on the host where the host's kernel is asked (page size).
        """
        said: dict[str, dict[str, set[str]]] = {}
        runs = [(vmm, run.scores) for vmm, runs in self.runs.items() for run in runs]
        for who, scores in [*runs, *(("native", scores) for scores in self.native)]:
            for score in scores:
                if who == "native" and score.kind is Kind.SYSTEM and not score.expected:
                    continue
                said.setdefault(score.name, {}).setdefault(score.check, set()).add(who)
                if score.expected:
                    said[score.name].setdefault(score.expected, set()).add("right")
        differing = [
            f"{name}: " + ", ".join(f"{check} ({' '.join(sorted(who))})" for check, who in checks.items())
            for name, checks in said.items()
            if len(checks) > 1
        ]
        lost = []
        for vmm in self.runs:
            for name in self.reports:
                sample = self.sample(vmm, name)
                if sample is None:
                    lost.append(f"{name}: no result ({vmm})")
                elif min(sample.values) == 0:
                    lost.append(f"{name}: no speed at all ({vmm}): its clock or its floating point is wrong")
        return differing + lost + self._wrong_inside()

    def _wrong_inside(self) -> list[str]:
        """What one of the two guests did not report, or reported otherwise."""
        said = []
        for vmm, runs in self.inside.items():
            for run in runs:
                inner, outer = ({score.name: score for score in scores} for scores in (run.inner, run.outer))
                for name in self.reports_inside:
                    if name not in inner or name not in outer:
                        said.append(f"{name}: no result ({vmm}, {'outer' if name in inner else 'inner'} guest)")
                    elif inner[name].check != outer[name].check:
                        said.append(f"{name}: {inner[name].check} (inner), {outer[name].check} (outer guest)")
                said += [f"{score.name}: {score.check}" for score in inner.values() if score.wrong]
                said += [f"{name}: no result ({vmm})" for name in (HYPERCALL, MONITOR_READ) if name not in inner]
        return list(dict.fromkeys(said))

    def json(self) -> dict[str, Any]:
        """Everything, raw and derived."""
        return {
            "core": self.core,
            "vmms": self.vmms,
            "scores": {
                score.name: {
                    "kind": score.kind.value,
                    "unit": score.unit,
                    **{vmm: list(sample.values) for vmm in self.vmms if (sample := self.sample(vmm, score.name))},
                    **({"native": list(sample.values)} if (sample := self.native_sample(score.name)) else {}),
                    "ratio": self.ratio(score.name),
                }
                for score in self.names()
            },
            "boots_s": self.boots,
            "starts_s": self.starts,
            "idle_share": self.idle,
            "geometric_means": {kind.value: mean for kind in Kind if (mean := self.mean(kind)) is not None},
            "marks": [
                {"what": verdict.what, "value": verdict.value, "mark": verdict.mark, "met": verdict.met}
                for verdict in self.verdicts()
            ],
            "counts": self.counts,
            "inside": {
                vmm: [
                    {
                        "boots_s": {"outer": run.outer_boot, "inner": run.inner_boot},
                        "scores": {
                            who: {score.name: score.score for score in scores}
                            for who, scores in (("outer", run.outer), ("inner", run.inner))
                        },
                    }
                    for run in runs
                ]
                for vmm, runs in self.inside.items()
            },
            "wrong_results": self.wrong(),
        }


def _sample(values: Iterable[float]) -> Sample | None:
    numbers = tuple(values)
    return Sample(numbers) if numbers else None


def _verdict(what: str, value: float, mark: float | None, form: str, least: bool) -> Verdict:
    if mark is None:
        return Verdict(what, form.format(value))
    met = value >= mark if least else value <= mark
    return Verdict(what, form.format(value), f"{'>=' if least else '<='} {mark:g}", met)


def differences(results: Sequence[CoreResult]) -> list[str]:
    """Results that are not right everywhere: a wrong guest is worse than a slow one."""
    return [f"{result.core} {line}" for result in results for line in result.wrong()]
