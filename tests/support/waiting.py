"""Waiting for what other threads, other processes or the guest do."""

from __future__ import annotations

import time
from collections.abc import Callable

from powervisor import Machine


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something; fail when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def run_until(machine: Machine, done: Callable[[], object], seconds: float = 60) -> None:
    """Let all CPUs run until something holds; the guest must not end before."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, machine.state_text()
        outcome = machine.run(seconds=0.02)
        assert outcome is None, outcome
