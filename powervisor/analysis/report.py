"""A page about a run: what its vCPUs did with their time, why they left the guest, how late interrupts came.

One file, without scripts and without anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from . import plots
from .distribution import Distribution, Json
from .tables import (
    COLUMNS,
    NATIVE,
    NATIVE_COLUMNS,
    REGISTER_COLUMNS,
    SHARES,
    SOURCE_COLUMNS,
    merged,
    microseconds,
    native_counts,
    native_rows,
    register_rows,
    shares,
    source_rows,
    timing_rows,
)
from .timing import exit_type

SHOWN = 15
"""Rows of a table before the rest is folded."""
MOST_ROWS = 2000
PAINT = dict(zip(SHARES, ("var(--s2)", "var(--s4)", "var(--s1)", "var(--s8)", "var(--s3)"), strict=True))
MEANINGS = {
    "guest": "executing guest code",
    "vmm": "answering exits",
    "waiting": "in wait, or idle by hypercall",
    "held": "in reset, in the spin table, or a disabled thread",
    "stopped": "by a debugger, or while all vCPUs were held",
}


def page(statistics: Json) -> str:
    """The page for a document that `record.load` found sound."""
    told = statistics["machine"]
    cpus = told["cores"] * told["threads"]
    title = f"{told['name'] or told['board']}: {cpus} x {told['cpu']}, {told['memory'] >> 20} MiB"
    written = f"powervisor {statistics['powervisor']}: powervisor run -stat, powervisor report"
    state = "whole run" if statistics["ended"] else "still running when this was written"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(told['board'])}, measured for {statistics['measured']:.1f} s ({state}). "
        "Times of exits are from leaving native code to the answer.</p>",
        _tiles(statistics),
        *_over_time(statistics),
        *_vcpus(statistics),
        *_latencies(statistics),
        *_registers(statistics),
    ]
    css = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n<footer>{escape(written)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _tiles(statistics: Json) -> str:
    vcpus, seconds = statistics["vcpus"], max(statistics["measured"], 1e-3)
    spent = shares({name: sum(vcpu["time"][name] for vcpu in vcpus) for name in SHARES})
    instructions = sum(vcpu["counters"]["instructions"] for vcpu in vcpus)
    exits = sum(
        part["count"] for name, part in merged([vcpu["timing"] for vcpu in vcpus]).items() if name not in INSIDE
    )
    late = merged([vcpu["latency"] for vcpu in vcpus])
    tiles = [
        (f"{spent['guest']:.1f} %", "of vCPU time in the guest"),
        (f"{spent['vmm']:.1f} %", "answering exits"),
        (f"{spent['waiting']:.1f} %", "waiting"),
        (plots.short(instructions), "instructions"),
        (plots.short(exits / seconds), "exits a second"),
    ]
    tiles += [
        (plots.duration(late[name]["p99"]), f"p99 of {label}")
        for name, label in (("EXTINT", "external interrupts"), ("DEC", "the decrementer"))
        if name in late
    ]
    shown = "".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in tiles)
    return f'<div class="tiles">{shown}</div>'


FEW = 10
"""Fewer make no plot."""
INSIDE = ("TIMEINGUEST", "HALT")
"""Types that are no exits."""


def _over_time(statistics: Json) -> Iterable[str]:
    samples = statistics["samples"]
    seconds = samples["seconds"]
    time = _rates(seconds, samples.get("time", {}))
    whole = [sum(values) or 1.0 for values in zip(*time.values(), strict=True)]
    split = {
        name: [100 * value / total for value, total in zip(time[name], whole, strict=True)]
        for name in SHARES
        if name in time
    }
    exits: dict[str, list[float]] = {}
    for reason, rates in _rates(seconds, samples.get("exits", {})).items():
        name = exit_type(reason)
        exits[name] = [a + b for a, b in zip(exits.get(name, [0.0] * len(rates)), rates, strict=True)]
    interrupts = plots.largest_first(
        {
            NATIVE.get(name, name.upper()): rates
            for name, rates in _rates(seconds, samples.get("interrupts", {})).items()
        }
    )
    instructions = {"MIPS": [rate / 1e6 for rate in _rates(seconds, samples.get("counts", {})).get("instructions", [])]}
    exits = plots.largest_first(exits)
    paint = [PAINT[name] for name in split]
    yield "<h2>Over time</h2>"
    yield '<div class="grid">'
    yield _card("vCPU time", plots.stacked(seconds, split, lambda value: f"{value:.3g} %", paint, limit=100))
    yield _card("exits a second, by reason", plots.stacked(seconds, exits, plots.short))
    yield _card("interrupts a second, by kind", plots.stacked(seconds, interrupts, plots.short))
    yield _card("million instructions a second, all vCPUs", plots.stacked(seconds, instructions, plots.short))
    yield "</div>"


def _rates(seconds: Sequence[float], columns: Json) -> dict[str, list[float]]:
    """Increments a second of what was counted; counts of a vCPU begin anew when it is reset."""
    steps = [max(end - begin, 1e-3) for begin, end in zip(seconds, seconds[1:], strict=False)]
    return {
        name: [max(after - before, 0) / step for before, after, step in zip(column, column[1:], steps, strict=False)]
        for name, column in columns.items()
    }


def _vcpus(statistics: Json) -> Iterable[str]:
    vcpus = statistics["vcpus"]
    timing = merged([vcpu["timing"] for vcpu in vcpus])
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items())
    yield "<h2>Where the time went</h2>"
    yield f"<p>{escape(meanings)}.</p>"
    rows = [(f"cpu{n}", shares(vcpu["time"])) for n, vcpu in enumerate(vcpus)]
    yield _card("", plots.bars(rows, PAINT))
    yield "<h2>Exit timing</h2>"
    yield "<p>Types and columns are those of KVM's exit timing for Book E where it has them; times in µs.</p>"
    yield '<div class="grid">'
    largest = sorted((name for name in timing if timing[name]["count"]), key=lambda name: -timing[name]["sum"])
    for name in [name for name in largest if name not in INSIDE and timing[name]["count"] >= FEW][:4]:
        yield _card(f"{name}: {timing[name]['count']}", plots.histogram(Distribution.of_json(timing[name])))
    yield "</div><br>"
    if len(vcpus) > 1:
        yield _table("all vCPUs", ("type", *COLUMNS), timing_rows(timing), left=1)
    for n, vcpu in enumerate(vcpus):
        yield _table(f"cpu{n}", ("type", *COLUMNS), timing_rows(vcpu["timing"]), left=1, folded=len(vcpus) > 4)
    yield "<h2>Taken natively</h2>"
    yield (
        "<p>What native code did without an exit, since the vCPU was reset last. DTLBREAL and ITLBREAL are "
        "refills of the soft TLB, DTLBVIRT and ITLBVIRT the guest's own TLB misses.</p>"
    )
    counts = [native_counts(vcpu) for vcpu in vcpus]
    names = sorted({name for count in counts for name in count}, key=lambda name: -sum(c.get(name, 0) for c in counts))
    rows_ = [[name, *(str(count.get(name, 0)) for count in counts)] for name in names]
    yield _table("", ("type", *(f"cpu{n}" for n in range(len(vcpus)))), rows_, left=1)


def _latencies(statistics: Json) -> Iterable[str]:
    vcpus = statistics["vcpus"]
    late = merged([vcpu["latency"] for vcpu in vcpus])
    yield "<h2>Interrupt latency</h2>"
    yield (
        "<p>EXTINT: from the source being pending and unmasked at the interrupt controller to the first instruction of "
        "the handler. Timers: from their deadline. DBELL: from msgsnd. The time that the guest keeps interrupts "
        "disabled is part of it.</p>"
    )
    yield '<div class="grid">'
    for name, told in late.items():
        yield _card(f"{name}: {told['count']}", plots.histogram(Distribution.of_json(told)))
    yield "</div><br>"
    rows = [[f"cpu{n}", *row] for n, vcpu in enumerate(vcpus) for row in timing_rows(vcpu["latency"])]
    yield _table("by vCPU", ("cpu", "kind", *COLUMNS), rows, left=2)
    yield _table("by source", SOURCE_COLUMNS, source_rows(statistics, MOST_ROWS), left=2)


def _registers(statistics: Json) -> Iterable[str]:
    devices: dict[str, list[Json]] = {}
    for row in statistics["registers"]:
        devices.setdefault(row["device"], []).append(row)
    totals = []
    for device, rows in devices.items():
        parts = {kind: [Distribution.of_json(row[kind]) for row in rows if kind in row] for kind in ("reads", "writes")}
        both = Distribution.of_all(part for several in parts.values() for part in several)
        native = sum(row.get("native-reads", 0) + row.get("native-writes", 0) for row in rows)
        counts = [str(sum(part.count for part in several)) for several in parts.values()]
        times = (
            [microseconds(ns) for ns in (both.total / both.count, *both.percentiles(99), both.total)]
            if both.count
            else [""] * 3
        )
        totals.append((both.total, native, [device, *counts, str(native), *times]))
    totals.sort(reverse=True)
    yield "<h2>Devices</h2>"
    yield "<p>Accesses that left native code, with their handling times in µs, and those that native code answered.</p>"
    columns = tuple(name for name in REGISTER_COLUMNS if name != "register")
    yield _table("", columns, [row for _, _, row in totals], left=1)
    yield "<h2>Registers</h2>"
    yield _table("by time", REGISTER_COLUMNS, register_rows(statistics, MOST_ROWS), left=2)
    yield _table("answered by native code", NATIVE_COLUMNS, native_rows(statistics, MOST_ROWS), left=2)


def _card(title: str, inside: str) -> str:
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="card">{head}{inside}</div>'


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int, folded: bool = False) -> str:
    if not rows:
        return _card(title, '<p class="none">nothing was counted</p>')
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    shown = 0 if folded else SHOWN if len(lines) > SHOWN + 3 else len(lines)

    def whole(part: Sequence[str]) -> str:
        body = "".join(part)
        return f'<div class="wide"><table class="l{left}"><tr>{head}</tr>{body}</table></div>'

    inside = whole(lines[:shown]) if shown else ""
    if rest := lines[shown:]:
        inside += f"<details><summary>{len(rest)} {'more ' if shown else ''}rows</summary>{whole(rest)}</details>"
    return _card(title, inside) + "<br>"
