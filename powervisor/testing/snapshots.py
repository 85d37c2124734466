"""Snapshots under load: random cycles of taking and restoring while Linux boots and computes, and what they take.

python -m powervisor.testing.snapshots -cycles 500 -cpus 2 -seed 1
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import PowervisorError
from ..guests import catalogue
from ..machine import Machine
from ..machine.snapshot import Snapshot

TROUBLE = re.compile(
    r"Oops|BUG:|WARNING:|Call Trace|Kernel panic|rcu_\w+ detected|soft lockup|Bad page|segfault|SUM-IS-BAD"
)
PROMPT, READY = "/ # ", "CPUS-READY"
WORK = (
    "sum() { cat /bin/* /sbin/* | md5sum; }; first=$(sum); "
    '(while [ "$(sum)" = "$first" ]; do :; done; echo SUM-IS""-BAD) & '
    'while [ "$(sum)" = "$first" ]; do :; done; echo SUM-IS""-BAD\n'
)
"""Two processes that compute the same again and again, and say when it is something else."""
FINISH = "\x03\nkill %1; echo STILL-$((6 * 7)); poweroff -f\n"


DISK_WORK = (
    "new() { dd if=/dev/urandom of=/tmp/new bs=64k count=4 2>/dev/null; dd if=/tmp/new of=/dev/vda bs=4k oflag=direct "
    "2>/dev/null; dd if=/dev/vda bs=64k count=4 iflag=direct 2>/dev/null | cmp - /tmp/new; }; "
    '(while new; do :; done; echo SUM-IS""-BAD) &\n'
)
"""A process that writes other data to a disk again and again and finds it there."""


def linux(cpus: int = 1, memory: int = 512 << 20, name: str = "k32") -> dict[str, Any]:
    """Keywords of `Machine` for Linux with a shell. Raises PowervisorError where it is not built."""
    guest = catalogue.get(name)
    found = {role: catalogue.locate(artifact) for role, artifact in guest.files.items()}
    if None in found.values():
        raise PowervisorError(f"guest {name} is not there; powervisor guests build {name}")
    files = {role: str(path) for role, path in found.items()}
    return {**guest.options, **files, "cores": cpus, "memory": memory}


class Cycles:
    """Takes snapshots of one machine at random moments, and restores them."""

    def __init__(self, machine: Machine, seed: int, longest: float = 0.03) -> None:
        """Between two of them at most `longest` seconds pass."""
        self.machine, self.longest = machine, longest
        self.random = random.Random(seed)
        self.done = 0
        self._kept: list[Snapshot] = []

    def one(self) -> None:
        """Go on, take one, go on, and return to it; now and then to an older one."""
        self._pass()
        self._kept = [*self._kept[-3:], self.machine.snapshot()]
        self._pass()
        back = self._kept[-1] if self.random.random() < 0.9 else self.random.choice(self._kept)
        self.machine.restore(back)
        self.done += 1

    def _pass(self) -> None:
        time.sleep(self.random.random() * self.longest)


def run_cycles(
    options: dict[str, Any], count: int, seed: int, work: str = WORK, say: Callable[[str], None] = lambda text: None
) -> None:
    """`count` cycles of a machine of `options`, the first while Linux boots. Raises PowervisorError when the guest is
    not healthy afterwards."""
    with Machine(**options, no_reboot=True) as machine:
        console = machine.console
        machine.start()
        cycles = Cycles(machine, seed)
        while PROMPT not in console.text and cycles.done < count // 2:
            cycles.one()
        say(f"{cycles.done} cycles while it booted")
        console.expect(PROMPT, timeout=60)
        console.send(work)
        while cycles.done < count:
            cycles.one()
            if found := TROUBLE.search(console.text):
                raise PowervisorError(f"after {cycles.done} cycles: {found[0]}\n{console.text[-3000:]}")
        console.send(FINISH)
        console.expect("STILL-42", timeout=60)
        if machine.wait(60) is None or (found := TROUBLE.search(console.text)):
            raise PowervisorError(f"after {count} cycles the guest is not healthy:\n{console.text[-3000:]}")


def measure(say: Callable[[str], None], rounds: int = 9) -> None:
    """What steps take with a booted Linux of 512 MiB, in milliseconds of the host's time: the best and the median."""

    def timed(what: str, step: Callable[[], Machine | Snapshot | None]) -> None:
        taken = []
        for _ in range(rounds):
            begin = time.perf_counter()
            result = step()
            taken.append((time.perf_counter() - begin) * 1e3)
            if isinstance(result, Machine):
                result.close()
        say(f"{what:44} {min(taken):8.1f} {sorted(taken)[rounds // 2]:8.1f}")

    def answering(source: Snapshot | Path) -> Machine:
        """A machine whose shell has answered."""
        machine = Machine.load(source)
        machine.start()
        machine.console.send("\n")
        machine.console.expect(PROMPT, timeout=60)
        return machine

    with Machine(**linux()) as machine, TemporaryDirectory() as directory:
        machine.start()
        machine.console.expect(PROMPT, timeout=120)
        time.sleep(0.2)
        snapshot, file = machine.snapshot(), Path(directory) / "linux"
        say(f"{'ms':>44} {'best':>8} {'median':>8}")
        timed("snapshot, running on", machine.snapshot)
        timed("restore", lambda: machine.restore(snapshot))
        timed("fork: a machine made of a snapshot", snapshot.fork)
        timed("fork, to an answer of its shell", lambda: answering(snapshot))
        timed("save to a file", lambda: snapshot.save(file))
        timed("machine of a file, to an answer of its shell", lambda: answering(file))
        say(f"the file has {file.stat().st_size / 1e6:.1f} MB")


def main(words: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m powervisor.testing.snapshots", description=__doc__)
    parser.add_argument("-cycles", type=int, default=500, help="how many (0: only measure)")
    parser.add_argument("-cpus", type=int, default=1)
    parser.add_argument("-guest", default="k32", help="k32, k64 or k64av")
    parser.add_argument("-seed", type=int, default=1)
    options = parser.parse_args(words)
    if not options.cycles:
        measure(print)
        return 0
    begin = time.monotonic()
    run_cycles(linux(options.cpus, name=options.guest), options.cycles, options.seed, say=print)
    seconds = time.monotonic() - begin
    print(f"{options.cycles} cycles of {options.guest} with {options.cpus} CPUs: healthy, {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
