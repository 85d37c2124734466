"""Rings of buffer descriptors in guest memory."""

from __future__ import annotations

import struct
from typing import NamedTuple

from powervisor.memory.space import Dma

SIZE = 8
READY = EMPTY = 0x8000
WRAP, INTERRUPT, LAST = 0x2000, 0x1000, 0x0800
"""Bits of a descriptor's status; who owns its buffer is READY in transmission, EMPTY in reception."""


class Descriptor(NamedTuple):
    """One buffer, and where its descriptor is."""

    at: int
    status: int
    length: int
    buffer: int


class Ring:
    """The ring from `base`; buffers have addresses with `high` above their 32 bits. Raises BusError, as `dma` does."""

    def __init__(self, dma: Dma, base: int, high: int, little_endian: bool) -> None:
        self._dma, self._base, self._high = dma, base, high << 32
        order = "<" if little_endian else ">"
        self._whole, self._first = struct.Struct(order + "HHI"), struct.Struct(order + "HH")

    def load(self, at: int) -> Descriptor:
        """The descriptor at an address."""
        status, length, buffer = self._whole.unpack(self._dma.read_ram(at, SIZE))
        return Descriptor(at, status, length, self._high | buffer)

    def store(self, descriptor: Descriptor, status: int, length: int) -> None:
        """Give a descriptor back to the driver."""
        self._dma.write_ram(descriptor.at, self._first.pack(status, length))

    def fill(self, descriptor: Descriptor, data: bytes) -> None:
        """Store data in a buffer."""
        self._dma.write_ram(descriptor.buffer, data)

    def after(self, descriptor: Descriptor) -> int:
        """Where the next one is."""
        return self._base if descriptor.status & WRAP else descriptor.at + SIZE
