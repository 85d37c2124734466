"""What vCPUs do, collected from their rings (vcpu.trace) in the order of time, for whoever listens.

Nobody listens: no ring is written. Rings are read by a thread ten times a second, and by a vCPU's own thread when its
ring is half full, which makes the guest as slow as its listeners: nothing is lost.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..vcpu.state import Request
from ..vcpu.trace import STEPPED, Trace, TraceEvent, TraceRecord, TraceRing
from .exits import Exit

if TYPE_CHECKING:
    from .vcpu import Vcpu
    from .vm import Vm

__all__ = ["Event", "Instructions", "Listening", "Trace", "TraceEvent", "Tracing"]

CAPACITY = 1 << 14
"""Records of a ring."""
INTERVAL = 0.1
"""Seconds between two looks at the rings."""
_MOST_STEPPED, _MOST_OTHERS = 16, 2
"""Records that an instruction makes at most, on average over thousands: where each is traced, and where events are."""
SETTLING_NS = 1_000_000
"""What is younger may come after what happened later on another vCPU: it waits for the next look."""
HIGHEST = (1 << 64) - 1
_RECORD = struct.Struct("<QQQII5Q")
assert _RECORD.size == TraceRecord.size


class Event(NamedTuple):
    """Something a vCPU did. `kind` is a TraceEvent, which says what `detail` and `args` are, or the poster's own."""

    time: int
    """The host's CLOCK_MONOTONIC in ns."""
    cpu: int
    kind: int
    detail: int
    pc: int
    key: int
    """Of the context (vcpu.modes): LPID, PID, GS, PR."""
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Instructions:
    """Which instructions are traced one by one: by effective address, of any program or in contexts of some keys."""

    first: int = 0
    last: int = HIGHEST
    space_mask: int = 0
    space: int = 0

    def __or__(self, other: Instructions) -> Instructions:
        """All that either names, and perhaps more: listeners look for themselves."""
        same = (self.space_mask, self.space) == (other.space_mask, other.space)
        mask, space = (self.space_mask, self.space) if same else (0, 0)
        return Instructions(min(self.first, other.first), max(self.last, other.last), mask, space)


@dataclass(eq=False)
class Listening:
    """One listener: the Trace bits it wants, of which vCPUs (all: None). `hear` gets events in the order of time."""

    hear: Callable[[Sequence[Event]], None]
    bits: int = 0
    cpus: Collection[int] | None = None
    instructions: Instructions = field(default_factory=Instructions)
    coverage: bool = False
    """Wants each block of code when it is first executed, of all vCPUs; the guest is slower meanwhile."""
    _posted: deque[Event] = field(init=False, default_factory=deque)
    _young: list[Event] = field(init=False, default_factory=list)

    def post(self, event: Event) -> None:
        """Add an event of the listener's own, which it hears among the others; from any thread."""
        self._posted.append(event)

    def tell(self, events: Sequence[Event], settled: int) -> None:
        """Have it hear events in order, with its own that are not younger than `settled`."""
        own, self._young = self._young, []
        while self._posted:
            own.append(self._posted.popleft())
        if own:
            own.sort(key=itemgetter(0))
            count = bisect_right(own, settled, key=itemgetter(0))
            self._young = own[count:]
            events = sorted([*events, *own[:count]], key=itemgetter(0))
        if events:
            self.hear(events)


class _Ring:
    """A vCPU's ring and its memory."""

    def __init__(self, vcpu: Vcpu) -> None:
        self.vcpu = vcpu
        self._memory = ctypes.create_string_buffer(CAPACITY * TraceRecord.size)
        self._records = memoryview(self._memory).cast("B")
        self.state: Any = TraceRing.new()
        self.state.records, self.state.mask = ctypes.addressof(self._memory), CAPACITY - 1
        # Not by `struct`, which may read a number byte by byte while the vCPU changes it.
        self._head = ctypes.c_uint64.from_address(self.state.address + TraceRing.offset("head"))
        self._tail = ctypes.c_uint64.from_address(self.state.address + TraceRing.offset("tail"))
        vcpu.state.tracer = self.state.address

    def waiting(self) -> int:
        """Records nobody has read."""
        return self._head.value - self._tail.value

    def take(self, into: list[Event]) -> None:
        """Move what there is; one thread at a time."""
        head, tail = self._head.value, self._tail.value
        if head == tail:
            return
        size, index = TraceRecord.size, self.vcpu.index
        first, last = tail % CAPACITY, tail % CAPACITY + head - tail
        data = bytes(self._records[first * size : min(last, CAPACITY) * size])
        if last > CAPACITY:
            data += self._records[: (last - CAPACITY) * size]
        self._tail.value = head
        for moment, pc, key, kind, detail, *args in _RECORD.iter_unpack(data):
            into.append(Event(moment, index, kind, detail, pc, key, tuple(args)))


