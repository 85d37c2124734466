"""-deterministic, -icount, -record and -replay as people write them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.system.booting import TREE

RUN = [sys.executable, "-m", "powervisor", "run", "-guest", "builtin", "-smp", "2", "-append", "poweroff"]


def run(*words, status=0):
    """What a run says to the user; nothing is typed."""
    done = subprocess.run(
        [*RUN, *words], cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stderr
    return done


def outcome(path):
    return json.loads(path.read_text())["deterministic"]


def test_two_runs_are_told_to_be_alike_and_a_replay_is_as_well(tmp_path):
    first, second, third, recording = (tmp_path / name for name in ("first", "second", "third", "recording"))
    said = run("-deterministic", "-stats", str(first), "-record", str(recording)).stdout
    assert run("-icount", "ns=1", "-stats", str(second)).stdout == said
    assert run("-replay", str(recording), "-stats", str(third)).stdout == said
    assert outcome(first) == outcome(second) == outcome(third)
    run("-icount", "ns=2", "-stats", str(second))
    assert outcome(first) != outcome(second)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["-icount", "ns=0"], 1, "-icount ns=0: ns=0 is not within 1..1000"),
        (["-icount", "shift=3"], 1, "-icount shift=3: unknown property 'shift'"),
        (["-deterministic", "-virtfs", "local,path=/,mount_tag=t"], 1, "leave it or -deterministic out"),
        (["-replay", __file__], 1, "is no recording; name a file that -record wrote"),
        (["-record", "/nowhere/at/all"], 1, "-record /nowhere/at/all: cannot be written"),
    ],
)
def test_mistakes_are_told_in_a_line(words, status, message):
    said = run(*words, status=status).stderr.strip().splitlines()
    assert len(said) == 1 and message in said[0]


def test_what_time_is_made_of_is_explained():
    text = run("-icount", "help").stdout
    assert all(name in text for name in ("ns=", "quantum=", "seed=", "start=", "sleep=on|off"))
