"""A running machine in the terminal, as `top` shows processes: rates of the last interval, times since we look."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .control import Remote
from .distribution import Json
from .tables import SHARES, merged, microseconds, native_counts, register_rows, source_rows

BAR = 30
"""Characters of a vCPU's bar."""
STYLES = {"guest": "green", "vmm": "red", "waiting": "blue", "held": "bright_black", "stopped": "yellow"}
ROWS = 10
TOP_ROWS = 20
"""Registers, where there is room."""


def show(remote: Remote, title: str, interval: float) -> None:
    """Until `q` or Ctrl-C, or the machine ends (Gone)."""
    console, before = Console(), remote.ask("statistics")
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(Text(f"{title}: looking for {interval:g} s ..."), refresh=True)
        while not pressed(interval):
            now = remote.ask("statistics")
            live.update(view(title, before, now, console.height), refresh=True)
            before = now


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds and tells whether `q` was typed; the terminal is given back."""
    fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
    before = termios.tcgetattr(fd) if fd >= 0 else None

    def pressed(seconds: float) -> bool:
        ready, _, _ = select.select([fd] if fd >= 0 else [], [], [], seconds)
        return bool(ready) and os.read(fd, 64)[:1].lower() in (b"q", b"")

    try:
        if before is not None:
            tty.setcbreak(fd)
        yield pressed
    finally:
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def view(title: str, before: Json, now: Json, height: int = 50) -> RenderableType:
    """What happened between two answers."""
    seconds = max(now["measured"] - before["measured"], 1e-3)
    head = Text.assemble((title, "bold"), f"   up {now['seconds']:.0f} s   times in µs   q leaves")
    timing = merged([vcpu["timing"] for vcpu in now["vcpus"]])
    old = merged([vcpu["timing"] for vcpu in before["vcpus"]])
    exits = _table("exits", "per s", "min", "mean", "p50", "p90", "p99", "max", "% of time")
    spent = {name: told["sum"] - old.get(name, {}).get("sum", 0) for name, told in timing.items()}
    total = seconds * 1e9 * len(now["vcpus"])
    for name, ns in sorted(spent.items(), key=lambda item: -item[1]):
        told = timing[name]
        rate = (told["count"] - old.get(name, {}).get("count", 0)) / seconds
        times = (microseconds(told[column]) for column in ("min", "mean", "p50", "p90", "p99", "max"))
        exits.add_row(name, f"{rate:.0f}", *times, f"{100 * ns / total:.1f}")
    latency = _table("latency", "count", "min", "p50", "p90", "p99", "max")
    for name, told in merged([vcpu["latency"] for vcpu in now["vcpus"]]).items():
        times = (microseconds(told[column]) for column in ("min", "p50", "p90", "p99", "max"))
        latency.add_row(name, str(told["count"]), *times)
    native = _table("native", "per s")
    new, past = _native(now), _native(before)
    for name, count in sorted(new.items(), key=lambda item: past[item[0]] - item[1])[:ROWS]:
        native.add_row(name, f"{max(count - past[name], 0) / seconds:.0f}")
    registers = _table("device", "register", "reads", "writes", "native", "mean", "p99", "sum", left=2)
    rows = max(min(height - len(now["vcpus"]) - len(timing) - 22, TOP_ROWS), 3)
    for row in register_rows(now, rows):
        registers.add_row(*row)
    sources = _table("source", "device", "count", "min", "p50", "p99", "max", left=2)
    for row in source_rows(now, 6):
        sources.add_row(*row)
    side_by_side = Table.grid(padding=(0, 3))
    side_by_side.add_row(native, Group(latency, Text(), sources))
    return Group(head, Text(), *_bars(before, now), Text(), exits, Text(), side_by_side, Text(), registers)


def _native(statistics: Json) -> Counter[str]:
    counts = Counter[str]()
    for vcpu in statistics["vcpus"]:
        counts.update(native_counts(vcpu))
    return counts


def _table(first: str, *more: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for n, name in enumerate((first, *more)):
        table.add_column(name, justify="left" if n < left else "right", no_wrap=True)
    return table


def _bars(before: Json, now: Json) -> Iterator[Text]:
    """A line for each vCPU: what it did with its time."""
    for index, (old, new) in enumerate(zip(before["vcpus"], now["vcpus"], strict=True)):
        times = {name: max(new["time"][name] - old["time"][name], 0.0) for name in SHARES}
        total = sum(times.values()) or 1.0
        line, drawn, seen = Text(f"cpu{index:<3}"), 0, 0.0
        for name in SHARES:
            seen += times[name]
            end = round(BAR * seen / total)
            line.append("█" * (end - drawn), STYLES[name])
            drawn = end
        instructions = new["counters"]["instructions"] - old["counters"]["instructions"]
        for n, name in enumerate(SHARES):
            share = 100 * times[name] / total
            if n < 3 or share >= 0.05:
                line.append(f"  {name} ", STYLES[name]).append(f"{share:5.1f} %")
        line.append(f"  {max(instructions, 0) / max(total, 1e-3) / 1e6:7.1f} MIPS")
        yield line
