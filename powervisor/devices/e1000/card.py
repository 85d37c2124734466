"""The 82540EM on PCI: its registers in memory space, and through an address and a data register in I/O space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from powervisor.devices.device import Device, state
from powervisor.devices.e1000.eeprom import contents
from powervisor.devices.e1000.mac import E1000
from powervisor.devices.ethernet import NicOptions
from powervisor.devices.pci.card import PciCard, PciOptions
from powervisor.devices.pci.function import COMMAND_MASTER, Bar
from powervisor.devices.registers import NamedRegister
from powervisor.devices.services import Services
from powervisor.errors import argument
from powervisor.memory.space import Dma

REGISTERS_BAR, IO_BAR = 0, 1
_IO_ADDRESS, _IO_DATA = 0, 4


@dataclass(frozen=True)
class E1000Options(NicOptions, PciOptions):
    """Properties of e1000."""


class E1000Card(PciCard):
    """The e1000 device."""

    model = "e1000"
    summary = "Intel's 82540EM, a network card with drivers everywhere"
    options_type = E1000Options
    vendor_id, device_id, revision, class_code = 0x8086, 0x100E, 3, 0x020000
    subsystem = (0x8086, 0x100E)
    interrupt_pin = 1
    bars = {REGISTERS_BAR: Bar(E1000.size), IO_BAR: Bar(64, io=True)}

    io_address: int = state(int)

    def __init__(self, name: str, options: Any, services: Services) -> None:
        where = f"{argument('devices')} {self.model}"
        super().__init__(name, options, services)
        words = contents(services.netdevs.mac(options.mac), self.device_id, self.vendor_id)
        self.mac = E1000(name, services, words, self.memory, self.set_intx)
        self.mac.netdev = services.netdevs.claim(options.netdev, name, where, self.mac)

    def parts(self) -> list[Device]:
        """The controller."""
        return [self.mac]

    def memory(self) -> Dma | None:
        """Memory as the controller sees it; None while the guest allows no DMA."""
        return self.dma if self.command & COMMAND_MASTER else None

    def bar_register(self, bar: int, offset: int) -> NamedRegister | None:
        """The controller's registers."""
        return self.mac.register_at(offset) if bar == REGISTERS_BAR else None

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """Registers are read as words."""
        if size != 4 or offset % 4:
            return 0
        if bar == REGISTERS_BAR:
            return self.mac.read(offset, 4)
        if offset == _IO_ADDRESS:
            return self.io_address
        return self.mac.read(self.io_address, 4) if offset == _IO_DATA and self._io_place() else 0

    def bar_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Registers are written as words."""
        if size != 4 or offset % 4:
            return
        if bar == REGISTERS_BAR:
            self.mac.write(offset, 4, value)
        elif offset == _IO_ADDRESS:
            self.io_address = value
        elif offset == _IO_DATA and self._io_place():
            self.mac.write(self.io_address, 4, value)

    def _io_place(self) -> bool:
        return self.io_address % 4 == 0 and self.io_address < E1000.size
