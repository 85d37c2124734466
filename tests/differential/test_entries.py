"""Every entry of the instruction set and every stencil of it, oracle against native code."""

from __future__ import annotations

import pytest

from powervisor.isa import cores
from powervisor.testing.cases import CaseMaker
from powervisor.testing.coverage import StencilCoverage
from powervisor.testing.differential import Pair

from .conftest import CORES, Pairs

CASES = 3
"""Cases of an entry in a mode; they hold six words, those of entries that end a block one."""
STENCIL_TRIES = 25
NEVER_COMPLETE = {"sc", "ehpriv", "dnh"}
"""These always interrupt (dnh as long as no external debugger has set DBCR0[EDM])."""


def check(pair: Pair, case: object) -> None:
    found = pair.check(case)  # type: ignore[arg-type]
    if found:
        pytest.fail(pair.shrink(found).report(), pytrace=False)


@pytest.mark.parametrize("core", CORES)
def test_every_entry_agrees_and_is_executed(pairs: Pairs, core: str) -> None:
    pair, maker = pairs[core], CaseMaker(cores.get(core), "entries")
    pair.executed.clear()
    pair.tried.clear()
    for entry in pair.oracle.table:
        for wide in (False, True)[: 1 + (pair.core.bits == 64)]:
            for case in maker.entry_cases(entry, wide, CASES):
                check(pair, case)
        again = 0
        while not pair.executed[entry.name, entry.match] and entry.name not in NEVER_COMPLETE and again < 60:
            check(pair, next(maker.entry_cases(entry, False, 1)))
            again += 1
    names = {(entry.name, entry.match) for entry in pair.oracle.table}
    assert not names - set(pair.tried), "entries that were never tried"
    assert {name for name, _ in names - set(pair.executed)} <= NEVER_COMPLETE, "entries that never completed"


@pytest.mark.parametrize("core", CORES)
def test_every_stencil_agrees_and_is_executed(pairs: Pairs, core: str) -> None:
    pair, maker = pairs[core], CaseMaker(cores.get(core), "stencils")
    pair.coverage = coverage = StencilCoverage(pair.native)
    try:
        for stencil in coverage.all.values():
            for _ in range(STENCIL_TRIES):
                check(pair, maker.stencil_case(stencil.variant, stencil.fused, stencil.wide))
                if stencil.address in coverage.executed:
                    break
        assert len(coverage.all) > 300
        assert not [str(stencil) for stencil in coverage.missing()], "stencils that never did their work"
    finally:
        coverage.close()
        pair.coverage = None
