"""Checks, and the table at the end."""

from __future__ import annotations

from ....isa.registers import IVOR
from ....native.ints import u32
from ....native.lang import Static, native
from ...builtin.words import say, the
from .partitions import numbered
from .state import A, B, Hypervisor


@native
def check(good: bool, what: Static) -> None:
    """One of the hypervisor's own checks: told, and counted."""
    hypervisor = the(Hypervisor)
    hypervisor.checks += 1
    if good:
        say("  ok  {}\n", what)
    else:
        hypervisor.failed += 1
        say("  NO  {}\n", what)


@native
def row(title: Static, a: u32, b: u32) -> None:
    """A line of the table."""
    say("{:<44s}{:>8d}{:>8d}\n", title, a, b)


@native
def exits_row(title: Static, interrupt: Static) -> None:
    """A line of the table: how often both were left by an interrupt."""
    row(title, numbered(u32(A)).exits[interrupt], numbered(u32(B)).exits[interrupt])


@native
def table() -> None:
    """What each partition did, and why it was left."""
    a, b = numbered(u32(A)), numbered(u32(B))
    say("\n{:<44s}{:>8s}{:>8s}\n", "", "A", "B")
    row("timer interrupts taken without an exit", a.ticks, b.ticks)
    row("system calls without an exit", a.system_calls, b.system_calls)
    exits_row("exits: hypercalls (IVOR40)", IVOR.HYPERVISOR_SYSTEM_CALL)
    exits_row("exits: guest doorbells (IVOR38)", IVOR.GUEST_DOORBELL)
    exits_row("exits: hypervisor privilege (IVOR41)", IVOR.HYPERVISOR_PRIVILEGE)
    exits_row("exits: data TLB errors (IVOR13)", IVOR.DATA_TLB)
    exits_row("exits: LRAT errors (IVOR42)", IVOR.LRAT_ERROR)
    exits_row("exits: external inputs (IVOR4)", IVOR.EXTERNAL)
    exits_row("exits: ends of time slices (IVOR10)", IVOR.DECREMENTER)
    row("instructions done in its stead", a.emulated, b.emulated)
    row("accesses and entries refused", a.refused, b.refused)
    hypervisor = the(Hypervisor)
    if hypervisor.failed == 0:
        say("\nall {} checks hold\n", hypervisor.checks)
    else:
        say("\n{} of {} checks FAILED\n", hypervisor.failed, hypervisor.checks)
