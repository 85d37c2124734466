"""Benches for the architecture beyond single instructions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.support.bench import Bench
from tests.support.native_bench import NativeBench

CORES = ("e500mc", "e5500", "e6500")
SIDES = ("oracle", "native")

oracle_bench = cache(Bench)
_native: dict[tuple[str, int, int], NativeBench] = {}


def release() -> None:
    """Free the native bench."""
    for bench in _native.values():
        bench.close()
    _native.clear()


def native_bench(*kind: Any) -> NativeBench:
    """The native bench of a kind: one test uses it after the other.

    There is one at a time: an image is made for the address where its engine lies, so that is always the same.
    """
    if kind not in _native:
        release()
        _native[kind] = NativeBench(*kind)
    return _native[kind]


@pytest.fixture(params=CORES)
def bench(request: pytest.FixtureRequest) -> Bench:
    """A vCPU of each core."""
    return Bench(request.param)


@pytest.fixture
def make() -> type[Bench]:
    """Benches to order: make(core, cpus, threads)."""
    return Bench


@pytest.fixture(params=SIDES, scope="module")
def side_name(request: pytest.FixtureRequest) -> str:
    """Who executes."""
    return str(request.param)


@pytest.fixture(params=CORES, scope="module")
def core(request: pytest.FixtureRequest) -> str:
    """A core's name; tests of a module are ordered by it."""
    return str(request.param)


@pytest.fixture
def side(side_name: str) -> Callable[..., Bench]:
    """Benches to order, executed by the oracle and by native code: side(core, cpus, threads)."""

    def made(core: str = "e5500", cpus: int = 1, threads: int = 1) -> Bench:
        bench = (native_bench if side_name == "native" else oracle_bench)(core, cpus, threads)
        bench.reset()
        return bench

    return made


@pytest.fixture
def both(core: str, side: Callable[..., Bench]) -> Bench:
    """A vCPU of each core, executed by the oracle and by native code."""
    return side(core)


@pytest.fixture
def native(core: str) -> NativeBench:
    """A vCPU of each core, executed by native code."""
    bench = native_bench(core, 1, 1)
    bench.reset()
    return bench


@pytest.fixture
def no_bench() -> None:
    """For tests with engines of their own."""
    release()
