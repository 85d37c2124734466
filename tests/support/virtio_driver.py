"""A virtio driver as a guest has it: configuration space, structures in BARs, rings in guest RAM."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from tests.support.pci import IO, MEMORY, Guest

BUS_MEMORY = 0xE000_0000
CCSR_ON_BUS = 0xDFF0_0000
MSIIR = CCSR_ON_BUS + 0x4_1740
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64
INDIRECT, EVENT_INDEX, VERSION_1, ACCESS_PLATFORM, PACKED = (1 << bit for bit in (28, 29, 32, 33, 34))
NEXT, WRITE, TABLE = 1, 2, 4
RINGS, BUFFERS = 0x10_0000, 0x20_0000


class Immediate:
    """A worker that works at once, on the thread that rings."""

    def __init__(self, name, work):
        self.work = work

    def ring(self):
        self.work()

    def close(self):
        pass


class Driver:
    """Drives the function in `slot`; the modern interface by default."""

    def __init__(self, bench, slot=1, legacy=False, messages=True):
        self.bench, self.slot, self.legacy = bench, slot, legacy
        self.ram = bench.space.ram
        self.guest = Guest(bench)
        self.guest.set_config(0, 0x10, CCSR_ON_BUS)
        self.guest.outbound(1, BUS_MEMORY, MEMORY, 29)
        self.guest.outbound(2, 0, IO, 16, io=True)
        self.guest.set_config(slot, 0x10, 0x1000)
        self.guest.set_config(slot, 0x14, BUS_MEMORY)
        self.guest.set_config(slot, 0x20, BUS_MEMORY + 0x1_0000)
        self.guest.set_config(slot, 0x24, 0)
        self.guest.set_config(slot, 4, 7, 2)
        self.places = dict(self._structures())
        self.big = legacy
        if messages and self.places:
            for vector in range(4):
                for word, value in enumerate((MSIIR, 0, vector, 0)):
                    self.memory(16 * vector + 4 * word, 4, value)
            self.guest.set_config(slot, self.msix + 2, 0x8000, 2)

    def config(self, register, size=4):
        return self.guest.config(self.slot, register, size)

    def capabilities(self) -> Iterator[int]:
        at = self.config(0x34, 1)
        while at:
            yield at
            at = self.config(at + 1, 1)

    def _structures(self):
        for at in self.capabilities():
            if self.config(at, 1) == 0x11:
                self.msix = at
            if self.config(at, 1) == 9:
                yield self.config(at + 3, 1), self.config(at + 8)
                if self.config(at + 3, 1) == 5:
                    self.window = at

    # -- accesses

    def access(self, pa, size, value=None):
        if value is None:
            return int.from_bytes(self.bench.space.read(pa, size).to_bytes(size, "little"), "big")
        self.bench.space.write(pa, size, int.from_bytes(value.to_bytes(size, "little"), "big"))
        return None

    def memory(self, offset, size, value=None):
        return self.access(MEMORY + offset, size, value)

    def common(self, offset, size, value=None):
        return self.memory(0x1_0000 + self.places[1] + offset, size, value)

    def io(self, offset, size, value=None):
        return self.access(IO + 0x1000 + offset, size, value)

    def isr(self):
        return self.io(0x13, 1) if self.legacy else self.memory(0x1_0000 + self.places[3], 1)

    def configuration(self, offset, size, value=None):
        if self.legacy:
            return self.io(0x18 + offset, size, value)
        return self.memory(0x1_0000 + self.places[4] + offset, size, value)

    def status(self, value=None):
        return self.io(0x12, 1, value) if self.legacy else self.common(0x14, 1, value)

    @property
    def messages(self):
        """The vectors that were sent, oldest first."""
        return [value >> 24 for offset, _, value in self.bench.irqchip.stores if offset == 0x1740]

    # -- initialisation

    def offered(self):
        if self.legacy:
            return self.io(0, 4)
        words = []
        for select in range(2):
            self.common(0, 4, select)
            words.append(self.common(4, 4))
        return words[0] | words[1] << 32

    def negotiate(self, features):
        """Up to FEATURES_OK; answers the status then."""
        self.status(0)
        self.status(ACKNOWLEDGE)
        self.status(ACKNOWLEDGE | DRIVER)
        if self.legacy:
            self.io(4, 4, features)
            return self.status()
        for select in range(2):
            self.common(8, 4, select)
            self.common(0xC, 4, features >> 32 * select & 0xFFFF_FFFF)
        self.status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
        return self.status()

    def start(self, features=0, size=8, queues=1) -> Any:
        """All the way to DRIVER_OK; answers the first queue's ring."""
        features |= 0 if self.legacy else VERSION_1
        assert self.legacy or self.negotiate(features) & FEATURES_OK
        if self.legacy:
            self.negotiate(features)
        rings = []
        for index in range(queues):
            kind = PackedRing if features & PACKED else SplitRing
            rings.append(kind(self, index, size, features, RINGS + 0x1_0000 * index))
            self.place(rings[-1])
        self.status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK if not self.legacy else 7)
        return rings if queues > 1 else rings[0]

    def place(self, ring):
        if self.legacy:
            self.io(0xE, 2, ring.index)
            self.io(0x16, 2, ring.index + 1)
            self.io(8, 4, ring.table >> 12)
            return
        self.common(0x16, 2, ring.index)
        self.common(0x18, 2, ring.size)
        self.common(0x1A, 2, ring.index + 1)
        self.common(0x10, 2, 0)
        for at, address in ((0x20, ring.table), (0x28, ring.driver_area), (0x30, ring.device_area)):
            self.common(at, 4, address & 0xFFFF_FFFF)
            self.common(at + 4, 4, address >> 32)
        self.common(0x1C, 2, 1)

    def notify(self, index):
        if self.legacy:
            self.io(0x10, 2, index)
        else:
            self.memory(0x1_0000 + self.places[2] + 4 * index, 2, index)


