"""Whether a document has the shape of statistics: what comes from files and sockets is not believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tables import SHARES

Check = Callable[[Any, str], None]
LARGEST = 1 << 70
"""Above any count or time there can be."""


class Misshapen(Exception):
    """Something is missing or of the wrong kind; says where."""


def number(value: Any, where: str) -> None:
    """A finite number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        raise Misshapen(where)


def count(value: Any, where: str) -> None:
    """A whole number, 0 or more."""
    number(value, where)
    if not isinstance(value, int):
        raise Misshapen(where)


def text(value: Any, where: str) -> None:
    """Text."""
    if not isinstance(value, str):
        raise Misshapen(where)


def text_or_none(value: Any, where: str) -> None:
    """Text, or null."""
    if value is not None:
        text(value, where)


def switch(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise Misshapen(where)


def list_of(inner: Check) -> Check:
    """A list."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise Misshapen(where)
        for n, item in enumerate(value):
            inner(item, f"{where}[{n}]")

    return check


def names_to(inner: Check) -> Check:
    """An object with any keys."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Misshapen(where)
        for name, item in value.items():
            inner(item, f"{where}.{name}")

    return check


def record(optional: dict[str, Check] | None = None, /, **required: Check) -> Check:
    """An object with these keys, and of the optional ones any; more are no mistake."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Misshapen(where)
        for name, inner in required.items():
            if name not in value:
                raise Misshapen(f"{where}.{name}")
            inner(value[name], f"{where}.{name}")
        for name, inner in (optional or {}).items():
            if name in value:
                inner(value[name], f"{where}.{name}")

    return check


def bucket(value: Any, where: str) -> None:
    """Where a bucket begins, and how many are in it."""
    list_of(count)(value, where)
    if len(value) != 2:
        raise Misshapen(where)


_COUNTED = record(
    min=count, max=count, mean=count, sum=count, sum_squared=count, p50=count, p90=count, p99=count,
    buckets=list_of(bucket),
)  # fmt: skip


def distribution(value: Any, where: str) -> None:
    """What `Distribution.json` says."""
    record(count=count)(value, where)
    if value["count"]:
        _COUNTED(value, where)
        if sum(many for _, many in value["buckets"]) != value["count"]:
            raise Misshapen(f"{where}.buckets")


def samples(value: Any, where: str) -> None:
    """Columns as long as `seconds`, which rises."""
    record(seconds=list_of(number))(value, where)
    seconds = value["seconds"]
    if any(after < before for before, after in zip(seconds, seconds[1:], strict=False)):
        raise Misshapen(f"{where}.seconds")
    for group, columns in value.items():
        if group != "seconds":
            names_to(list_of(number))(columns, f"{where}.{group}")
            for name, column in columns.items():
                if len(column) != len(seconds):
                    raise Misshapen(f"{where}.{group}.{name}")


def vcpus(value: Any, where: str) -> None:
    """At least one."""
    list_of(_VCPU)(value, where)
    if not value:
        raise Misshapen(where)


def counters(value: Any, where: str) -> None:
    """Counts by name, instructions among them."""
    names_to(count)(value, where)
    record(instructions=count)(value, where)


_VCPU = record(
    exits=names_to(count),
    interrupts=names_to(count),
    counters=counters,
    time=record(**dict.fromkeys(SHARES, number)),
    timing=names_to(distribution),
    latency=names_to(distribution),
)
_MACHINE = {"name": text_or_none, "board": text, "cpu": text, "cores": count, "threads": count, "memory": count}
DESCRIPTION = record(pid=count, **_MACHINE)
"""What a control socket says of its machine."""
STATISTICS = record(
    powervisor=text,
    ended=switch,
    measured=number,
    seconds=number,
    machine=record(**_MACHINE),
    vcpus=vcpus,
    registers=list_of(
        record(
            {"reads": distribution, "writes": distribution, "native-reads": count, "native-writes": count},
            device=text,
            register=text,
            address=text,
        )
    ),
    sources=list_of(record({"latency": distribution}, source=text, device=text, delivered=count)),
    samples=samples,
)
"""What `record.document` gives while a machine is measured."""
