"""Waiting for what other threads, other processes or the guest do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from powervisor import Machine

Value = TypeVar("Value")


def until(condition: Callable[[], Value], what: str = "it", seconds: float = 60) -> Value:
    """Wait until something is true, and return it; fail when that does not come."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.005)
    return found


def run_until(machine: Machine, done: Callable[[], object], seconds: float = 60) -> None:
    """Let all CPUs run until something holds; the guest must not end before."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, machine.state_text()
        outcome = machine.run(seconds=0.02)
        assert outcome is None, outcome
