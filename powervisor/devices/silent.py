"""A window where accesses are quiet: reads give 0, writes are ignored, every offset is counted."""

from __future__ import annotations

from powervisor.devices.device import Device


class Silent(Device):
    """Stands in for register blocks a board has but nobody models.

    `base` is the window's place in its bus, so that counters name offsets as the manual does; `length` its bytes.
    """

    def __init__(self, name: str, base: int, length: int) -> None:
        super().__init__(name)
        self.base, self.length = base, length

    def read(self, offset: int, size: int, cpu: int = 0) -> int:
        """Always 0."""
        self.counters.reads += 1
        self.unknown(self.base + offset)
        return 0

    def write(self, offset: int, size: int, value: int, cpu: int = 0) -> None:
        """Ignored."""
        self.counters.writes += 1
        self.unknown(self.base + offset)
