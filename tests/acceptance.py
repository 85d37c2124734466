"""What machines have to live through, at full size: python -m tests.acceptance (make acceptance)

The default tests have the same at a size that takes seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).parents[1]
RUNS = {
    "500 snapshots at random moments of Linux, each gone back to, 1 CPU": (
        "tests/system/test_snapshots.py::test_linux_lives_through_many_snapshots[1]"
    ),
    "500 snapshots at random moments of Linux, each gone back to, 2 CPUs": (
        "tests/system/test_snapshots.py::test_linux_lives_through_many_snapshots[2]"
    ),
    "10 deterministic boots of Linux come to one hash, 1 CPU": (
        "tests/deterministic/test_linux.py::test_boots_of_linux_come_to_one_hash[1-10]"
    ),
    "10 deterministic boots of Linux come to one hash, 2 CPUs": (
        "tests/deterministic/test_linux.py::test_boots_of_linux_come_to_one_hash[2-10]"
    ),
    "1000 connections of gdb that do random things while 4 CPUs compute": (
        "tests/debug/test_gdb.py::test_gdb_comes_and_goes_at_random_while_four_cpus_compute[1000]"
    ),
}


def main(words: list[str]) -> int:
    """Run all, or those whose names contain a word; 1 unless every one passed."""
    chosen = {name: test for name, test in RUNS.items() if not words or any(word in name for word in words)}
    good = True
    for name, test in chosen.items():
        begin = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-m", "slow", test]
        done = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
        passed = done.returncode == 0 and "1 passed" in done.stdout
        good &= passed
        print(f"{name:70} {'passed' if passed else 'FAILED'} {time.monotonic() - begin:7.1f} s", flush=True)
        if not passed:
            print(done.stdout + done.stderr)
    return 0 if good and chosen else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
