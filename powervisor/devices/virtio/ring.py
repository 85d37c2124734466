"""What split and packed rings have in common: chains of descriptors, and the rules a driver must keep.

A ring reads and writes guest RAM in place. Words that driver and device both look at while the other writes are
accessed through 16-bit views, so that none is ever seen half written.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

from powervisor.memory.space import BusError, Dma

NEXT, WRITE, INDIRECT = 1, 2, 4
"""Flags of a descriptor."""
DESCRIPTOR = 16
_PAGE = 4096
MAX_CHAIN = 1024
"""Descriptors a chain may have, tables of indirect ones included; as many buffers as preadv(2) takes."""

_FENCE = threading.Lock()


class RingError(Exception):
    """The driver broke the rules of a ring: the device cannot go on before a reset."""


class Layout(NamedTuple):
    """Where a ring is and how it is used: what the driver chose before it enabled the queue."""

    size: int
    descriptors: int
    driver: int
    """Address of the driver's area: the available ring, or the driver's event suppression."""
    device: int
    """Address of the device's area: the used ring, or the device's event suppression."""
    big_endian: bool
    """As legacy drivers of big-endian guests have it."""
    event_index: bool
    indirect: bool


class Chain:
    """Buffers of one request, views of guest RAM: what the device reads, then what it writes."""

    __slots__ = ("descriptors", "identifier", "readable", "writable", "written_places")

    def __init__(self) -> None:
        self.identifier = 0
        """How the driver knows it."""
        self.descriptors = 0
        """Places it takes in the ring."""
        self.readable: list[memoryview] = []
        self.writable: list[memoryview] = []
        self.written_places: list[tuple[int, int]] = []

    def add(self, dma: Dma, address: int, length: int, write: bool) -> None:
        """Append a buffer. Raises RingError for what is no RAM, and for one to be read after one to be written."""
        if self.writable and not write:
            raise RingError("a buffer to read follows one to write")
        buffers = self.writable if write else self.readable
        try:
            for pa, view in dma.buffers(address, length, write):
                buffers.append(view)
                if write:
                    self.written_places.append((pa, len(view)))
        except BusError:
            raise RingError(f"a buffer of {length} bytes at 0x{address:x} is not in RAM") from None
        if len(buffers) > MAX_CHAIN - 1 and len(self.readable) + len(self.writable) > MAX_CHAIN:
            raise RingError(f"a chain has more than {MAX_CHAIN} buffers")


class Ring(Protocol):
    """One queue's ring, used by one thread at a time."""

    def pop(self) -> Chain | None:
        """The next chain the driver made available. Raises RingError."""

    def unpop(self, chain: Chain) -> None:
        """Leave the chain that was popped last, and not pushed, for later."""

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back, `written` bytes of its buffers filled."""

    def publish(self) -> bool:
        """Let the driver see what was pushed; whether it wants an interrupt."""

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify now."""

    def enable_notifications(self) -> bool:
        """Ask for a notification of the next chain; whether there is one already, which comes without."""

    def position(self) -> list[int]:
        """How far the ring was worked off, for its next life after a restore."""


def area(dma: Dma, address: int, length: int, align: int, what: str) -> memoryview:
    """A part of a ring as one view. Raises RingError."""
    if address % align:
        raise RingError(f"the {what} at 0x{address:x} is not aligned to {align}")
    try:
        views = dma.views(address, length, True)
    except BusError:
        views = []
    if len(views) != 1:
        raise RingError(f"the {what} ({length} bytes at 0x{address:x}) is not in RAM")
    return views[0]


def indirect_table(dma: Dma, address: int, length: int) -> tuple[memoryview, int]:
    """The table of indirect descriptors at `address`, and how many it has. Raises RingError."""
    if not length or length % DESCRIPTOR:
        raise RingError(f"a table of indirect descriptors has {length} bytes")
    return area(dma, address, length, 1, "table of indirect descriptors"), length // DESCRIPTOR


def fence() -> None:
    """Order this thread's earlier stores before its later loads, as seen by the guest's CPUs."""
    with _FENCE:  # taking a lock is a locked instruction on x86-64
        pass


def passed(event: int, new: int, old: int) -> bool:
    """Whether going from `old` to `new` passed the entry `event`, in 16-bit arithmetic (virtio 1.2, 2.7.7.1)."""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


def swapped(value: int) -> int:
    """A 16-bit value with its bytes exchanged."""
    return (value & 0xFF) << 8 | value >> 8


class Stores:
    """What was stored in chains' buffers: code translated from there is dropped, with one call for pages in a row."""

    def __init__(self, dma: Dma) -> None:
        self._written = dma.space.written
        self._begin = self._end = 0

    def note(self, chain: Chain, length: int) -> None:
        """`length` bytes were stored in the chain's buffers."""
        for pa, n in chain.written_places:
            if length <= 0:
                return
            begin, end = pa & -_PAGE, (pa + min(n, length) + _PAGE - 1) & -_PAGE
            if begin > self._end or end < self._begin:
                self.tell()
                self._begin, self._end = begin, end
            else:
                self._begin, self._end = min(begin, self._begin), max(end, self._end)
            length -= n

    def tell(self) -> None:
        """Announce what was noted."""
        if self._begin < self._end:
            self._written(self._begin, self._end - self._begin)
            self._begin = self._end = 0
