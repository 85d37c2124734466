"""The Freescale MPIC 4.2, the interrupt controller of QorIQ chips, as a device.

All logic is native (mpic_native, mpic_delivery, mpic_timers); this class is its face in Python: MMIO that comes through
Python, interrupt lines, timers' appointments, saving, counters.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from powervisor.devices.clock import Clock, HostClock, Timer
from powervisor.devices.device import Device
from powervisor.devices.mpic_delivery import PROXY_MODE, best_ready
from powervisor.devices.mpic_native import ENTRY_POINTS
from powervisor.devices.mpic_registers import MAX_CPUS, SOURCES, Offset, register_kind, register_name
from powervisor.devices.mpic_state import INPUTS, IPI0, PRIORITIES, TIMER0, Event, MpicState
from powervisor.devices.mpic_timers import NEVER
from powervisor.devices.mpic_timing import WORDS, MpicTiming
from powervisor.devices.registers import NamedRegister
from powervisor.native.ints import u32
from powervisor.native.lang import NativeFunction
from powervisor.native.locks import host_syscall
from powervisor.native.struct import ArrayView, Struct

SHORTEST_WAIT_NS = 100_000
"""Timers that expire more often are counted in batches: a guest cannot keep the host's clock thread busy."""

Function = Callable[..., int | None]

_SAVED = ("gcr", "pir", "spurious_vector", "errors", "error_mask", "msir")
_SAVED_ARRAYS: dict[str, tuple[str, ...]] = {
    "inputs": ("ivpr", "idr", "ilr", "level", "pending", "in_service"),
    "cpus": ("ctpr", "in_service", "service"),
    "groups": ("tfrr", "tcr", "base", "count", "toggle"),
    "messages": ("msgr", "enable", "status"),
}
"""What is saved: fields of MpicState, and those of the structs in its arrays (of groups also of their timers)."""


@functools.cache
def _after_reset(cpus: int) -> bytes:
    """A new controller's state at time 0. As Python finding it takes milliseconds, it is found once."""
    state = MpicState.new()
    state.cpu_count, state.syscall = cpus, host_syscall()
    ENTRY_POINTS["reset"](state.address)
    return ctypes.string_at(state.address, MpicState.size)


