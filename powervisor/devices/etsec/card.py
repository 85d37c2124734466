"""The eTSEC on the platform bus: one group of queues with its three interrupts, and a link that is always up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from powervisor.devices.device import Device
from powervisor.devices.ethernet import NicOptions
from powervisor.devices.etsec.mac import Etsec
from powervisor.devices.platform import PlatformBus, PlatformCard, PlatformOptions
from powervisor.devices.services import Services
from powervisor.errors import argument


@dataclass(frozen=True)
class EtsecOptions(NicOptions, PlatformOptions):
    """Properties of eTSEC."""


class EtsecCard(PlatformCard):
    """The eTSEC device."""

    model = "eTSEC"
    summary = "Freescale's gigabit Ethernet controller, on the platform bus (ppce500)"
    options_type = EtsecOptions

    def __init__(self, name: str, options: Any, services: Services) -> None:
        where = f"{argument('devices')} {self.model}"
        super().__init__(name, options, services)
        self.address = services.netdevs.mac(options.mac)
        self.mac = Etsec(name, services)
        self.mac.netdev = services.netdevs.claim(options.netdev, name, where, self.mac)

    def parts(self) -> list[Device]:
        """The controller."""
        return [self.mac]

    def attach(self, bus: PlatformBus) -> None:
        """A window for the registers, three interrupts, and the node that gianfar expects."""
        mac = self.mac
        offset = bus.claim_window(self.name, mac.size, mac)
        node = bus.add_node(f"ethernet@{offset:x}")
        node.set("device_type", "network").set("compatible", "fsl,etsec2").set("model", "eTSEC")
        node.set("local-mac-address", self.address).set("fixed-link", 0, 1, 1000, 0, 0)
        node.set("#address-cells", 1).set("#size-cells", 1).set("ranges")
        group = node.child("queue-group")
        group.set("reg", offset, mac.size)
        group.set("interrupts", *bus.claim_interrupts(mac.transmit_irq, mac.receive_irq, mac.error_irq))
