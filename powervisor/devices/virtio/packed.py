"""The packed ring: descriptors that driver and device mark in place (virtio 1.2, section 2.8)."""

from __future__ import annotations

import struct

from powervisor.devices.virtio.ring import (
    DESCRIPTOR,
    INDIRECT,
    MAX_CHAIN,
    NEXT,
    WRITE,
    Chain,
    Layout,
    RingError,
    Stores,
    area,
    fence,
    indirect_table,
    passed,
)
from powervisor.memory.space import Dma

AVAILABLE, USED = 0x80, 0x8000
EVENTS_ON, EVENTS_OFF, EVENTS_AT_ENTRY = 0, 1, 2
MAX_SIZE = 32768
_WRAP = 0x8000
_ENTRY = struct.Struct("<QIHH")
_USED_ENTRY = struct.Struct("<IH")


class PackedRing:
    """Positions count through the ring; the wrap counter changes where it begins anew."""

    def __init__(self, dma: Dma, layout: Layout, position: list[int]) -> None:
        size = layout.size
        if not 1 <= size <= MAX_SIZE:
            raise RingError(f"a packed ring of {size} entries")
        self.dma, self.layout, self.size = dma, layout, size
        self._table = area(dma, layout.descriptors, DESCRIPTOR * size, 16, "descriptor ring")
        self._words = self._table.cast("H")
        self._driver = area(dma, layout.driver, 4, 4, "driver event suppression").cast("H")
        self._device = area(dma, layout.device, 4, 4, "device event suppression").cast("H")
        self._stores = Stores(dma)
        self._next, self._wrap, self._pushed, self._used_wrap = position or (0, 1, 0, 1)
        self._published, self._published_wrap = self._pushed, self._used_wrap

    def position(self) -> list[int]:
        """The place of the next chain to take and of the next one to give back, each with its wrap counter."""
        return [self._next, self._wrap, self._pushed, self._used_wrap]

    def _available(self) -> bool:
        flags = self._words[8 * self._next + 7]
        return bool(flags & AVAILABLE) == bool(self._wrap) != bool(flags & USED)

    def pop(self) -> Chain | None:
        """The next chain the driver made available. Raises RingError."""
        if not self._available():
            return None
        chain = Chain()
        at = self._next
        while True:
            address, length, chain.identifier, flags = _ENTRY.unpack_from(self._table, DESCRIPTOR * at)
            chain.descriptors += 1
            if flags & INDIRECT:
                self._gather(chain, address, length, flags)
            else:
                chain.add(self.dma, address, length, bool(flags & WRITE))
            at = at + 1 if at + 1 < self.size else 0
            if not flags & NEXT:
                break
            if chain.descriptors >= min(self.size, MAX_CHAIN):
                raise RingError(f"a chain of more than {chain.descriptors} descriptors in a ring of {self.size}")
        self._wrap ^= int(self._next + chain.descriptors >= self.size)
        self._next = at
        return chain

    def _gather(self, chain: Chain, address: int, length: int, flags: int) -> None:
        """The buffers of a table of indirect descriptors; they follow each other."""
        if chain.descriptors > 1 or flags & NEXT or not self.layout.indirect:
            raise RingError("a table of indirect descriptors where none may be")
        table, count = indirect_table(self.dma, address, length)
        if count > MAX_CHAIN:
            raise RingError(f"a chain has more than {MAX_CHAIN} descriptors")
        for address, length, _, flags in _ENTRY.iter_unpack(table):
            chain.add(self.dma, address, length, bool(flags & WRITE))

    def unpop(self, chain: Chain) -> None:
        """Leave the chain that was popped last for later."""
        self._next -= chain.descriptors
        if self._next < 0:
            self._next += self.size
            self._wrap ^= 1

    def push(self, chain: Chain, length: int) -> None:
        """Give a chain back, `length` bytes of its buffers written."""
        if length:  # the driver sees this at once
            self._stores.note(chain, length)
            self._stores.tell()
        at = self._pushed
        _USED_ENTRY.pack_into(self._table, DESCRIPTOR * at + 8, length, chain.identifier)
        self._words[8 * at + 7] = (AVAILABLE | USED if self._used_wrap else 0) | (WRITE if chain.writable else 0)
        self._pushed += chain.descriptors
        if self._pushed >= self.size:
            self._pushed -= self.size
            self._used_wrap ^= 1

    def publish(self) -> bool:
        """Whether the driver wants an interrupt for what was pushed."""
        old, new = self._published, self._pushed
        if (old, self._published_wrap) == (new, self._used_wrap):
            return False
        if self._published_wrap != self._used_wrap:
            old -= self.size
        self._published, self._published_wrap = new, self._used_wrap
        fence()
        entry, mode = self._driver[0], self._driver[1] & 3
        if mode != EVENTS_AT_ENTRY or not self.layout.event_index:
            return mode != EVENTS_OFF
        event = entry & ~_WRAP
        if bool(entry & _WRAP) != bool(self._used_wrap):
            event -= self.size
        return passed(event, new, old)

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify now."""
        self._device[1] = EVENTS_OFF

    def enable_notifications(self) -> bool:
        """Ask for a notification of the next chain; whether there is one already, which comes without."""
        if self.layout.event_index:
            self._device[0] = self._next | (_WRAP if self._wrap else 0)
            fence()
            self._device[1] = EVENTS_AT_ENTRY
        else:
            self._device[1] = EVENTS_ON
        fence()
        return self._available()
