"""Bare-metal programs that call their hypervisor, and what the calls returned."""

from __future__ import annotations

from powervisor import Machine
from tests.system.bare import RESULTS, results

BOARD = "ppce500,hypervisor=on"
WORDS = 8
"""Kept of each call: r3 to r10."""


def call(token: int, *arguments: int) -> str:
    """Make a call; r20 is where its results go, which moves on."""
    lines = [f"load32 r{number}, {value:#x}" for number, value in enumerate(arguments, 3)]
    keep = [f"stw r{3 + n}, {4 * n}(r20)" for n in range(WORDS)]
    return "\n".join([*lines, f"load32 r11, {token:#x}", "sc 1", *keep, f"addi r20, r20, {4 * WORDS}"])


def program(*parts: str) -> str:
    """Parts one after the other, then a loop. r21 counts them at RESULTS - 4."""
    done = f"load32 r21, {RESULTS - 4:#x}\nli r22, 1\nstw r22, 0(r21)\nstay: b stay"
    return "\n".join(["load32 r20, RESULTS", *parts, done])


def run(machine: Machine, limit: int = 100_000) -> None:
    """Let CPU 0 come to the end of a `program`."""
    for _ in range(limit // 1000):
        assert machine.run(instructions=1000) is None
        if machine.memory[RESULTS - 4 : RESULTS] != bytes(4):
            return
    raise AssertionError(machine.state_text())


def answers(machine: Machine, count: int) -> list[tuple[int, ...]]:
    """r3 to r10 after each of the first calls."""
    words = results(machine, count * WORDS)
    return [words[n * WORDS : (n + 1) * WORDS] for n in range(count)]
