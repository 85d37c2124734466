"""Medians, ratios and means of what was measured, as tables and as JSON."""

import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.machines import Run
from bench.programs import Kind, Score

MARKS = {Kind.INTEGER: 0.9, Kind.FLOAT: 4.0}
"""Ours over QEMU's, at least."""
BOOT_MARKS = {"warm": 1.5, "cold": 4.0}
"""Ours over QEMU's boot time, at most."""


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive numbers."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


@dataclass
class CoreResult:
    """Everything measured for one core: runs by VMM, boots by VMM and temperature, the host's own scores."""

    core: str
    vmms: list[str]
    runs: dict[str, list[Run]] = field(default_factory=dict)
    boots: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    native: list[Score] = field(default_factory=list)

    def score(self, vmm: str, name: str) -> float | None:
        """The median score of a program."""
        scores = [score.score for run in self.runs.get(vmm, []) for score in run.scores if score.name == name]
        return statistics.median(scores) if scores else None

    def names(self) -> list[Score]:
        """One score of each program, in order, for name, kind and unit."""
        first: dict[str, Score] = {}
        for runs in self.runs.values():
            for run in runs:
                for score in run.scores:
                    first.setdefault(score.name, score)
        return list(first.values())

    def ratio(self, name: str, ours: str, other: str) -> float | None:
        """Ours over the other's median; more than 1 is faster."""
        a, b = self.score(ours, name), self.score(other, name)
        return a / b if a and b else None

    def mean(self, kind: Kind, ours: str, other: str) -> float | None:
        """The geometric mean of the ratios of a kind."""
        ratios = [self.ratio(score.name, ours, other) for score in self.names() if score.kind is kind]
        known = [ratio for ratio in ratios if ratio is not None]
        return geometric_mean(known) if known else None

    def boot(self, vmm: str, temperature: str) -> float | None:
        """The median seconds to BOOT-OK."""
        times = self.boots.get(vmm, {}).get(temperature)
        return statistics.median(times) if times else None

    def wrong(self) -> list[str]:
        """Programs whose results differ among the VMMs and the host, with who says what.

        The system programs count what the host's kernel may do otherwise (page size), so the host has no say there.
        """
        said: dict[str, dict[str, set[str]]] = {}
        for vmm, runs in self.runs.items():
            for run in runs:
                for score in run.scores:
                    said.setdefault(score.name, {}).setdefault(score.check, set()).add(vmm)
        for score in self.native:
            if score.kind is not Kind.SYSTEM and score.name in said:
                said[score.name].setdefault(score.check, set()).add("native")
        return [
            f"{name}: " + ", ".join(f"{check} ({' '.join(sorted(who))})" for check, who in checks.items())
            for name, checks in said.items()
            if len(checks) > 1
        ]

    def json(self) -> dict[str, Any]:
        """Everything, raw and derived."""
        ours, other = self.vmms[-1], self.vmms[0]
        return {
            "core": self.core,
            "vmms": self.vmms,
            "runs": {
                vmm: [{"boot_s": run.boot, "scores": {s.name: s.score for s in run.scores}} for run in runs]
                for vmm, runs in self.runs.items()
            },
            "boots_s": self.boots,
            "native": {score.name: score.score for score in self.native},
            "ratios": {score.name: self.ratio(score.name, ours, other) for score in self.names()},
            "geometric_means": {kind.value: self.mean(kind, ours, other) for kind in Kind},
            "wrong_results": self.wrong(),
        }


def show(result: CoreResult) -> None:
    """Print the tables of a core."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=110)
    ours, other = result.vmms[-1], result.vmms[0]
    table = Table(title=f"{result.core}: programs, median of {len(result.runs.get(ours, []))}", title_justify="left")
    table.add_column("program")
    for heading in ("kind", "unit", *(["native"] if result.native else []), *result.vmms, f"{ours} / {other}"):
        table.add_column(heading, justify="left" if heading in ("kind", "unit") else "right")
    native = {score.name: score.score for score in result.native}
    for score in result.names():
        cells = [score.name, score.kind.value, score.unit]
        if result.native:
            cells.append(_number(native.get(score.name)))
        cells += [_number(result.score(vmm, score.name)) for vmm in result.vmms]
        table.add_row(*cells, _ratio(result.ratio(score.name, ours, other)))
    if result.names():
        console.print(table)
    judged = ours.startswith("powervisor") and other == "qemu"  # what the marks are about
    summary = Table(title=f"{result.core}: {ours} / {other}", title_justify="left")
    for heading in ("what", "ratio", "mark"):
        summary.add_column(heading, justify="left" if heading == "what" else "right")
    for kind in Kind:
        if (mean := result.mean(kind, ours, other)) is not None:
            mark = _mark(mean, MARKS.get(kind)) if judged else ""
            summary.add_row(f"{kind.value}, geometric mean of speeds", _ratio(mean), mark)
    for temperature, limit in BOOT_MARKS.items():
        mine, theirs = result.boot(ours, temperature), result.boot(other, temperature) or result.boot(other, "warm")
        if mine and theirs:
            ratio = mine / theirs
            what = f"time to BOOT-OK, {temperature} cache ({mine:.2f} s / {theirs:.2f} s)"
            summary.add_row(what, _ratio(ratio), _mark(ratio, limit, most=True) if judged else "")
    console.print(summary)
    for line in result.wrong():
        console.print(f"[bold red]different results[/]: {line}", highlight=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _mark(value: float, mark: float | None, most: bool = False) -> str:
    if mark is None:
        return ""
    met = value <= mark if most else value >= mark
    return f"[{'green' if met else 'red'}]{'<=' if most else '>='} {mark:g}[/]"


def differences(results: Sequence[CoreResult]) -> list[str]:
    """Results that differ between platforms: a wrong guest is worse than a slow one."""
    return [f"{result.core} {line}" for result in results for line in result.wrong()]