class Ring:
    """What both kinds share: buffers, and how a request is written as descriptors."""

    def __init__(self, driver, index, size, features, at):
        self.driver, self.ram, self.index, self.size, self.features = driver, driver.ram, index, size, features
        self.table = at
        self.order = ">" if driver.big else "<"
        self._buffer = BUFFERS + 0x10_0000 * index

    def pack(self, pa, form, *values):
        data = struct.pack(self.order + form, *values)
        self.ram[pa : pa + len(data)] = data

    def unpack(self, pa, form):
        return struct.unpack(self.order + form, self.ram[pa : pa + struct.calcsize("=" + form)])

    def buffer(self, content):
        """(address, length, flags) of bytes to be read, or of a number of bytes to be written."""
        at = self._buffer
        length = content if isinstance(content, int) else len(content)
        self._buffer += length
        if not isinstance(content, int):
            self.ram[at : at + length] = bytes(content)
        return at, length, WRITE if isinstance(content, int) else 0

    def table_of(self, entries):
        at = self._buffer = -(-self._buffer // 16) * 16
        for n, (address, length, flags) in enumerate(entries):
            more = flags | NEXT if n + 1 < len(entries) else flags
            self.pack(at + 16 * n, "QIHH", address, length, *self.indirect_fields(n, flags, more))
        self._buffer += 16 * len(entries)
        return at, 16 * len(entries), TABLE

    def add(self, *contents, indirect=False):
        """Make a request available; answers the places its buffers are at."""
        entries = [self.buffer(content) for content in contents]
        self.offer([self.table_of(entries)] if indirect else entries)
        return [address for address, _, _ in entries]

    def do(self, *contents, indirect=False):
        """A request from beginning to end: what was written into its buffers, and the number of bytes told."""
        places = self.add(*contents, indirect=indirect)
        self.driver.notify(self.index)
        ((_, written),) = self.used()
        data = b"".join(self.ram[p : p + c] for p, c in zip(places, contents, strict=True) if isinstance(c, int))
        return data, written


class SplitRing(Ring):
    def __init__(self, driver, index, size, features, at):
        if driver.legacy:
            driver.io(0xE, 2, index)
            size = driver.io(0xC, 2)
        super().__init__(driver, index, size, features, at)
        self.driver_area = at + 16 * size
        self.device_area = -(-(self.driver_area + 6 + 2 * size) // 4096) * 4096
        self.ram[at : self.device_area + 6 + 8 * size] = bytes(self.device_area + 6 + 8 * size - at)
        self.avail = self.seen = self.descriptor = 0

    @staticmethod
    def indirect_fields(n, flags, more):
        return more, n + 1

    def offer(self, entries):
        head = self.descriptor % self.size
        for n, (address, length, flags) in enumerate(entries):
            at = (head + n) % self.size
            more = flags | NEXT if n + 1 < len(entries) else flags
            self.pack(self.table + 16 * at, "QIHH", address, length, more, (at + 1) % self.size)
        self.descriptor += len(entries)
        self.publish(head)

    def publish(self, head):
        self.pack(self.driver_area + 4 + 2 * (self.avail % self.size), "H", head)
        self.avail = self.avail + 1 & 0xFFFF
        self.pack(self.driver_area + 2, "H", self.avail)

    def used(self):
        (index,) = self.unpack(self.device_area + 2, "H")
        found = []
        while self.seen != index:
            found.append(self.unpack(self.device_area + 4 + 8 * (self.seen % self.size), "II"))
            self.seen = self.seen + 1 & 0xFFFF
        return found

    def interrupt_at(self, later):
        """With event index: only after that many further chains (of two descriptors) were used."""
        self.pack(self.driver_area + 4 + 2 * self.size, "H", self.seen + later & 0xFFFF)

    def interrupts(self, wanted):
        self.pack(self.driver_area, "H", not wanted)

    def wants_notification(self):
        if self.features & EVENT_INDEX:
            return self.unpack(self.device_area + 4 + 8 * self.size, "H")[0] == self.avail
        return not self.unpack(self.device_area, "H")[0] & 1


class PackedRing(Ring):
    def __init__(self, driver, index, size, features, at):
        super().__init__(driver, index, size, features, at)
        self.driver_area, self.device_area = at + 16 * size, at + 16 * size + 4
        self.ram[at : self.device_area + 4] = bytes(self.device_area + 4 - at)
        self.at = self.seen = 0
        self.wrap = self.seen_wrap = 1
        self.lengths: dict[int, int] = {}

    @staticmethod
    def indirect_fields(n, flags, more):
        return 0, flags

    def offer(self, entries):
        identifier = 0x100 + self.at
        self.lengths[identifier] = len(entries)
        stores = []
        for n, (address, length, flags) in enumerate(entries):
            more = flags | NEXT if n + 1 < len(entries) else flags
            marks = 0x80 if self.wrap else 0x8000
            stores.append((self.table + 16 * self.at, address, length, identifier, more | marks))
            self.at += 1
            if self.at == self.size:
                self.at, self.wrap = 0, self.wrap ^ 1
        for store in reversed(stores):  # the head is what makes all of them available
            self.pack(store[0], "QIHH", *store[1:])

    def used(self):
        found = []
        while True:
            _, length, identifier, flags = self.unpack(self.table + 16 * self.seen, "QIHH")
            if bool(flags & 0x80) != bool(flags & 0x8000) or bool(flags & 0x8000) != bool(self.seen_wrap):
                return found
            found.append((identifier, length))
            self.seen += self.lengths[identifier]
            if self.seen >= self.size:
                self.seen, self.seen_wrap = self.seen - self.size, self.seen_wrap ^ 1

    def interrupt_at(self, later):
        entry, wrap = self.seen + 2 * later, self.seen_wrap
        if entry >= self.size:
            entry, wrap = entry - self.size, wrap ^ 1
        self.pack(self.driver_area, "HH", entry | wrap << 15, 2)

    def interrupts(self, wanted):
        self.pack(self.driver_area, "HH", 0, 0 if wanted else 1)

    def wants_notification(self):
        entry, mode = self.unpack(self.device_area, "HH")
        return mode == 0 or (mode == 2 and entry == self.at | self.wrap << 15)
