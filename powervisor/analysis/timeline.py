"""What CPUs and devices do over time, as a file for ui.perfetto.dev and chrome://tracing.

Each CPU has a track: in the guest, waiting there, and each exit with how long its answer took; interrupts are marks on
it. Each device has one with the accesses to its registers, and one for each of its interrupt pins while it is raised.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from ..errors import UserError, argument
from ..hv.exits import Exit, Hcall, Mmio
from ..hv.tracing import Event, Listening, Trace, TraceEvent
from ..hv.vcpu import Vcpu
from ..machine import Machine
from .files import Path, create
from .lines import LineWatch
from .symbols import Symbols
from .text import INTERRUPTS, Formatter, Kind, exit_name

CPUS, DEVICES, PINS = 1, 2, 3
"""What the format calls processes."""
_NAMES = {CPUS: "CPUs", DEVICES: "devices", PINS: "interrupts"}


class Timeline:
    """Writes a machine's events to a file in Chrome's trace event format (an array), from now until `close`.

    Times are guest seconds since power-on. Raises UserError.
    """

    def __init__(self, machine: Machine, file: Path, symbols: Symbols | None = None) -> None:
        self._machine = machine
        self._formatter = Formatter(machine, symbols or Symbols())
        self._where = argument("trace_json")
        self._file = create(file, self._where)
        self._tracks: dict[tuple[int, str], int] = {}
        self._busy: dict[str, int] = {}
        self._raised: dict[tuple[str, str], int] = {}
        self._closed = False
        self.events = 0
        """Events written so far."""
        self.error: OSError | None = None
        """Why writing was given up."""
        self._put = "[\n"
        for process, name in _NAMES.items():
            self._write("M", process, 0, "process_name", args={"name": name})
            self._write("M", process, 0, "process_sort_index", args={"sort_index": process})
        for vcpu in machine.vcpus:
            self._track(CPUS, f"cpu{vcpu.index}")
        self._listening = Listening(self._hear, Trace.IRQ | Trace.WAIT)
        machine.vm.tracing.open(self._listening)
        self._lines = LineWatch(machine, self._line_changed)
        machine.vm.observe(self)

    # ---- what happens ------------------------------------------------------------------------------------------------

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        """An observer of the Vm, on the vCPU's thread."""
        state = vcpu.state
        self._listening.post(
            Event(
                left, vcpu.index, Kind.EXIT, 0, int(state.pc), int(state.context_key), (exit_, entered, left, answered)
            )
        )

    def _line_changed(self, moment: int, device: str, pin: str, level: bool) -> None:
        self._listening.post(Event(moment, -1, Kind.LINE, 0, 0, 0, (device, pin, level)))

    # ---- the file ----------------------------------------------------------------------------------------------------

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == Kind.EXIT:
                self._exit(event)
            elif event.kind == Kind.LINE:
                self._line(event)
            elif event.kind == TraceEvent.INTERRUPT:
                args = {"pc": self._formatter.at(event)}
                name = INTERRUPTS.get(event.detail, f"IVOR{event.detail}")
                self._write("i", CPUS, event.cpu + 1, name, event.time, args=args, s="t", cat="interrupt")
            elif event.kind == TraceEvent.WAIT:
                self._slice(CPUS, event.cpu + 1, "waiting", event.args[0], event.time, "wait")
        try:
            self._flush()
        except OSError as error:  # told when the timeline is closed; the guest goes on
            self.error = self.error or error

    def _exit(self, event: Event) -> None:
        exit_, entered, left, answered = event.args
        track, name, args = event.cpu + 1, exit_name(exit_), {"pc": self._formatter.at(event)}
        if isinstance(exit_, Mmio):
            place = self._formatter.places.find(exit_.pa, exit_.size)
            doing = "write" if exit_.write else "read"
            register = f"0x{exit_.pa:x}" if place is None else place.name
            value = hex(exit_.value) if place is None else place.describe(exit_.value, exit_.size, exit_.write)
            name, args = f"{name} {register}", {**args, "access": f"{doing} {value}"}
            if place is not None:
                begin = max(left, self._busy.get(place.device, 0))  # the machine's lock lets one in at a time
                end = self._busy[place.device] = max(begin, answered)
                device = self._track(DEVICES, place.device)
                about = {"access": args["access"], "cpu": event.cpu}
                self._slice(DEVICES, device, f"{doing} {register}", begin, end, "device", about)
        elif isinstance(exit_, Hcall):
            args["token"] = hex(exit_.token)
        self._slice(CPUS, track, "guest", entered, left, "guest")
        self._slice(CPUS, track, name, left, answered, "exit", args)

    def _line(self, event: Event) -> None:
        device, pin, level = event.args
        if level:
            self._raised[device, pin] = event.time
        elif (since := self._raised.pop((device, pin), None)) is not None:
            self._pin(device, pin, since, event.time)

    def _pin(self, device: str, pin: str, since: int, until: int) -> None:
        name = f"{device} {pin}"
        self._slice(PINS, self._track(PINS, name), name, since, until, "interrupt")

    def _track(self, process: int, name: str) -> int:
        """The number of what the format calls a thread."""
        known = self._tracks.get((process, name))
        if known is None:
            known = self._tracks[process, name] = 1 + sum(one == process for one, _ in self._tracks)
            self._write("M", process, known, "thread_name", args={"name": name})
        return known

    def _slice(
        self, process: int, track: int, name: str, begin: int, end: int, category: str,
        args: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        more = {} if args is None else {"args": args}
        self._write("X", process, track, name, begin, dur=round(max(end - begin, 0) / 1000, 3), cat=category, **more)

    def _write(self, phase: str, process: int, track: int, name: str, moment: int | None = None, **more: Any) -> None:
        ts = 0 if moment is None else round(self._formatter.seconds(moment) * 1e6, 3)
        event = {"ph": phase, "pid": process, "tid": track, "name": name, "ts": ts, **more}
        self._put += ("" if self.events == 0 else ",\n") + json.dumps(event, separators=(",", ":"))
        self.events += 1

    def _flush(self) -> None:
        text, self._put = self._put, ""
        if self.error is None:
            self._file.write(text)

    def close(self) -> None:
        """Write what happened until now, and end the file."""
        if self._closed:
            return
        self._closed = True
        vm = self._machine.vm
        vm.unobserve(self)
        self._lines.close()
        vm.tracing.close(self._listening)
        now = time.monotonic_ns()
        for (device, pin), since in self._raised.items():
            self._pin(device, pin, since, now)
        self._put += "\n]\n"
        try:
            with self._file:
                self._flush()
        except OSError as error:
            self.error = self.error or error
        if self.error is not None:
            raise UserError(f"{self._where} {self._file.name}: cannot be written ({self.error.strerror}); make room")

    def __enter__(self) -> Timeline:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
