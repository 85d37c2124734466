"""Histograms: Python and native code agree, and percentiles are what sorting would say, within a bucket."""

from __future__ import annotations

import json
import random

import pytest

from powervisor.analysis.distribution import Distribution
from powervisor.analysis.samples import MOST, Samples
from powervisor.native.histogram import BUCKETS, SUBS, Histogram, bucket, bucket_of, bucket_start, record
from powervisor.native.ints import u64

EDGES = [n for shift in range(41) for n in ((1 << shift) - 1, 1 << shift, (1 << shift) + 1)] + [1 << 62, (1 << 64) - 1]


def of(values) -> Distribution:
    made = Distribution()
    made.add(list(values))
    return made


def test_python_and_native_code_choose_the_same_bucket():
    rng = random.Random(1)
    for ns in [*EDGES, *(rng.getrandbits(rng.randrange(1, 45)) for _ in range(3000))]:
        assert int(bucket(u64(ns))) == bucket_of(ns)


def test_times_that_are_counted_together_go_where_each_would_go():
    rng = random.Random(4)
    values = [
        *(n for n in EDGES if n < 1 << 53),
        *range(300),
        *(rng.getrandbits(rng.randrange(1, 45)) for _ in range(3000)),
    ]
    expected: dict[int, int] = {}
    for ns in values:
        expected[bucket_of(ns)] = expected.get(bucket_of(ns), 0) + 1
    made = of(values)
    assert made.buckets == expected
    assert (made.total, made.least, made.most) == (sum(values), 0, max(values))
    made.add([])
    assert made.count == len(values)


def test_a_bucket_holds_what_begins_in_it_and_is_narrow():
    for n in range(BUCKETS - 1):
        begin, end = bucket_start(n), bucket_start(n + 1)
        assert bucket_of(begin) == bucket_of(end - 1) == n
        assert end - begin <= max(begin / SUBS, 1)
    assert bucket_of(1 << 60) == BUCKETS - 1


def test_what_native_code_counts_is_read_back():
    native, rng = Histogram.new(), random.Random(2)
    values = [rng.getrandbits(rng.randrange(1, 38)) for _ in range(500)]
    for value in values:
        record(native, u64(value))
    assert Distribution.of_native(native).json() == of(values).json()
    assert Distribution.of_native(Histogram.new()).json() == {"count": 0}


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_sorting_within_a_bucket(seed):
    rng = random.Random(seed)
    values = sorted(int(rng.lognormvariate(9, 2)) + 1 for _ in range(rng.randrange(1, 2000)))
    told = of(values).percentiles(1, 50, 90, 99, 100)
    for share, ns in zip((1, 50, 90, 99, 100), told, strict=True):
        exact = values[max(-(-len(values) * share // 100) - 1, 0)]
        assert abs(ns - exact) <= max(exact / SUBS, 1)
    assert values[0] <= told[0] and told[-1] <= values[-1]


def test_merging_is_counting_both():
    rng = random.Random(3)
    one, two = ([rng.getrandbits(20) for _ in range(100)] for _ in range(2))
    assert Distribution.of_all([of(one), of(two), Distribution()]).json() == of(one + two).json()


def test_json_and_back():
    told = of([5, 100, 100_000]).json()
    assert (told["count"], told["min"], told["max"], told["sum"], told["mean"]) == (3, 5, 100_000, 100_105, 33_368)
    again = Distribution.of_json(json.loads(json.dumps(told)))
    assert again.json() == told
    assert Distribution.of_json({"count": 0}).json() == {"count": 0}


def test_sum_squared_is_in_square_microseconds():
    assert of([1_000_000] * 4).json()["sum_squared"] == pytest.approx(4_000_000, rel=0.15)


def test_a_long_run_keeps_a_bounded_number_of_samples_over_all_its_time():
    samples = Samples()
    for second in range(10_000):
        if samples.due():
            samples.add(second, {"exits": {"mmio": 2 * second}})
    told = samples.json()
    assert MOST / 2 <= len(told["seconds"]) <= MOST
    assert told["seconds"][0] == 0 and told["seconds"][-1] > 9_800
    assert told["exits"]["mmio"] == [2 * second for second in told["seconds"]]


def test_what_is_counted_later_was_nothing_before_and_what_is_not_told_stays():
    samples = Samples()
    samples.add(0, {"exits": {"mmio": 1}})
    samples.add(1, {"exits": {"mmio": 2, "hot": 5}})
    samples.add(2, {"exits": {"mmio": 3}})
    assert samples.json() == {"seconds": [0, 1, 2], "exits": {"mmio": [1, 2, 3], "hot": [0, 5, 5]}}
