"""What the engine counts while programs run: `python -m bench.counters WORD [MACHINE OPTION...]`.

Boots a machine until a line of its console begins with WORD, and prints as JSON what was counted up to BOOT-OK and
between the reports of programs. These numbers depend on the machine's mood less than times do, or not at all.
"""

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bench.machines import BOOTED, Job, Vmm, started
from bench.programs import score_in
from powervisor import Machine
from powervisor.cli.machine_options import add_machine_options, machine_arguments
from powervisor.cli.main import Status, guarded
from powervisor.cli.options import Parser
from powervisor.errors import UserError

Counts = dict[str, float]
"""Of an interval: `seconds`, counters of all vCPUs by name, exits as `exit-REASON`, and bytes of the machine."""
LEVELS = ("code-bytes", "translation-bytes")
"""What is a level at the end of an interval, not a difference."""


def flat(statistics: dict[str, Any]) -> Counts:
    """`Machine.statistics()` summed over the vCPUs, tier 1 as `regions-NAME`."""
    total: Counter[str] = Counter()
    for vcpu in statistics["vcpus"]:
        total.update({f"exit-{reason}": count for reason, count in vcpu["exits"].items()})
        total.update(vcpu["counters"])
    regions = dict(statistics["regions"])
    total.update({f"regions-refused-{reason}": count for reason, count in regions.pop("refused", {}).items()})
    total.update({f"regions-{name}": count for name, count in regions.items()})
    return {**total, **{name: value for name, value in statistics.items() if isinstance(value, int | float)}}


def between(before: Counts, after: Counts) -> Counts:
    """What happened from one `flat` to a later one; counters that stood still are left out."""
    changes = {name: round(value - before.get(name, 0), 6) for name, value in after.items() if name not in LEVELS}
    return {name: change for name, change in changes.items() if change} | {name: after[name] for name in LEVELS}


class Listener:
    """A chardev that looks at the counters whenever the guest ends a line that matters."""

    def __init__(self, wanted: str, look: Callable[[], Counts]) -> None:
        self.on_receive: Callable[[bytes], None] | None = None
        self.can_receive: Callable[[], int] = lambda: 0
        self.counted: dict[str, Counts] = {}
        self.heard = threading.Event()
        self._wanted, self._look = wanted, look
        self._line, self._before = bytearray(), Counts()

    def start(self, dispatch: object) -> None:
        """There is no input."""

    def write(self, data: bytes) -> None:
        """On the vCPU's own thread, so nothing of that vCPU is missed or counted twice."""
        for byte in data:
            if byte != 10:
                self._line.append(byte)
                continue
            line = self._line.decode(errors="replace").rstrip("\r")
            self._line.clear()
            self._heard(line)

    def _heard(self, line: str) -> None:
        score = score_in(line)
        name = score.name if score is not None else "boot" if line.startswith(BOOTED) else None
        if name is not None:
            now = self._look()
            self.counted[name] = between(self._before, now)
            self._before = now
        if line.startswith(self._wanted):
            self.heard.set()

    def close(self) -> None:
        """Nothing is buffered."""


def main(words: list[str]) -> int:
    """Count, and print."""
    parser = Parser("counters", "Boot a machine and print what its engine counted, as JSON.")
    parser.prog = "python -m bench.counters"
    parser.add_argument("wanted", metavar="WORD", help="what the last line begins with")
    add_machine_options(parser)
    options = parser.parse(words)
    listener = Listener(options.wanted, lambda: flat(machine.statistics()))
    with Machine(**machine_arguments(options), serial=[listener]) as machine:
        machine.start()
        while not listener.heard.wait(0.1):
            if (outcome := machine.wait(0)) is not None:
                raise UserError(f"{options.wanted} did not come: the guest ended ({outcome.kind} {outcome.detail})")
    print(json.dumps(listener.counted))
    return Status.OK


def countable(vmm: Vmm) -> bool:
    """Whether a VMM is ours, and new enough to count."""
    return vmm.directory is not None and (vmm.directory / "bench" / "counters.py").is_file()


def count(vmm: Vmm, job: Job, wanted: str) -> dict[str, Counts]:
    """What the engine of one of our VMMs counted, by report, and as `boot`. Raises UserError."""
    own = replace(vmm, command=(sys.executable, "-m", "bench.counters", wanted))
    with started(own, [*own.command, *job.options()]) as process:
        output, _ = process.communicate()
    *said, last = output.splitlines() or [""]
    if process.returncode != Status.OK or not last.startswith("{"):
        raise UserError(f"{vmm.label}: nothing was counted: {' '.join([*said[-3:], last])}")
    counted: dict[str, Counts] = json.loads(last)
    return counted


def rates(counts: Counts, seconds: float | None = None) -> Sequence[tuple[str, float]]:
    """Exits per second by reason, most frequent first."""
    seconds = seconds or counts["seconds"]
    exits = [
        (name.removeprefix("exit-"), value / seconds) for name, value in counts.items() if name.startswith("exit-")
    ]
    return sorted(exits, key=lambda item: -item[1])


if __name__ == "__main__":
    sys.exit(guarded("bench.counters", main, sys.argv[1:]))
