"""Verdicts: a line for each test, and the sum."""

from __future__ import annotations

from ....native.ints import u32, u64
from ....native.lang import Static, field_addr, native, static
from ..words import say, text, the
from .state import Scratch, Tally


@native
def verdict(good: bool, name: Static) -> None:
    """Begin a test's line and count it; what was seen follows on the line."""
    tally = the(Tally)
    tally.run += 1
    if not good:
        tally.failed += 1
    say("  {:s}  {:<12s}", text("PASS") if good else text("FAIL"), text(name))


@native
def detail(good: bool, name: Static, last: Static) -> None:
    """One thing that was looked at in a test; the last one ends the line."""
    say("{:s}{:s}{:s}", text("") if good else text("NO "), text(name), text("\n" if last else ", "))


@native
def begin() -> None:
    """Forget earlier verdicts."""
    tally = the(Tally)
    tally.run = 0
    tally.failed = 0


@native
def finish() -> None:
    """The sum."""
    tally = the(Tally)
    if tally.failed == 0:
        say("  all {} tests passed\n", tally.run)
    else:
        say("  {} of {} tests FAILED\n", tally.failed, tally.run)


@native
def operands_at() -> u32:
    """Address of operands for an assembly routine, 16-byte aligned."""
    return u32(field_addr(the(Scratch), "operands"))


@native
def results_at() -> u32:
    """Address of an assembly routine's results, 16-byte aligned."""
    return u32(field_addr(the(Scratch), "results"))


@native
def put_operands(values: Static) -> None:
    """Lay down operands."""
    scratch = the(Scratch)
    for n, value in static(tuple(enumerate(values))):
        scratch.operands[n] = u64(value)


@native
def wrong_results(values: Static) -> u32:
    """How many results are not what they should be."""
    scratch = the(Scratch)
    wrong = u32(0)
    for n, value in static(tuple(enumerate(values))):
        if scratch.results[n] != u64(value):
            wrong += 1
    return wrong
