"""Distributions of times: count, extremes, percentiles, from the buckets of log-linear histograms."""

from __future__ import annotations

import ctypes
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..native.histogram import BUCKETS, SUB_BITS, SUBS, Histogram, bucket_of, bucket_start

PERCENTILES = (50, 90, 99)
_BIAS = 1023
_UPPER_OF_16 = (_BIAS + SUB_BITS) * SUBS
"""Exponent and first SUB_BITS of the fraction of 16.0."""
_COUNTS = ctypes.c_uint64 * BUCKETS
Json = dict[str, Any]


class Distribution:
    """Times in ns. Extremes and sum are exact, the rest is within a bucket, 1/16 of the time."""

    __slots__ = ("total", "least", "most", "buckets")

    def __init__(self) -> None:
        self.total = self.most = 0
        self.least = 1 << 63
        self.buckets: dict[int, int] = {}

    def add(self, times: Sequence[int]) -> None:
        """Count times; one thread at a time.

        The upper 16 bits of a floating-point number are its bucket: nothing is done here for each time in Python.
        """
        if not times:
            return
        self.total += sum(times)
        self.least, self.most = min(self.least, min(times)), max(self.most, max(times))
        halfwords = memoryview(array("d", times)).cast("B").cast("H")
        for upper, count in Counter(halfwords[3::4]).items():
            n = upper - _UPPER_OF_16 + SUBS
            if n < SUBS:  # whole numbers below the first octave have a bucket each
                n = (SUBS + upper % SUBS << upper // SUBS - _BIAS) // SUBS if upper else 0
            elif n >= BUCKETS:
                n = BUCKETS - 1
            self.buckets[n] = self.buckets.get(n, 0) + count

    def merge(self, other: Distribution) -> None:
        """Count all that another one has, which may be added to meanwhile."""
        self.total += other.total
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        for n, count in list(other.buckets.items()):
            self.buckets[n] = self.buckets.get(n, 0) + count

    @property
    def count(self) -> int:
        """How many."""
        return sum(list(self.buckets.values()))

    def percentiles(self, *shares: float) -> list[int]:
        """The times that so many percent do not exceed, in rising order, in ns: the middle of a bucket, between the
        extremes."""
        return self._percentiles(sorted(self.buckets.items()), shares)

    def _percentiles(self, rows: list[tuple[int, int]], shares: Sequence[float]) -> list[int]:
        """As `percentiles`, with the buckets in order."""
        every, found, seen, left = sum(count for _, count in rows), list[int](), 0, list(shares)
        for n, count in rows:
            seen += count
            while left and seen * 100 >= every * left[0]:
                found.append(min(max(_middle(n), self.least), self.most))
                del left[0]
        return found

    def json(self) -> Json:
        """All of it; times in ns, `sum_squared` in square µs as KVM has it, buckets as [begin, count]."""
        rows = sorted(self.buckets.items())
        count = sum(many for _, many in rows)
        if not count:
            return {"count": 0}
        return {
            "count": count,
            "min": self.least,
            "max": self.most,
            "mean": self.total // count,
            "sum": self.total,
            "sum_squared": sum(_middle(n) ** 2 * many for n, many in rows) // 1_000_000,
            **{f"p{share}": ns for share, ns in zip(PERCENTILES, self._percentiles(rows, PERCENTILES), strict=True)},
            "buckets": [[bucket_start(n), many] for n, many in rows],
        }

    @classmethod
    def of_json(cls, saved: Json) -> Distribution:
        """What `json` said."""
        made = cls()
        if saved["count"]:
            made.total, made.least, made.most = int(saved["sum"]), int(saved["min"]), int(saved["max"])
            made.buckets = {bucket_of(int(begin)): int(count) for begin, count in saved["buckets"]}
        return made

    @classmethod
    def of_native(cls, histogram: Any) -> Distribution:
        """What native code has counted until now."""
        made = cls()
        if histogram.count:
            made.total, made.least, made.most = (int(getattr(histogram, n)) for n in ("total", "least", "most"))
            counts = _COUNTS.from_address(histogram.address + Histogram.offset("buckets"))[:]
            made.buckets = {n: count for n, count in enumerate(counts) if count}
        return made

    @classmethod
    def of_all(cls, parts: Iterable[Distribution]) -> Distribution:
        """All of several."""
        made = cls()
        for part in parts:
            made.merge(part)
        return made


def _middle(n: int) -> int:
    return (bucket_start(n) + bucket_start(n + 1)) // 2
