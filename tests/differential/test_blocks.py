"""Random blocks of instructions, oracle against native code."""

from __future__ import annotations

import pytest

from powervisor.isa import cores
from powervisor.testing.cases import CaseMaker

from .conftest import CORES, Pairs
from .test_entries import check

BLOCKS = 250


@pytest.mark.parametrize("core", CORES)
def test_random_blocks_agree(pairs: Pairs, core: str) -> None:
    pair, maker = pairs[core], CaseMaker(cores.get(core))
    before = pair.steps
    for number in range(BLOCKS):
        check(pair, maker.seed(f"blocks {number}").random_case())
    assert pair.steps - before > 10 * BLOCKS


@pytest.mark.parametrize("core", CORES)
def test_code_that_overwrites_itself_and_says_so_agrees(pairs: Pairs, core: str) -> None:
    pair, maker = pairs[core], CaseMaker(cores.get(core))
    loops = 0
    for number in range(60):
        case = maker.seed(f"patched {number}").self_modifying_case(cores.get(core).bits == 64 and number % 2 == 0)
        check(pair, case)
        loops += len(pair.oracle.executed) > 2 * len(case.words)
    assert loops > 5


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_many_random_blocks_agree(pairs: Pairs, core: str) -> None:
    pair, maker = pairs[core], CaseMaker(cores.get(core))
    for number in range(4000):
        check(pair, maker.seed(f"many {number}").random_case())