class Tracing:
    """The listeners of a Vm, `Vm.tracing`."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._changing = threading.RLock()
        self._reading = threading.RLock()
        self._listeners: tuple[Listening, ...] = ()
        self._rings: list[_Ring] = []
        self._young: list[Event] = []
        self._stop = threading.Event()
        self._stop.set()
        self._covered = False
        self._stepped: dict[int, Instructions] = {}

    # ---- listeners -------------------------------------------------------------------------------------------------

    def open(self, listener: Listening) -> None:
        """Tell a listener of what happens from now on; any thread but a vCPU's own may do so, at any time."""
        with self._changing:
            if not self._rings:
                self._rings = [_Ring(vcpu) for vcpu in self._vm.vcpus]
            self._read(everything=True)
            self._listeners += (listener,)
            self._apply(self._listeners)
            if self._stop.is_set():
                self._stop = threading.Event()
                threading.Thread(target=self._work, args=(self._stop,), name="tracing", daemon=True).start()
                self._vm.observe(self)

    def close(self, listener: Listening) -> None:
        """Tell it of what happened until now, and of nothing more."""
        with self._changing:
            if listener not in self._listeners:
                return
            others = tuple(other for other in self._listeners if other is not listener)
            self._apply(others)
            with self._reading:
                self._read(everything=True)
                self._listeners = others
            if not self._listeners:
                self._stop.set()
                self._vm.unobserve(self)

    def end(self) -> None:
        """Close whoever still listens: the vCPUs have ended."""
        for listener in self._listeners:
            self.close(listener)

    def _apply(self, listeners: Collection[Listening]) -> None:
        """Bring native code in line with listeners."""
        bits: dict[int, int] = {}
        stepped: dict[int, Instructions] = {}
        for ring in self._rings:
            index = ring.vcpu.index
            mine = [one for one in listeners if one.cpus is None or index in one.cpus]
            bits[index] = 0
            for one in mine:
                bits[index] |= one.bits
                if one.bits & Trace.INSN:
                    stepped[index] = stepped[index] | one.instructions if index in stepped else one.instructions
        covered = any(one.coverage for one in listeners)
        if covered != self._covered or any(self._stepped.get(index) != range_ for index, range_ in stepped.items()):
            with self._vm.quiet():
                self._set(bits, stepped)
                for ring in self._rings:
                    ctypes.memset(ring.state.address + TraceRing.offset("stepped"), 0, 8 * STEPPED)
                self._vm.state.coverage = int(covered)
                self._vm.flush_code()
        else:
            self._set(bits, stepped)
        self._covered, self._stepped = covered, stepped

    def _set(self, bits: dict[int, int], stepped: dict[int, Instructions]) -> None:
        for ring in self._rings:
            state, index = ring.state, ring.vcpu.index
            if chosen := stepped.get(index):
                state.first, state.last = chosen.first, chosen.last
                state.space_mask, state.space = chosen.space_mask, chosen.space
            ring.vcpu.state.trace = bits[index]

    @property
    def lost(self) -> int:
        """Events that found no room in a ring; none, unless an instruction has thousands."""
        return sum(int(ring.state.lost) for ring in self._rings)

    # ---- events ----------------------------------------------------------------------------------------------------

    def sample(self, vcpu: Vcpu, asked: int) -> None:
        """Have a vCPU tell where it is (TraceEvent.SAMPLE, with `asked`) at the next place where it looks."""
        self._rings[vcpu.index].state.asked = asked
        vcpu.kick(Request.SAMPLE)

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        """An observer of the Vm: empties the vCPU's ring when it is half full."""
        if self._rings[vcpu.index].waiting() > CAPACITY >> 1:
            self._read()

    @property
    def most_at_once(self) -> int | None:
        """Instructions after which a vCPU that does not leave by itself (lockstep) has to, for its ring; None: any."""
        if not self._listeners:
            return None
        return CAPACITY // 2 // (_MOST_STEPPED if self._stepped else _MOST_OTHERS)

    def read(self) -> None:
        """Tell listeners of everything that happened until now."""
        self._read(everything=True)

    def _read(self, everything: bool = False) -> None:
        with self._reading:
            settled = HIGHEST if everything else time.monotonic_ns() - SETTLING_NS
            events, self._young = self._young, []
            for ring in self._rings:
                ring.take(events)
            events.sort(key=itemgetter(0))
            count = bisect_right(events, settled, key=itemgetter(0))
            self._young = events[count:]
            del events[count:]
            for listener in self._listeners:
                listener.tell(events, settled)

    def _work(self, stop: threading.Event) -> None:
        while not stop.wait(INTERVAL):
            self._read()
