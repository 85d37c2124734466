"""Tests of the CPUs together."""

from __future__ import annotations

from ....native.ints import u32
from ....native.lang import field_addr, native
from ..words import say, the
from .checks import verdict
from .cpu import now, numbered
from .interrupts import send_ipi
from .state import Team
from .team import (
    ADD_ATOMICALLY,
    ADD_LOCKED,
    IPI_RING,
    IPI_TEST,
    NEXT_IPI,
    PATIENCE_MS,
    STAMP,
    ask_one,
    everybody,
    start_everybody,
    together,
    wait_for,
)  # fmt: skip

ADDITIONS = 10_000
LOCKED_ADDITIONS = 500
SHOWN = 8


@native
def check_start() -> None:
    """Every CPU of the device tree reports in; they stay for good."""
    team = the(Team)
    if team.present == 0:
        start_everybody()
    verdict(team.present == team.count, "smp start")
    say("{} of {} CPUs report in, PIR", team.present, team.count)
    for n in range(team.present):
        if n < SHOWN or n == team.present - 1:
            say(" {:x}", numbered(n).pir)
        elif n == SHOWN:
            say(" ..")
    say("\n")


@native
def check_counters() -> None:
    """lwarx and stwcx. lose no addition, with and without a lock around a plain one."""
    team = the(Team)
    team.shared = 0
    team.guarded = 0
    done = together(ADD_ATOMICALLY, ADDITIONS)
    done = together(ADD_LOCKED, LOCKED_ADDITIONS) and done
    good = team.shared == team.present * ADDITIONS and team.guarded == team.present * LOCKED_ADDITIONS
    verdict(done and good, "smp atomics")
    say("{} additions by lwarx, {} under a lock\n", team.shared, team.guarded)


@native
def check_broadcast() -> None:
    """One IPI to all comes to each once; then each sends one to the next."""
    team = the(Team)
    good = True
    for n in range(team.present):
        numbered(n).ipis[IPI_TEST] = 0
        numbered(n).ipis[IPI_RING] = 0
    send_ipi(IPI_TEST, everybody())
    for n in range(team.present):
        if not wait_for(u32(field_addr(numbered(n), "ipis", IPI_TEST)), 1, True, PATIENCE_MS):
            good = False
    done = together(NEXT_IPI, 0)
    for n in range(team.present):
        if not wait_for(u32(field_addr(numbered(n), "ipis", IPI_RING)), 1, True, PATIENCE_MS):
            good = False
    verdict(good and done, "smp ipi")
    say("to all at once, and around a ring of {}\n", team.present)


@native
def check_clocks() -> None:
    """A time another CPU reads later is not earlier."""
    team = the(Team)
    backward = u32(0)
    team.passed = now()
    for _ in range(2):
        for n in range(1, team.present):
            if not ask_one(n, STAMP, 0) or numbered(n).result != 0:
                backward += 1
            seen = now()
            if seen < team.passed:
                backward += 1
            team.passed = seen
    verdict(backward == 0, "smp clocks")
    say("time bases agree to within a message\n")


@native
def check_smp() -> None:
    """All of them; a single CPU starts and talks to itself."""
    check_start()
    check_counters()
    if the(Team).present > 1:
        check_broadcast()
        check_clocks()
