"""What was measured as tables: on the terminal, and as docs/benchmarks.md."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.counters import LEVELS, Counts, rates
from bench.machines import QEMU, TREE, qemu_installed
from bench.report import CoreResult, Sample, Verdict, host_cpus


@dataclass(frozen=True)
class Table:
    """A title, headings and rows of text; numbers stand to the right."""

    title: str
    headings: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    words: int = 1
    """The first columns, which hold words."""


def program_table(result: CoreResult) -> Table:
    """The programs' speeds under each VMM and on the host."""
    ratio = [f"{result.ours} / {result.other}"] if result.other else []
    native = ["native"] if result.native else []
    headings = ["program", "class", "unit", *native, *result.vmms, *ratio]
    rounds = max(
        (len(sample.values) for s in result.names() if (sample := result.sample(result.ours, s.name))), default=0
    )
    table = Table(f"{result.core}: programs, median of {rounds}", headings, words=3)
    for score in result.names():
        row = [score.name, score.kind.value, score.unit]
        row += [_speed(result.native_sample(score.name))] if native else []
        row += [_speed(result.sample(vmm, score.name)) for vmm in result.vmms]
        known = result.ratio(score.name)
        table.rows.append(row + (["-" if known is None else f"{known:.2f}"] if ratio else []))
    return table


def inside_table(result: CoreResult) -> Table:
    """The programs' speeds in a virtual machine of the guest's KVM and in the guest itself."""
    runs = result.inside.get(result.ours, [])
    headings = ["program", "class", "unit", "outer guest", "inner guest", "inner / outer"]
    table = Table(f"{result.core}: KVM inside, median of {len(runs)}", headings, words=3)
    for score in {score.name: score for run in runs for score in run.inner}.values():
        speeds = [_speed(result.outer(score.name)), _speed(result.inner(score.name))]
        known = result.inner_ratio(score.name)
        row = [score.name, score.kind.value, score.unit, *speeds, "-" if known is None else f"{known:.2f}"]
        table.rows.append(row)
    return table


def verdict_table(result: CoreResult) -> Table:
    """The sums of a core against their marks."""
    against = f" against {result.other}" if result.other else ""
    table = Table(f"{result.core}: {result.ours}{against}", ["what", "result", "mark", ""])
    table.rows.extend([verdict.what, verdict.value, verdict.mark, _met(verdict)] for verdict in result.verdicts())
    return table


def count_table(result: CoreResult, wide: bool = True) -> Table:
    """What our engine counted, a row for each program and the boot; a `wide` table has every counter."""
    counted = result.counts.get(result.ours, {})
    names = _counters(counted) if wide else []
    headings = ["during", "s", "instructions", "M/s", *names, "code KiB", "exits/s"]
    table = Table(f"{result.core}: counted by the engine", headings)
    for during, counts in counted.items():
        instructions = counts.get("instructions", 0)
        row = [
            during,
            f"{counts['seconds']:.2f}",
            _short(instructions),
            f"{instructions / counts['seconds'] / 1e6:.0f}",
        ]
        row += [_short(counts.get(name, 0)) for name in names]
        table.rows.append([*row, f"{counts['code-bytes'] / 1024:.0f}", _exits(counts)])
    return table


def count_ratio_table(result: CoreResult) -> Table:
    """Our counts over those of another revision."""
    ours, other = result.counts.get(result.ours, {}), result.counts.get(result.other or "", {})
    names = ["instructions", *_counters(ours), "code-bytes", "translation-bytes"]
    table = Table(f"{result.core}: counted by the engine, {result.ours} / {result.other}", ["during", *names])
    for during in ours:
        if during in other:
            pairs = [(ours[during].get(name, 0), other[during].get(name, 0)) for name in names]
            table.rows.append([during, *(f"{a / b:.2f}" if b else "-" for a, b in pairs)])
    return table


def _counters(counted: Mapping[str, Counts]) -> list[str]:
    """The engine's own counters, whatever their names."""
    others = ("seconds", "instructions", *LEVELS)
    names = dict.fromkeys(name for counts in counted.values() for name in counts if not name.startswith("exit-"))
    return [name for name in names if name not in others]


def _exits(counts: Counts) -> str:
    return " ".join(f"{reason}:{_short(rate)}" for reason, rate in rates(counts)) or "-"


def _speed(sample: Sample | None) -> str:
    if sample is None:
        return "-"
    number = f"{sample.median:,.0f}" if sample.median >= 100 else f"{sample.median:.3g}"
    return number + (f" ±{100 * sample.spread:.0f}%" if len(sample.values) > 1 else "")


def _short(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 10:
            return f"{value / size:.0f}{unit}"
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _met(verdict: Verdict) -> str:
    return "" if verdict.met is None else "met" if verdict.met else "missed"


def tables(result: CoreResult, wide: bool = True) -> list[Table]:
    """All the tables of a core that have rows."""
    found = (
        program_table(result),
        inside_table(result),
        verdict_table(result),
        count_table(result, wide),
        count_ratio_table(result),
    )
    return [table for table in found if table.rows]


def show(result: CoreResult) -> None:
    """Print the tables of a core."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console() if sys.stdout.isatty() else Console(width=160)
    for table in tables(result, wide=False):
        grid = Grid(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
        for index, heading in enumerate(table.headings):
            grid.add_column(heading.replace("-", " "), justify="left" if index < table.words else "right")
        for row in table.rows:
            grid.add_row(*({"met": "[green]met[/]", "missed": "[red]missed[/]"}.get(cell, cell) for cell in row))
        console.print(grid)
    for line in result.wrong():
        console.print(f"[bold red]wrong result[/] {result.core} {line}", highlight=False)


def host() -> dict[str, str]:
    """What the numbers depend on besides us."""
    model = ""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    with open("/proc/loadavg", encoding="ascii") as file:
        load = file.read().split()[0]
    found = {
        "processor": f"{model}, {host_cpus()} CPUs",
        "kernel": f"{platform.system()} {platform.release()}",
    }
    if qemu_installed():
        found["qemu"] = _first_line([QEMU, "--version"])
    revision = _first_line(["git", "-C", str(TREE), "describe", "--always", "--dirty"])
    return {**found, "python": platform.python_version(), "revision": revision, "load at the start": load}


def _first_line(command: list[str]) -> str:
    try:
        return (subprocess.run(command, capture_output=True, text=True).stdout.splitlines() or ["?"])[0]
    except OSError:
        return "?"


def document(results: Sequence[CoreResult], conditions: Mapping[str, str], rounds: int) -> str:
    """docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`, not by hand. The same kernel and programs (bench/programs), {rounds} times each,",
        "turn by turn; medians, with half the distance from least to greatest behind ±. Speeds are work per second",
        "inside the guest, ratios are our speed over QEMU's in the same run. A class is the geometric mean of its",
        "programs' ratios. Our caches are warm: everything has been run once before. Counters are from a run of their",
        "own.",
        "",
        *(f"- {name}: {value}" for name, value in conditions.items()),
    ]
    for result in results:
        for table in tables(result):
            lines += ["", f"## {table.title}", "", *_markdown(table)]
        lines += ["", *(f"**Wrong result**: {line}" for line in result.wrong())] if result.wrong() else []
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> list[str]:
    rules = ["---" if index < table.words else "--:" for index in range(len(table.headings))]
    return ["| " + " | ".join(row) + " |" for row in (table.headings, rules, *table.rows)]
