"""Benches for the architecture beyond single instructions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.support.bench import Bench
from tests.support.native_bench import NativeBench

CORES = ("e500mc", "e5500", "e6500")
SIDES: dict[str, type[Bench]] = {"oracle": Bench, "native": NativeBench}


@cache
def kept(side: str, core: str, cpus: int, threads: int) -> Bench:
    """The bench of a kind: one test uses it after the other."""
    return SIDES[side](core, cpus, threads)


@pytest.fixture(params=CORES)
def bench(request: pytest.FixtureRequest) -> Bench:
    """A vCPU of each core."""
    return Bench(request.param)


@pytest.fixture
def make() -> type[Bench]:
    """Benches to order: make(core, cpus, threads)."""
    return Bench


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> Callable[..., Bench]:
    """Benches to order, executed by the oracle and by native code: side(core, cpus, threads)."""

    def made(core: str = "e5500", cpus: int = 1, threads: int = 1) -> Bench:
        bench = kept(request.param, core, cpus, threads)
        bench.reset()
        return bench

    return made


@pytest.fixture(params=CORES)
def both(request: pytest.FixtureRequest, side: Callable[..., Bench]) -> Bench:
    """A vCPU of each core, executed by the oracle and by native code."""
    return side(request.param)