class Mpic(Device):
    """One controller for `cpus` CPUs; `base` is the physical address of its window.

    `on_core_reset(cpu, held)` is called when PIR holds a CPU in reset (True) and lets it start anew (False).
    Until `bind` everything runs as Python, one caller at a time; then as compiled code, shared with the vCPUs.
    """

    size = Offset.WINDOW
    compatible = ("fsl,mpic",)
    device_type = "open-pic"

    def __init__(
        self,
        name: str,
        cpus: int,
        clock: Clock,
        base: int = 0,
        on_core_reset: Callable[[int, bool], None] = lambda cpu, held: None,
    ) -> None:
        if not 1 <= cpus <= MAX_CPUS:
            raise ValueError(f"{name}: {cpus} CPUs, an MPIC has 1 to {MAX_CPUS}")
        self.base = base
        self.clock = clock
        self.on_core_reset = on_core_reset
        self.state = MpicState.new()
        self.state_address: int = self.state.address
        ctypes.memmove(self.state_address, _after_reset(cpus), MpicState.size)
        self._events = ctypes.c_uint32.from_address(self.state_address + MpicState.offset("events"))
        if isinstance(clock, HostClock):
            # Read in this order, the native clock is never behind `clock`, and no appointment comes too early.
            now = time.monotonic_ns()
            self.state.clock_origin = now - clock.now_ns()
            clock.on_release(self._clock_held)
            self.state.clock = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value or 0
        self._appointment: Timer | None = None
        self._lines: dict[int, MpicLine] = {}
        self._python = threading.RLock()
        self._functions: dict[str, Function] = {}
        self.unbind()
        super().__init__(name)
        self._tick()

    # -- native code

    def _clock_held(self, ns: int) -> None:
        self.state.clock_origin += ns

    def _interpreted(self, function: NativeFunction) -> Function:
        def call(*args: int) -> int | None:
            with self._python:
                value = function(*args)
            return None if value is None else int(value)

        return call

    def bind(self, **functions: Function) -> None:
        """From now on call these instead of the Python bodies: one for each of `ENTRY_POINTS`, same arguments."""
        if functions.keys() != ENTRY_POINTS.keys():
            raise ValueError(f"{self.name}: bind takes {', '.join(ENTRY_POINTS)}")
        self._functions = dict(functions)

    def unbind(self) -> None:
        """Call the Python bodies: compiled code is not there yet, or no longer."""
        self._functions = {entry: self._interpreted(function) for entry, function in ENTRY_POINTS.items()}

    def bind_addresses(self, addresses: Mapping[str, int]) -> None:
        """`bind` to compiled code: host addresses by native symbol, as an object's loader returns them."""
        self.bind(**{entry: callable_at(f, addresses[f.name]) for entry, f in ENTRY_POINTS.items()})

    def _call(self, entry: str, *args: int) -> int:
        if not self.state.clock:
            self.state.now_ns = self.clock.now_ns()
        return self._functions[entry](self.state_address, *args) or 0

    def attach(self, cpu: int, lines: int, requests: int, asleep: int) -> None:
        """Drive vCPU `cpu` through the words at these host addresses (see `Vcpu.lines`, `requests`, `asleep`)."""
        self._call("attach", cpu, lines, requests, asleep)

    def detach(self, cpu: int) -> None:
        """Forget a vCPU's words, before their memory goes."""
        self._call("attach", cpu, 0, 0, 0)

    # -- the guest's side

    def read(self, offset: int, size: int, cpu: int = 0) -> int:
        """A register's value; a narrower access gets its part of the whole register's."""
        self.counters.reads += 1
        word = offset & ~3
        if register_name(word) is None:
            self.unknown(offset)
        value = self._call("read", word, cpu)
        return value >> 8 * (4 - size - (offset & 3)) & (1 << 8 * size) - 1 if offset & 3 < 5 - size else 0

    def write(self, offset: int, size: int, value: int, cpu: int = 0) -> None:
        """Write a register; narrower writes have no effect, registers take whole words only."""
        self.counters.writes += 1
        if size != 4 or offset & 3 or register_name(offset) is None:
            self.unknown(offset)
        if size == 4 and not offset & 3:
            self._call("write", offset, value & 0xFFFF_FFFF, cpu)
            if self.state.events:
                self.service()

    # -- the machine's side

    def register_at(self, offset: int) -> NamedRegister | None:
        """By the manual's names."""
        name, word = register_name(offset & ~3), offset & ~3
        kind = register_kind(word)
        return None if name is None else NamedRegister(name, word, 4, kind, kind)

    def source_of(self, line: object) -> int | None:
        """The source whose pin a line is."""
        return line.number if isinstance(line, MpicLine) and line.entry == "set_irq" else None

    def line(self, source: int) -> MpicLine:
        """The pin of a source, 0 to 255."""
        if not 0 <= source < SOURCES:
            raise ValueError(f"{self.name}: source {source}, there are {SOURCES}")
        return self._lines.setdefault(source, MpicLine(self, "set_irq", source))

    def error_line(self, error: int) -> MpicLine:
        """The pin of an error interrupt, 0 to 31 (bit 31-error of EISR)."""
        if not 0 <= error < 32:
            raise ValueError(f"{self.name}: error interrupt {error}, there are 32")
        return self._lines.setdefault(SOURCES + error, MpicLine(self, "set_error", error))

    def msi(self, data: int) -> None:
        """A message 0..255 to MSI bank A, without the PCI bus between."""
        self._call("msi", data & 0xFF)

    def delivering(self, cpu: int) -> str | None:
        """The input whose external interrupt a CPU has just taken, as `delivered` names it; None when it has gone."""
        state = self.state.cpus[cpu]
        if int(self.state.gcr) & PROXY_MODE == PROXY_MODE:  # acknowledged when it was taken
            serving = int(state.in_service)
            return _input_name(int(state.service[serving.bit_length() - 1])) if serving else None
        source, priority = best_ready(self.state, state)
        return _input_name(int(source)) if priority else None

    def acknowledge(self, cpu: int) -> int:
        """IACK of a CPU, as a core does it in external proxy mode."""
        return self._call("acknowledge", cpu)

    @property
    def events(self) -> int:
        """Not 0 when native code left work for `service`."""
        return self._events.value

    def service(self) -> None:
        """Do what native code leaves to Python, under the machine's lock.

        A vCPU whose access caused such work is kicked out of native code; its run loop then calls this.
        """
        if self.state.events & Event.TIMERS:
            self._tick()
        if self.state.events & Event.CORES:
            taken = self._call("take_cores")
            for cpu in range(int(self.state.cpu_count)):
                bit = 1 << cpu
                if taken & bit:
                    self.on_core_reset(cpu, True)
                if (taken | taken >> 32) & bit and not self.core_held(cpu):
                    self.on_core_reset(cpu, False)

    def core_held(self, cpu: int) -> bool:
        """Whether PIR holds a CPU in reset."""
        return bool(self.state.pir >> cpu & 1)

    def count(self) -> None:
        """Let the timers count up to now, and come again when one will interrupt."""
        self._tick()

    def _tick(self) -> None:
        """Count the timers, and come again when one will interrupt."""
        deadline = self._call("tick")
        if self._appointment:
            self._appointment.cancel()
            self._appointment = None
        if deadline != NEVER:
            at = max(deadline, self.clock.now_ns() + SHORTEST_WAIT_NS)
            self._appointment = self.clock.call_at(at, self._tick)

    def reset(self) -> None:
        """Power-on reset. What devices drive on the pins stays, and so do the counters."""
        self._call("reset")
        self._tick()

    # -- saving

    @contextmanager
    def _by_clock(self) -> Iterator[None]:
        """Native code takes the time from `clock`, which may be held, instead of the host's."""
        native, self.state.clock = int(self.state.clock), 0
        try:
            yield
        finally:
            self.state.clock = native

    def save(self) -> dict[str, Any]:
        """All registers and pending interrupts; the vCPUs must not run."""
        with self._by_clock():
            self._tick()
        saved: dict[str, Any] = {name: _plain(getattr(self.state, name)) for name in _SAVED}
        saved["cpu_count"] = int(self.state.cpu_count)
        for rows, names in _SAVED_ARRAYS.items():
            parts = self._parts(rows)
            saved[rows] = {name: _column(parts, name) for name in names}
        return saved

    def _parts(self, array: str) -> list[Any]:
        """The structs of an array of the state; only the CPUs there are."""
        parts = _parts(getattr(self.state, array))
        return parts[: int(self.state.cpu_count)] if array == "cpus" else parts

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned; missing parts get their reset value.

        Raises ValueError for parts this controller does not have; it is then unchanged.
        """
        shape = self.save()
        count = saved.get("cpu_count", shape["cpu_count"])
        if count != shape["cpu_count"]:
            raise ValueError(f"{self.name}: saved state has {count} CPUs, the machine has {shape['cpu_count']}")
        _check_shape(self.name, saved, shape)
        served = saved.get("cpus", {})
        if any(bits >> PRIORITIES for bits in served.get("in_service", ())) or any(
            n >= INPUTS for inputs in served.get("service", ()) for n in inputs
        ):
            raise ValueError(f"{self.name}: saved state has interrupts in service that do not exist")
        with self._by_clock():
            self._call("reset")
            for name in saved.keys() & _SAVED:
                _assign(self.state, name, saved[name])
            for rows in saved.keys() & _SAVED_ARRAYS.keys():
                parts = self._parts(rows)
                for name, values in saved[rows].items():
                    _assign_column(parts, name, values)
            self._call("rebuild")
            self._tick()

    # -- counters

    def measure(self, on: bool) -> None:
        """Let native code measure latencies and count accesses from now on, in `timing`, or stop that."""
        if on:
            ctypes.memset(self.timing.address, 0, MpicTiming.size)
        self._call("measure", self.timing.address if on else 0)

    @functools.cached_property
    def timing(self) -> Any:
        """MpicTiming."""
        return MpicTiming.new()

    def latencies(self) -> dict[str, Any]:
        """What was measured of each input: a native Histogram by name, without those that had no interrupt."""
        parts = self.timing.latency
        return {_input_name(n): parts[n] for n in range(INPUTS) if self.state.inputs[n].delivered and parts[n].count}

    def accesses(self) -> dict[int, tuple[int, int]]:
        """Reads and writes since `measure`, by offset; without those that never were."""
        reads, writes = (_nonzero(self.timing.address + MpicTiming.offset(name)) for name in ("reads", "writes"))
        return {n * 4: (reads.get(n, 0), writes.get(n, 0)) for n in reads.keys() | writes.keys()}

    @property
    def delivered(self) -> dict[str, int]:
        """How often each input was acknowledged, by name ("42", "ipi0", "timer3"); without those that never were."""
        counts = ((n, int(part.delivered)) for n, part in enumerate(self._parts("inputs")))
        return {_input_name(n): count for n, count in counts if count}

    @property
    def ipis(self) -> int:
        """Interprocessor interrupts sent."""
        return int(self.state.ipis)

    @property
    def eois(self) -> int:
        """Interrupts ended."""
        return sum(int(cpu.eois) for cpu in self._parts("cpus"))

    @property
    def spurious(self) -> int:
        """Acknowledges that found nothing to deliver."""
        return sum(int(cpu.spurious) for cpu in self._parts("cpus"))


class MpicLine:
    """A pin. Of its next rising edges `dropping` (-1: all) are lost, for those who test what comes of that."""

    def __init__(self, mpic: Mpic, entry: str, number: int) -> None:
        self.mpic, self.entry, self.number = mpic, entry, number
        self._level = self._lost = False
        self.dropping = self.dropped = 0

    def set(self, level: bool) -> None:
        """Drive it."""
        self._level = level
        if level and self.dropping:
            self.dropping -= self.dropping > 0
            self.dropped += 1
            self._lost = True
            return
        if not self._lost:
            self.mpic._call(self.entry, self.number, int(level))
        self._lost = False

    def heal(self) -> None:
        """Drop nothing more; a level that was lost arrives now."""
        self.dropping, lost = 0, self._lost
        self._lost = False
        if lost:
            self.set(self._level)


_EMPTY = bytes(4096)
_COUNT = struct.Struct("=Q")
_CTYPES = {32: ctypes.c_uint32, 64: ctypes.c_uint64}


def callable_at(function: NativeFunction, address: int) -> Function:
    """Compiled code as a Python callable, by the native function's signature."""
    notes = [parameter.annotation for parameter in function.signature.parameters.values()]
    arguments = [_CTYPES[function.annotation(note, {}).bits] for note in notes]
    result = function.annotation(function.signature.return_annotation, {})
    made: Function = ctypes.CFUNCTYPE(None if result is None else _CTYPES[result.bits], *arguments)(address)
    return made


