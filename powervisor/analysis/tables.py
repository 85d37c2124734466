"""Statistics as tables for terminals: KVM's exit timing per vCPU, latencies, registers, interrupt sources."""

from __future__ import annotations

from collections.abc import Sequence

from ..machine import Machine
from .distribution import Distribution, Json

COLUMNS = ("count", "min", "max", "mean", "p50", "p90", "p99", "sum", "sum_squared")
NATIVE = {
    "soft-fills": "DTLBREAL", "code-lookups": "ITLBREAL", "dtlb_v": "DTLBVIRT", "itlb_v": "ITLBVIRT", "sysc": "SYSCALL",
    "isi": "ISI", "dsi": "DSI", "dec": "DEC", "ext_intr": "EXTINT", "fp_unavail": "FP_UNAVAIL", "doorbell": "DBELL",
    "guest doorbell": "GDBELL", "halts": "HALT", "hypercalls": "HCALL",
}  # fmt: skip
"""KVM's types of what takes no exit here, by the names of our counters and interrupts."""
SHARES = ("guest", "vmm", "waiting", "held", "stopped")
TOP = 20
"""Registers and sources shown."""


def microseconds(ns: float) -> str:
    """A time in µs with three digits that mean something."""
    value = ns / 1000
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def shares(times: Json) -> dict[str, float]:
    """Each part of a vCPU's time in percent."""
    total = sum(times.values()) or 1.0
    return {name: 100 * times[name] / total for name in SHARES}


def share_text(times: Json) -> str:
    """The same in words; parts that are nothing are left out but for the first three."""
    told = shares(times)
    return ", ".join(f"{name} {told[name]:.1f} %" for n, name in enumerate(SHARES) if n < 3 or told[name] >= 0.05)


def native_counts(vcpu: Json) -> dict[str, int]:
    """What one vCPU met without an exit, by KVM's types where there is one, most frequent first."""
    counts = {name: count for name, count in vcpu["counters"].items() if name in NATIVE} | vcpu["interrupts"]
    named: dict[str, int] = {}
    for name, count in counts.items():
        label = NATIVE.get(name, name.upper())
        named[label] = named.get(label, 0) + count
    return {name: count for name, count in sorted(named.items(), key=lambda item: -item[1]) if count}


def timing_rows(parts: Json) -> list[list[str]]:
    """A row for each type: its name, and `COLUMNS` in µs; what took longest together first."""
    rows = []
    for name, told in sorted(parts.items(), key=lambda item: -item[1].get("sum", 0)):
        if told["count"]:
            times = [microseconds(told[column]) for column in COLUMNS[1:-1]]
            rows.append([name, str(told["count"]), *times, str(told["sum_squared"])])
    return rows


def merged(parts: Sequence[Json]) -> Json:
    """Distributions by name, of several vCPUs together."""
    found: dict[str, Distribution] = {}
    for part in parts:
        for name, told in part.items():
            found.setdefault(name, Distribution()).merge(Distribution.of_json(told))
    return {name: distribution.json() for name, distribution in found.items()}


def register_rows(statistics: Json, most: int = TOP) -> list[list[str]]:
    """Device, register, reads, writes, native accesses, mean, p99 and sum of the handling time in µs."""
    rows = []
    for row in statistics["registers"][:most]:
        both = Distribution.of_all(Distribution.of_json(row[kind]) for kind in ("reads", "writes") if kind in row)
        times = (
            [microseconds(ns) for ns in (both.total / both.count, *both.percentiles(99), both.total)]
            if both.count
            else [""] * 3
        )
        reads, writes = (str(row[kind]["count"]) if kind in row else "" for kind in ("reads", "writes"))
        native = row.get("native-reads", 0) + row.get("native-writes", 0)
        rows.append([row["device"], row["register"], reads, writes, str(native or ""), *times])
    return rows


REGISTER_COLUMNS = ("device", "register", "reads", "writes", "native", "mean", "p99", "sum")


def source_rows(statistics: Json, most: int = TOP) -> list[list[str]]:
    """Source, device, interrupts, and how late they were taken, in µs."""
    rows = []
    for row in statistics["sources"][:most]:
        late = row.get("latency")
        times = [microseconds(late[column]) for column in ("min", "p50", "p99", "max")] if late else [""] * 4
        rows.append([row["source"], row["device"], str(row["delivered"]), *times])
    return rows


SOURCE_COLUMNS = ("source", "device", "count", "min", "p50", "p99", "max")


def native_rows(statistics: Json, most: int = TOP) -> list[list[str]]:
    """Device, register, reads and writes that native code answered, the most frequent first."""
    rows = [row for row in statistics["registers"] if "native-reads" in row]
    rows.sort(key=lambda row: -row["native-reads"] - row["native-writes"])
    return [[r["device"], r["register"], str(r["native-reads"]), str(r["native-writes"])] for r in rows[:most]]


NATIVE_COLUMNS = ("device", "register", "reads", "writes")


def exits_text(machine: Machine) -> str:
    """What the monitor's `info exits` shows: with times while anybody measures, else counts only."""
    return text(machine.statistics())


def text(statistics: Json) -> str:
    """All of it."""
    measured = "measured" in statistics
    lines = []
    for index, vcpu in enumerate(statistics["vcpus"]):
        head = f"cpu{index}: {vcpu['counters']['instructions']} instructions"
        lines.append(f"{head}; {share_text(vcpu['time'])}" if measured else head)
        if measured:
            lines += table([("type", *COLUMNS), *timing_rows(vcpu["timing"])], left=1)
        else:
            lines += table([("exit", "count"), *((name, str(count)) for name, count in vcpu["exits"].items())], left=1)
        lines += table(
            [("native", "count"), *((name, str(count)) for name, count in native_counts(vcpu).items())], left=1
        )
        if measured and vcpu["latency"]:
            lines += table([("latency", *COLUMNS), *timing_rows(vcpu["latency"])], left=1)
        lines.append("")
    if measured:
        lines += [*table([REGISTER_COLUMNS, *register_rows(statistics)], left=2), ""]
        if native := native_rows(statistics, 8):
            lines += ["answered by native code:", *table([NATIVE_COLUMNS, *native], left=2), ""]
        lines += [*table([SOURCE_COLUMNS, *source_rows(statistics)], left=2), ""]
        lines.append(f"times in µs, measured for {statistics['measured']:.1f} s")
    return "\n".join(lines).rstrip()


def table(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as aligned lines: so many columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{'<' if n < left else '>'}{width}}" for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
