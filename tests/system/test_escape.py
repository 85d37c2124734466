"""Guests that try to break out (see hammer.py), each in a process of its own: a VMM that dies is a failed test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.hammer import KINDS

TREE = Path(__file__).resolve().parents[2]


def hammer(kind: str, cpu: str, seed: int, seconds: float) -> None:
    words = [sys.executable, "-X", "faulthandler", "-m", "tests.system.hammer", kind]
    words += ["--cpu", cpu, "--seed", str(seed), "--seconds", str(seconds)]
    done = subprocess.run(words, cwd=TREE, capture_output=True, text=True, timeout=seconds + 240)
    assert done.returncode == 0, f"{' '.join(words[3:])}: status {done.returncode}\n{done.stderr[-4000:]}"
    assert done.stdout.startswith(f"survived {kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_no_guest_leaves_its_machine(kind):
    hammer(kind, {"devices": "e5500", "user-words": "e500mc"}.get(kind, "e6500"), seed=1, seconds=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("cpu", ["e500mc", "e5500", "e6500"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_guest_leaves_its_machine_for_long(kind, cpu, seed):
    hammer(kind, cpu, seed, seconds=20)