def _nonzero(address: int) -> dict[int, int]:
    """Counts of accesses that are not 0, by word; they are few, and most pages of them empty."""
    data, found = ctypes.string_at(address, 8 * WORDS), {}
    for begin in range(0, len(data), 4096):
        if data[begin : begin + 4096] != _EMPTY:
            found.update(
                {
                    (begin + at) // 8: count
                    for at, (count,) in zip(
                        range(0, 4096, 8), _COUNT.iter_unpack(data[begin : begin + 4096]), strict=True
                    )
                    if count
                }
            )
    return found


def _input_name(n: int) -> str:
    return str(n) if n < IPI0 else f"ipi{n - IPI0}" if n < TIMER0 else f"timer{n - TIMER0}"


def _parts(array: ArrayView) -> list[Any]:
    return [array[i] for i in range(len(array))]


def _plain(value: Any) -> Any:
    return [int(item) for item in _parts(value)] if isinstance(value, ArrayView) else int(value)


def _words(parts: list[Any], name: str) -> memoryview | None:
    """A word of each of an array's structs, as it lies there; None for what is no word."""
    kind = type(parts[0])
    if name not in kind.fields or kind.fields[name].type is not u32:
        return None
    step = kind.size // 4
    lying = (ctypes.c_uint32 * (step * len(parts))).from_address(parts[0].address)
    return memoryview(lying).cast("B").cast("I")[kind.offset(name) // 4 :: step]


def _column(parts: list[Any], name: str) -> list[Any]:
    """A field of each part, or of each of its timers."""
    if (words := _words(parts, name)) is not None:
        return words.tolist()
    if name in type(parts[0]).fields:
        return [_plain(getattr(part, name)) for part in parts]
    return [[int(getattr(timer, name)) for timer in _parts(part.timers)] for part in parts]


def _assign(part: Struct, name: str, value: Any) -> None:
    if isinstance(value, list):
        array = getattr(part, name)
        for i, item in enumerate(value):
            array[i] = item
    else:
        setattr(part, name, value)


def _assign_column(parts: list[Any], name: str, values: list[Any]) -> None:
    if (words := _words(parts, name)) is not None:
        words[:] = memoryview(array("I", [value & 0xFFFF_FFFF for value in values]))
        return
    for part, value in zip(parts, values, strict=True):
        if name in type(part).fields:
            _assign(part, name, value)
        else:
            for timer, item in zip(_parts(part.timers), value, strict=True):
                setattr(timer, name, item)


def _check_shape(where: str, given: Any, shape: Any, path: str = "") -> None:
    """Raise ValueError unless `given` is `shape` with parts left out."""
    if isinstance(shape, dict) and isinstance(given, dict):
        if unknown := sorted(given.keys() - shape.keys()):
            raise ValueError(f"{where}: saved state has unknown parts: {', '.join(path + name for name in unknown)}")
        for name, part in given.items():
            _check_shape(where, part, shape[name], f"{path}{name}.")
    elif isinstance(shape, list) and isinstance(given, (list, tuple)):
        if len(given) != len(shape):
            raise ValueError(f"{where}: saved state has {len(given)} of {path.rstrip('.')}, not {len(shape)}")
        if not all(isinstance(item, int) and isinstance(like, int) for item, like in zip(given, shape, strict=True)):
            for item, like in zip(given, shape, strict=True):
                _check_shape(where, item, like, path)
    elif not isinstance(shape, int) or not isinstance(given, int):
        raise ValueError(f"{where}: saved state has a wrong {path.rstrip('.')}")
