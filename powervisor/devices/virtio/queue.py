"""A virtqueue: what the driver configured of it, and its ring while it is in use."""

from __future__ import annotations

from typing import Any

from powervisor.devices.virtio.packed import PackedRing
from powervisor.devices.virtio.ring import Layout, Ring
from powervisor.devices.virtio.split import SplitRing
from powervisor.memory.space import Dma

NO_VECTOR = 0xFFFF
_SAVED = ("size", "enabled", "descriptors", "driver", "device", "vector", "owes_interrupt")


class Queue:
    """Queue `index` of a device, of at most `max_size` entries (a power of two)."""

    def __init__(self, index: int, max_size: int) -> None:
        self.index, self.max_size = index, max_size
        self.rung = False
        """The driver notified, and the worker has not looked yet."""
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        self.size = self.max_size
        self.enabled = 0
        self.descriptors = self.driver = self.device = 0
        self.vector = NO_VECTOR
        self.owes_interrupt = False
        """Chains were given back, and the driver has not been interrupted yet."""
        self.ring: Ring | None = None
        self._position: list[int] = []

    def fits(self, packed: bool) -> bool:
        """Whether the driver chose a size that can be."""
        return 0 < self.size <= self.max_size and (packed or self.size & (self.size - 1) == 0)

    def open(self, dma: Dma, packed: bool, big_endian: bool, event_index: bool, indirect: bool) -> Ring:
        """The ring, found where the driver said. Raises RingError."""
        where = self.descriptors, self.driver, self.device
        layout = Layout(self.size, *where, big_endian, event_index, indirect)
        self.ring = (PackedRing if packed else SplitRing)(dma, layout, self._position)
        return self.ring

    def save(self) -> dict[str, Any]:
        """All state, in plain values."""
        position = self.ring.position() if self.ring else self._position
        return {**{name: getattr(self, name) for name in _SAVED}, "position": list(position)}

    def check(self, saved: dict[str, Any]) -> None:
        """Raise ValueError for what `restore` does not take."""
        if unknown := sorted(saved.keys() - {*_SAVED, "position"}):
            raise ValueError(f"queue {self.index}: saved state has unknown parts: {', '.join(unknown)}")

    def restore(self, saved: dict[str, Any]) -> None:
        """Take what `save` returned; missing names get their reset value."""
        self.reset()
        for name in saved.keys() & _SAVED:
            setattr(self, name, saved[name])
        self._position = list(saved.get("position", ()))
