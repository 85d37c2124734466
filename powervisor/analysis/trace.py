"""A trace: lines about what CPUs and devices do, begun and ended at any time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import IO

from ..errors import UserError, argument
from ..hv.exits import Exit, Hcall, Mmio
from ..hv.tracing import HIGHEST, Event, Instructions, Listening, TraceEvent
from ..hv.vcpu import Vcpu
from ..machine import Machine
from ..machine.places import bus_of
from ..vcpu.modes import KEY_GS, KEY_LPID, KEY_LPID_AT
from .files import create
from .lines import LineWatch
from .options import TraceOptions, parse_range
from .symbols import Symbols
from .text import Formatter, Kind, access, key_lpid, key_pid

_ADDRESSES = {
    TraceEvent.MISS, TraceEvent.FAULT, TraceEvent.TLB_WRITE, TraceEvent.WALK, TraceEvent.INVALIDATE, TraceEvent.MMIO,
}  # fmt: skip
"""Events that an address filter compares by their first argument; the others by PC."""
NOBODY = -1
"""The CPU of events that no CPU causes."""


def to_stderr(line: str) -> None:
    """Where lines go that nobody wants elsewhere."""
    print(line, file=sys.stderr)


class Trace:
    """Lines about a machine's events, from now until `close`.

    `options` are TraceOptions or what a user writes for them ("mmio,irq,device=serial0,file=t.txt"). Without a file,
    `write` gets each line, on any thread; default is standard error. Raises UserError.
    """

    def __init__(
        self, machine: Machine, options: TraceOptions | str, symbols: Symbols | None = None,
        write: Callable[[str], None] = to_stderr,
    ) -> None:  # fmt: skip
        self.options = TraceOptions.parse(options) if isinstance(options, str) else options
        self.lines = 0
        """Lines written so far."""
        self._where = f"{argument('trace')} {','.join(self.options.kinds)}"
        self._machine, self._write = machine, write
        symbols = symbols if symbols is not None else Symbols()
        self._formatter = Formatter(machine, symbols)
        self._check()
        self._range = (0, HIGHEST)
        if self.options.address:
            self._range = parse_range(self.options.address, symbols, self._where)
        self._file: IO[str] | None = None
        if self.options.file:
            self._file = create(self.options.file, f"{self._where}: file:")
        self._kinds = frozenset(kind for name in self.options.kinds for kind in _KINDS[name])
        self._unknown: set[tuple[str, int, bool]] = set()
        self._instruction: dict[int, tuple[int, int, int]] = {}
        """By CPU: PC and time of the last instruction that was told, and its place in `_pending`, while it is there."""
        self._pending: list[str] = []
        self._closed = False
        self._lines_watched: LineWatch | None = None
        self._listening = Listening(self._hear, self.options.bits, self.options.cpu or None, self._instructions())
        machine.vm.tracing.open(self._listening)
        if self.options.line:
            self._lines_watched = LineWatch(machine, self._line_changed)
        if self.options.mmio or self.options.unknown or self.options.hcall or self.options.exit:
            machine.vm.observe(self)

    def _check(self) -> None:
        """Raise UserError for filters that name nothing."""
        options, machine = self.options, self._machine
        count = len(machine.vcpus)
        if beyond := [cpu for cpu in options.cpu if cpu >= count]:
            raise UserError(f"{self._where}: cpu={beyond[0]}: there are cpus 0 to {count - 1}")
        names = {device.name for device in machine.built.everything()} | {bus_of(gap) for gap in machine.built.silent}
        if options.device and options.device not in names:
            there = ", ".join(sorted(names))
            raise UserError(f"{self._where}: device={options.device}: no such device; there is {there}")

    def _instructions(self) -> Instructions:
        mask = space = 0
        if self.options.lpid == 0:
            mask = KEY_GS
        elif self.options.lpid is not None:
            mask, space = KEY_GS | KEY_LPID, KEY_GS | self.options.lpid << KEY_LPID_AT
        return Instructions(*self._range, mask, space)

    # ---- events ----------------------------------------------------------------------------------------------------

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        """An observer of the Vm: device accesses, hypercalls and exits, on the vCPU's thread."""
        options = self.options
        if options.cpu and vcpu.index not in options.cpu:
            return
        if isinstance(exit_, Mmio) and (options.mmio or options.unknown):
            self._post(vcpu, left, Kind.ACCESS, exit_)
        if isinstance(exit_, Hcall) and options.hcall:
            gpr = vcpu.state.gpr
            self._post(vcpu, left, Kind.HCALL, exit_, *(int(gpr[n]) for n in range(3, 9)))
        if options.exit:
            self._post(vcpu, left, Kind.EXIT, exit_, entered, left, answered)

    def _post(self, vcpu: Vcpu, moment: int, kind: int, *arguments: object) -> None:
        state = vcpu.state
        self._listening.post(
            Event(moment, vcpu.index, kind, 0, int(state.pc), int(state.context_key), arguments)
        )  # fmt: skip

    def _line_changed(self, moment: int, device: str, pin: str, level: bool) -> None:
        self._listening.post(Event(moment, NOBODY, Kind.LINE, 0, 0, 0, (device, pin, level)))

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == TraceEvent.CHANGES:
                self._add_changes(event)
            elif self._wants(event):
                self._add(event)
        self._flush()

    def _wants(self, event: Event) -> bool:
        options, kind = self.options, event.kind
        if kind not in self._kinds or options.cpu and event.cpu not in options.cpu:
            return False  # native code tells what any of several traces wants
        if kind == Kind.LINE:
            return not options.device or event.args[0] == options.device
        if options.pid is not None and key_pid(event.key) != options.pid:
            return False
        if options.lpid is not None and key_lpid(event.key) != options.lpid:
            return False
        if options.address:
            address = event.args[0].pa if kind == Kind.ACCESS else event.args[0] if kind in _ADDRESSES else event.pc
            if not self._range[0] <= address <= self._range[1]:
                return False
        return not options.device or self._of_device(event)

    def _of_device(self, event: Event) -> bool:
        if event.kind not in (Kind.ACCESS, TraceEvent.MMIO):
            return True
        accessed = event.args[0]
        pa, size = (accessed.pa, accessed.size) if event.kind == Kind.ACCESS else (accessed, event.detail)
        place = self._formatter.places.find(pa, size)
        return place is not None and place.device == self.options.device

    def _add(self, event: Event) -> None:
        if event.kind == Kind.ACCESS and self.options.unknown and (line := self._unknown_access(event)):
            self._pending.append(line)
        if event.kind == TraceEvent.INSN:
            self._instruction[event.cpu] = event.pc, event.time, len(self._pending)
        if event.kind != Kind.ACCESS or self.options.mmio:
            self._pending.append(self._formatter.line(event))

    def _add_changes(self, event: Event) -> None:
        """What an instruction changed beyond one record: to its line, or one of its own where that is written."""
        pc, time, place = self._instruction.get(event.cpu, (None, None, 0))
        if (pc, time) == (event.pc, event.time):
            text = self._formatter.changes(event)
            if place < len(self._pending):
                self._pending[place] += f" {text}"
            else:
                self._pending.append(f"{'':34}{text}")

    def _unknown_access(self, event: Event) -> str:
        """A line about an access where nothing is, when it is the first one there."""
        exit_: Mmio = event.args[0]
        place = self._formatter.places.find(exit_.pa, exit_.size)
        if place is not None and place.known:
            return ""
        key = ("", exit_.pa, exit_.write) if place is None else (place.device, place.offset, exit_.write)
        if key in self._unknown or len(self._unknown) >= MOST_UNKNOWN:
            return ""
        self._unknown.add(key)
        formatter = self._formatter
        text = access(place, exit_.pa, exit_.size, exit_.value, exit_.write, exit_.failed)
        why = "" if place is None else ": no such register"
        return f"{formatter.seconds(event.time):.9f} cpu{event.cpu:<2} unknown {text}{why} at {formatter.at(event)}"

    def _flush(self) -> None:
        lines, self._pending = self._pending, []
        self._instruction = {cpu: (pc, time, WRITTEN) for cpu, (pc, time, _) in self._instruction.items()}
        self.lines += len(lines)
        if self._file is None:
            for line in lines:
                self._write(line)
        elif lines:
            try:
                self._file.write("\n".join(lines) + "\n")
                self._file.flush()
            except OSError as error:
                with contextlib.suppress(OSError):  # the same once more
                    self._file.close()
                self._file = None
                self._write(f"{self._where}: {self.options.file}: {error.strerror}; what follows comes here")

    # ---- ends ------------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """What it traces and how much it told, for a list of traces."""
        where = self.options.file or "the terminal"
        return f"{','.join(self.options.kinds)} to {where}, {self.lines} lines"

    def close(self) -> None:
        """Write what happened until now, and end the trace."""
        if self._closed:
            return
        self._closed = True
        vm = self._machine.vm
        vm.unobserve(self)
        if self._lines_watched is not None:
            self._lines_watched.close()
        vm.tracing.close(self._listening)
        if lost := vm.tracing.lost:
            self._write(f"{self._where}: {lost} events of the machine's traces were lost")
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


WRITTEN = 1 << 62
"""The place of a line that is not pending any more."""
MOST_UNKNOWN = 4096
"""Places without a register that are told: a guest that scans its address space finds more than anybody reads."""
_KINDS: dict[str, tuple[int, ...]] = {
    "insn": (TraceEvent.INSN,),
    "irq": (TraceEvent.INTERRUPT,),
    "syscall": (TraceEvent.SYSCALL,),
    "hcall": (TraceEvent.HCALL, Kind.HCALL),
    "mmu": (TraceEvent.MISS, TraceEvent.FAULT, TraceEvent.CONTEXT),
    "tlb": (TraceEvent.TLB_WRITE, TraceEvent.WALK, TraceEvent.INVALIDATE),
    "mmio": (TraceEvent.MMIO, Kind.ACCESS),
    "unknown": (Kind.ACCESS,),
    "line": (Kind.LINE,),
    "exit": (Kind.EXIT,),
    "wait": (TraceEvent.WAIT,),
}
