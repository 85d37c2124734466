"""ePAPR doorbells: a call of the guest with the send handle is an interrupt at the receiver."""

from __future__ import annotations

from powervisor.devices.device import Device, TreeNode


class Doorbell(Device):
    """One doorbell, both ends of which the guest has; the interrupt is an edge."""

    compatible = ("epapr,hv-send-doorbell",)

    def __init__(self, name: str, handle: int) -> None:
        self.handle = handle
        super().__init__(name)

    def ring(self) -> None:
        """Interrupt the receiver."""
        self.irq.set(True)
        self.irq.set(False)

    def fdt(self, node: TreeNode) -> None:
        """The send handle."""
        node.set("hv-handle", self.handle)
