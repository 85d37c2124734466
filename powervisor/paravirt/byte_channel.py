"""ePAPR byte channels: streams of bytes between the guest and a chardev, by hypercall."""

from __future__ import annotations

from typing import Protocol

from powervisor.devices.device import Device, TreeNode, state
from powervisor.devices.irq import IrqOutput
from powervisor.isa.epapr import MOST_BYTES

BACKLOG = 64 * 1024
"""Bytes of input that wait for the guest."""


class Outlet(Protocol):
    """The host's side: a chardev that tells how much it takes."""

    def room(self) -> int:
        """Bytes that `write` takes now without waiting."""

    def write(self, data: bytes) -> object:
        """Take what the guest sent."""


class ByteChannel(Device):
    """One channel. Both interrupts are levels: of `rx` while there is input, of `tx` while there is room for output.

    A guest unmasks the latter when it has something to send that a call did not take. On a `console` there is always
    room: kernels print with a loop around the call, and would stand still for a reader that does. As with a UART, what
    the chardev has no room for is waited for a second, then dropped.
    """

    compatible = ("epapr,hv-byte-channel",)

    input: bytearray = state(bytearray, keep=True)
    """What the guest has not received; a guest that comes next finds it."""

    def __init__(self, name: str, handle: int, console: bool = False) -> None:
        self.handle, self.console = handle, console
        self.outlet: Outlet | None = None
        self.rx, self.tx = IrqOutput(), IrqOutput()
        super().__init__(name)

    # -- the host's side

    def connect(self, outlet: Outlet) -> None:
        """From now on the guest can use the channel."""
        self.outlet = outlet
        self._settle()

    @property
    def room(self) -> int:
        """How many bytes `receive` would take now."""
        return max(BACKLOG - len(self.input), 0)

    def receive(self, data: bytes) -> int:
        """Input from the host. Returns how many bytes were taken."""
        taken = data[: self.room]
        self.input += taken
        self._settle()
        return len(taken)

    def has_room(self) -> None:
        """The chardev takes output again."""
        self._settle()

    # -- the guest's side

    def send(self, data: bytes) -> int:
        """Output of the guest; returns how many bytes the host took."""
        assert self.outlet is not None
        taken = data[: self.output_room()]
        if taken:
            self.counters.writes += 1
            self.outlet.write(taken)
        self._settle()
        return len(taken)

    def fetch(self, count: int) -> bytes:
        """Up to `count` bytes of input, which are the guest's then."""
        data = bytes(self.input[:count])
        if data:
            self.counters.reads += 1
            del self.input[:count]
            self._settle()
        return data

    def output_room(self) -> int:
        """Bytes that the host takes now."""
        if self.outlet is None:
            return 0
        return max(self.outlet.room(), MOST_BYTES if self.console else 0)

    # -- the machine's side

    def _settle(self) -> None:
        self.rx.set(bool(self.input))
        self.tx.set(self.output_room() > 0)

    def irqs(self) -> dict[str, IrqOutput]:
        """Receive and transmit."""
        return {"rx": self.rx, "tx": self.tx}

    def fdt(self, node: TreeNode) -> None:
        """The handle that calls name it by."""
        node.set("hv-handle", self.handle)
