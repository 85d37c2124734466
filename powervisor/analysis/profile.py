"""A sampling profile of guest code: where CPUs are, many times a second, and who called.

Samples lie where translated code looks at requests: at backward jumps and where a page is left. Of a loop that is its
head; of a function without one that is called from another page, the place that it returns to.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from ..errors import UserError, argument
from ..hv.tracing import Event, Listening, TraceEvent
from ..machine import Machine
from ..vcpu.modes import KEY_GS
from .files import Path, create, finish
from .flamegraph import flame_graph
from .symbols import Symbols
from .text import key_lpid, key_pid

DEFAULT_HZ = 997
"""Samples a second: a prime, so that they do not keep step with what the guest does periodically."""
MOST_HZ = 10_000
IDLE, EXIT = "[idle]", "[exit]"
"""Frames of CPUs that wait, and of those whose exit is being answered by Powervisor."""
Stack = tuple[str, ...]


class _Sample:
    """What one CPU told of itself, while its frames come in."""

    def __init__(self, event: Event, weight: int, outside: bool) -> None:
        self.key, self.pc, self.lr = event.key, event.pc, event.args[0]
        self.weight, self.outside = weight, outside
        self.back: list[int] = []


def check_hz(hz: int) -> None:
    """Raise UserError for samples a second that cannot be taken."""
    if not 1 <= hz <= MOST_HZ:
        raise UserError(f"{argument('profile')}: {hz} samples a second; it takes 1 to {MOST_HZ}")


class Profile:
    """Samples a machine from now until `close`, which writes `file`: collapsed stacks, a flame graph when it is .svg.

    `idle` counts waiting CPUs as well. Raises UserError.
    """

    def __init__(
        self, machine: Machine, file: Path | None = None, symbols: Symbols | None = None, hz: int = DEFAULT_HZ,
        idle: bool = False,
    ) -> None:  # fmt: skip
        check_hz(hz)
        self._where = where = argument("profile")
        self._machine, self._symbols, self._hz, self._idle = machine, symbols or Symbols(), hz, idle
        self.stacks: Counter[Stack] = Counter()
        """Samples by stack, the outermost frame first."""
        self._file = None if file is None else create(file, where)
        self._open: dict[int, _Sample] = {}
        self._asked = [0] * len(machine.vcpus)
        self._told = [0] * len(machine.vcpus)
        self._stop, self._closed = threading.Event(), False
        self._listening = Listening(self._hear)
        machine.vm.tracing.open(self._listening)
        machine.on_end.append(self._stop.set)
        self._thread = threading.Thread(target=self._work, name="profile", daemon=True)
        self._thread.start()

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.stacks.total()

    def _work(self) -> None:
        next_at = time.monotonic()
        while not self._stop.is_set():
            for vcpu in self._machine.vcpus:
                state = vcpu.state
                if vcpu.inside and (int(state.asleep) or int(state.waiting) or vcpu.halted):
                    if self._idle:
                        self.stacks[f"cpu{vcpu.index}", IDLE] += 1
                    continue
                self._asked[vcpu.index] += 1
                self._machine.vm.tracing.sample(vcpu, self._asked[vcpu.index] << 1 | (not vcpu.inside))
            next_at = max(next_at + 1 / self._hz, time.monotonic() - 0.1)
            self._stop.wait(max(next_at - time.monotonic(), 0))

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == TraceEvent.SAMPLE:
                self._finish(event.cpu)
                number, outside = event.args[1] >> 1, event.args[1] & 1
                asked = number - self._told[event.cpu]
                if asked > 0:
                    self._told[event.cpu] = number
                    # Asked more than once, a CPU in the guest was one that the host ran others on.
                    self._open[event.cpu] = _Sample(event, asked if outside else 1, bool(outside))
            elif event.kind == TraceEvent.FRAME and event.cpu in self._open:
                self._open[event.cpu].back.append(event.pc)

    def _finish(self, cpu: int) -> None:
        sample = self._open.pop(cpu, None)
        if sample is not None:
            self.stacks[self._stack(sample)] += sample.weight

    def _stack(self, sample: _Sample) -> Stack:
        lpid, pid = key_lpid(sample.key), key_pid(sample.key)
        symbols = self._symbols

        def name(address: int) -> str:
            symbol = symbols.find(address, pid, lpid)
            return f"[{address >> 12:x}xxx]" if symbol is None else symbol.name

        back = sample.back
        addresses = [sample.pc]
        # A function that calls nobody, or nobody yet, has its caller in LR, and in its slot on the stack, if it has a
        # frame at all, what was there before.
        here, by_lr = symbols.find(sample.pc, pid, lpid), symbols.find(sample.lr - 4, pid, lpid)
        if by_lr is not None and by_lr != here and sample.lr not in back[:1]:
            addresses.append(sample.lr - 4)
            if back and symbols.find(back[0] - 4, pid, lpid) is None:
                back = back[1:]
        addresses += [address - 4 for address in back]
        stack = [EXIT] if sample.outside else []
        stack += [name(address) for address in addresses]
        if pid:
            stack.append(f"pid {pid}")
        if sample.key & KEY_GS:
            stack.append(f"lpid {lpid}")
        return tuple(reversed(stack))

    # ---- results ---------------------------------------------------------------------------------------------------

    def collapsed(self) -> str:
        """A line per stack: frames with semicolons between, and how many samples, for flame graph programs."""
        return "".join(f"{line}\n" for line in _collapsed(self.stacks.items()))

    def top(self, count: int = 20) -> list[tuple[str, int, int]]:
        """Functions with the most samples: name, samples in it, samples in it or in what it called."""
        own: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for stack, samples in list(self.stacks.items()):
            own[stack[-1]] += samples
            for name in set(stack):
                total[name] += samples
        return [(name, samples, total[name]) for name, samples in own.most_common(count)]

    def close(self) -> None:
        """Take the last samples, and write the file. Raises UserError when that fails."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self._thread.join()
        self._machine.vm.tracing.close(self._listening)
        for cpu in list(self._open):
            self._finish(cpu)
        if self._file is not None:
            title = f"{self.samples} samples, {self._hz} a second"
            svg = str(self._file.name).endswith(".svg")
            finish(self._file, flame_graph(self.stacks, title) if svg else self.collapsed(), self._where)

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _collapsed(stacks: Iterable[tuple[Stack, int]]) -> Iterable[str]:
    for stack, samples in sorted(stacks):
        yield f"{';'.join(frame.replace(';', ':') for frame in stack)} {samples}"
