"""Log-linear histograms of times, filled by native code and by Python alike.

Every power of two is divided into SUBS buckets, so that a bucket is at most 1/SUBS of its values wide.
"""

from __future__ import annotations

from .ints import u32, u64
from .lang import clz, native
from .struct import Array, Struct

SUB_BITS = 4
SUBS = 1 << SUB_BITS
BUCKETS = 592
"""Values up to 2^40, 18 minutes in ns; whatever is longer counts in the last one."""


class Histogram(Struct):
    """Times in ns: how many, their sum, the shortest and the longest, and how many in each bucket."""

    count: u64
    total: u64
    least: u64
    most: u64
    buckets: Array[u64, BUCKETS]


@native
def bucket(ns: u64) -> u32:
    """The bucket of a time."""
    if ns < SUBS:
        return u32(ns)
    shift = u32(63 - SUB_BITS) - u32(clz(ns))
    n = shift * SUBS + u32(ns >> u64(shift))
    return n if n < BUCKETS else u32(BUCKETS - 1)


@native
def record(histogram: Histogram, ns: u64) -> None:
    """Count a time."""
    if histogram.count == 0 or ns < histogram.least:
        histogram.least = ns
    if ns > histogram.most:
        histogram.most = ns
    histogram.count += 1
    histogram.total += ns
    n = bucket(ns)
    histogram.buckets[n] = histogram.buckets[n] + 1


def bucket_of(ns: int) -> int:
    """`bucket`, for numbers of Python."""
    if ns < SUBS:
        return ns if ns > 0 else 0
    shift = ns.bit_length() - SUB_BITS - 1
    n = shift * SUBS + (ns >> shift)
    return n if n < BUCKETS else BUCKETS - 1


def bucket_start(n: int) -> int:
    """The shortest time of a bucket, in ns."""
    return n if n < SUBS else (n % SUBS + SUBS) << n // SUBS - 1
