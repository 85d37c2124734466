"""The entropy device (virtio 1.2, section 5.4): random bytes from the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from powervisor.devices.services import Services
from powervisor.devices.virtio.device import RequestDevice
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import Chain
from powervisor.properties import prop

MOST_AT_ONCE = 64 << 10
"""Bytes for one request: a driver that asks for more gets this, and asks again."""


class VirtioRng(RequestDevice):
    """Fills buffers with random bytes."""

    kind = 4

    def __init__(self, name: str, services: Services, features: int) -> None:
        super().__init__(name, services, (8,), features)

    def handle(self, queue: Queue, chain: Chain) -> int:
        """Fill the chain's buffers."""
        left = MOST_AT_ONCE
        for buffer in chain.writable:
            part = buffer[:left]
            part[:] = self.services.random(len(part))
            left -= len(part)
        return MOST_AT_ONCE - left


@dataclass(frozen=True)
class RngOptions(VirtioPciOptions):
    """Properties of virtio-rng-pci."""

    rng: str = prop("", "the id of an -object rng-builtin or rng-random; the host's generator without, too")


class VirtioRngPci(VirtioPci):
    """The entropy device on PCI."""

    model = "virtio-rng-pci"
    summary = "random numbers from the host"
    options_type = RngOptions
    class_code = 0x00FF00

    def __init__(self, name: str, options: Any, services: Services) -> None:
        super().__init__(name, options, services, VirtioRng(name, services, options.features()))
