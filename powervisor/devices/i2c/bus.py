"""An I2C bus: targets by 7-bit address, and the one that is being talked to."""

from __future__ import annotations

from typing import Protocol

NOBODY = -1


class I2cTarget(Protocol):
    """A device on the bus."""

    def start(self, read: bool) -> None:
        """Addressed, to be read or written; also after a repeated start."""

    def receive(self, byte: int) -> bool:
        """A byte from the controller; False does not acknowledge it."""

    def send(self) -> int:
        """The next byte for the controller."""

    def stop(self) -> None:
        """The transfer has ended."""


class I2cBus:
    """Leads a controller's conditions and bytes to the addressed target."""

    def __init__(self) -> None:
        self.targets: dict[int, I2cTarget] = {}
        self.addressed = NOBODY

    def attach(self, address: int, target: I2cTarget) -> None:
        """Put `target` at the 7-bit `address`. Raises ValueError when it is taken."""
        if address in self.targets:
            raise ValueError(f"I2C address 0x{address:02x} is taken")
        self.targets[address] = target

    def start(self, address: int, read: bool) -> bool:
        """A start condition and the address byte; True when somebody acknowledges."""
        self.addressed = address if address in self.targets else NOBODY
        if self.addressed == NOBODY:
            return False
        self.targets[address].start(read)
        return True

    def write(self, byte: int) -> bool:
        """A byte to the addressed target; True when acknowledged."""
        return self.addressed != NOBODY and self.targets[self.addressed].receive(byte)

    def read(self) -> int:
        """A byte from the addressed target; an idle bus reads 0xFF."""
        return self.targets[self.addressed].send() if self.addressed != NOBODY else 0xFF

    def stop(self) -> None:
        """A stop condition."""
        if self.addressed != NOBODY:
            self.targets[self.addressed].stop()
        self.addressed = NOBODY
