"""The split ring: a descriptor table, and rings of available and used chains (virtio 1.2, section 2.7)."""

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
    swapped,
)
from powervisor.memory.space import Dma

NO_INTERRUPT = NO_NOTIFY = 1


class SplitRing:
    """Little-endian, or big-endian as legacy drivers of a big-endian guest write it."""

    def __init__(self, dma: Dma, layout: Layout, position: list[int]) -> None:
        size = layout.size
        if not size or size & (size - 1):
            raise RingError(f"a split ring of {size} entries")
        self.dma, self.layout, self.size = dma, layout, size
        order = ">" if layout.big_endian else "<"
        self._entry = struct.Struct(f"{order}QIHH")
        self._used_entry = struct.Struct(f"{order}II")
        self._table = area(dma, layout.descriptors, DESCRIPTOR * size, 16, "descriptor table")
        self._avail = area(dma, layout.driver, 6 + 2 * size, 2, "available ring").cast("H")
        self._used = area(dma, layout.device, 6 + 8 * size, 4, "used ring")
        self._used_words = self._used.cast("H")
        self._swap = layout.big_endian
        self._stores = Stores(dma)
        self._next, self._pushed = position or (0, 0)
        self._published = self._pushed
        self._seen = self._next

    def position(self) -> list[int]:
        """Index of the next chain to take, and of the next place in the used ring."""
        return [self._next, self._published]

    def _load(self, at: int) -> int:
        value = self._avail[at]
        return swapped(value) if self._swap else value

    def _store(self, at: int, value: int) -> None:
        self._used_words[at] = swapped(value) if self._swap else value

    def pop(self) -> Chain | None:
        """The next chain the driver made available. Raises RingError."""
        if self._next == self._seen:
            self._seen = self._load(1)
            if (waiting := self._seen - self._next & 0xFFFF) > self.size:
                raise RingError(f"{waiting} chains are available in a ring of {self.size}")
            if not waiting:
                return None
        chain = self._gather(self._load(2 + self._next % self.size))
        self._next = self._next + 1 & 0xFFFF
        return chain

    def _gather(self, index: int) -> Chain:
        chain = Chain()
        chain.identifier = index
        table, size, nested = self._table, self.size, False
        for _ in range(MAX_CHAIN):
            if index >= size:
                raise RingError(f"descriptor {index} of a table of {size}")
            address, length, flags, following = self._entry.unpack_from(table, DESCRIPTOR * index)
            if flags & INDIRECT:
                if nested or flags & NEXT or not self.layout.indirect:
                    raise RingError("a table of indirect descriptors where none may be")
                table, size = indirect_table(self.dma, address, length)
                index, nested = 0, True
                continue
            chain.add(self.dma, address, length, bool(flags & WRITE))
            if not flags & NEXT:
                return chain
            index = following
        raise RingError(f"a chain has more than {MAX_CHAIN} descriptors, or goes in a circle")

    def unpop(self, chain: Chain) -> None:
        """Leave the chain that was popped last for later."""
        self._next = self._next - 1 & 0xFFFF

    def push(self, chain: Chain, length: int) -> None:
        """Give a chain back, `length` bytes of its buffers written."""
        if length:
            self._stores.note(chain, length)
        at = 4 + 8 * (self._pushed % self.size)
        self._used_entry.pack_into(self._used, at, chain.identifier, length)
        self._pushed = self._pushed + 1 & 0xFFFF

    def publish(self) -> bool:
        """Let the driver see what was pushed; whether it wants an interrupt."""
        old, new = self._published, self._pushed
        if old == new:
            return False
        self._stores.tell()
        self._store(1, new)
        self._published = new
        fence()
        if self.layout.event_index:
            return passed(self._load(2 + self.size), new, old)
        return not self._load(0) & NO_INTERRUPT

    def disable_notifications(self) -> None:
        """Tell the driver that it need not notify now; with event index it is enough not to move the index."""
        if not self.layout.event_index:
            self._store(0, NO_NOTIFY)

    def enable_notifications(self) -> bool:
        """Ask for a notification of the next chain; whether there is one already, which comes without."""
        if self.layout.event_index:
            self._store(2 + 4 * self.size, self._next)
        else:
            self._store(0, 0)
        fence()
        return self._load(1) != self._next
