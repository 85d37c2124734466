"""One pair of machines a core for all differential tests; building them takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from powervisor.isa import cores
from powervisor.testing.differential import Pair

CORES = tuple(cores.CORES)


class Pairs:
    """Pairs by the core's name, made when first asked for."""

    def __init__(self) -> None:
        self.made: dict[str, Pair] = {}

    def __getitem__(self, name: str) -> Pair:
        if name not in self.made:
            self.made[name] = Pair(cores.get(name))
        return self.made[name]


@pytest.fixture(scope="session")
def pairs() -> Iterator[Pairs]:
    """Pairs of an oracle and native code."""
    pairs = Pairs()
    yield pairs
    for pair in pairs.made.values():
        pair.close()
