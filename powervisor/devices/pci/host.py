"""The PCI host bridge of the e500 platform: configuration access and address translation (ATMU)."""

from __future__ import annotations

from typing import NamedTuple

from powervisor.devices.device import Device
from powervisor.devices.irq import IrqOutput
from powervisor.devices.pci.bus import PciBus
from powervisor.devices.pci.function import BAR0, Bar, PciFunction
from powervisor.devices.registers import Field, NamedRegister, Reg, Register, RegisterArray, RoWord, Word
from powervisor.memory.space import BusError, Dma, Target

CONFIG_DATA = 4
OUTBOUND_WINDOWS = 5
INBOUND_WINDOWS = 3
INTX = ("inta", "intb", "intc", "intd")
_IO_TRANSACTION = 8


class ConfigAddress(Reg):
    """Which configuration register CONFIG_DATA reaches."""

    enable, bus, slot, function, register = Field(31), Field(23, 16), Field(15, 11), Field(10, 8), Field(7, 2)


class Page(Reg):
    """A page number: bits 43..12 of an address."""

    page = Field(31, 0)


class HighPage(Reg):
    """Bits 63..44 of an address."""

    page = Field(19, 0)


class Outbound(Reg):
    """POWAR: attributes of an outbound window of 2^(size+1) bytes."""

    enable, relaxed = Field(31), Field(28)
    read_type, write_type, size = Field(19, 16), Field(15, 12), Field(5, 0)


class Inbound(Reg):
    """PIWAR: attributes of an inbound window of 2^(size+1) bytes."""

    enable, lock, prefetchable, target = Field(31), Field(30), Field(29), Field(23, 20)
    read_type, write_type, size = Field(19, 16), Field(15, 12), Field(5, 0)


DEFAULT_WINDOW = 0x8004_401F
"""POWAR of window 0, which takes what no other claims: memory, always enabled."""


class _Window(NamedTuple):
    start: int
    end: int
    target: int
    io: bool


class HostFunction(PciFunction):
    """Function 0:0.0: the bridge as its bus sees it. BAR 0 shows CCSR to the devices."""

    vendor_id = 0x1957
    device_id = 0x0030
    class_code = 0x0B2000
    bars = {0: Bar(1 << 20)}

    def ccsr_address(self) -> int:
        """Where the bus sees CCSR; the block answers there whatever the command register says."""
        return self.field(BAR0, 4) & -self.bars[0].size

    def bar_address(self, index: int) -> int | None:
        """None: BAR 0 is for the devices' DMA, the CPU does not reach CCSR around through it."""
        return None


class Ppce500Pci(Device):
    """Registers in CCSR, and two windows of the CPU's address space: `apertures["memory"]` and `["io"]`.

    `bases` are their physical addresses; `ccsr` is where the devices' view of CCSR leads.
    """

    size = 0x1000
    compatible = ("fsl,mpc8540-pci",)
    device_type = "pci"

    config_address = Register(0x000, ConfigAddress)
    block_revision = Register(0xBF8, RoWord)  # Linux asks every bridge of the family for it
    potar = RegisterArray(0xC00, Page, OUTBOUND_WINDOWS, 0x20)
    potear = RegisterArray(0xC04, HighPage, OUTBOUND_WINDOWS, 0x20)
    powbar = RegisterArray(0xC08, Page, OUTBOUND_WINDOWS, 0x20)
    powar0 = Register(0xC10, Outbound, reset=DEFAULT_WINDOW)
    powar = RegisterArray(0xC30, Outbound, OUTBOUND_WINDOWS - 1, 0x20)
    pitar = RegisterArray(0xDA0, Page, INBOUND_WINDOWS, 0x20)
    piwbar = RegisterArray(0xDA8, Page, INBOUND_WINDOWS, 0x20)
    piwbear = RegisterArray(0xDAC, HighPage, INBOUND_WINDOWS, 0x20)
    piwar = RegisterArray(0xDB0, Inbound, INBOUND_WINDOWS, 0x20)
    gasket_timer = Register(0xE20, Word)

    def __init__(self, name: str, dma: Dma, ccsr: int, bases: dict[str, int]) -> None:
        self.ccsr = ccsr
        self.intx = {pin: IrqOutput() for pin in INTX}
        self.bus = PciBus(dma.behind(self.inbound), list(self.intx.values()))
        self.function = HostFunction(f"{name}-function")
        self.bus.attach(self.function, slot=0)
        self.apertures: dict[str, Target] = {kind: Aperture(self, base) for kind, base in bases.items()}
        super().__init__(name)

    def irqs(self) -> dict[str, IrqOutput]:
        """The bridge's own pin, and one for each INTx line."""
        return {"irq": self.irq, **self.intx}

    # -- configuration access: CONFIG_DATA is little-endian, its low address bits are the lane

    def read(self, offset: int, size: int, cpu: int = 0) -> int:
        """A register, or a configuration register through CONFIG_DATA."""
        lane = offset - CONFIG_DATA
        if not 0 <= lane <= 4 - size:
            return super().read(offset, size, cpu)
        self.counters.reads += 1
        at = self.config_address
        if not at.enable or at.bus:
            return (1 << 8 * size) - 1
        return swap(self.bus.config_read(at.slot, at.function, at.register * 4 + lane, size), size)

    def write(self, offset: int, size: int, value: int, cpu: int = 0) -> None:
        """A register, or a configuration register through CONFIG_DATA."""
        lane = offset - CONFIG_DATA
        if not 0 <= lane <= 4 - size:
            super().write(offset, size, value, cpu)
            self._settle()
            return
        self.counters.writes += 1
        at = self.config_address
        if at.enable and not at.bus:
            self.bus.config_write(at.slot, at.function, at.register * 4 + lane, size, swap(value, size))

    def register_at(self, offset: int) -> NamedRegister | None:
        """CONFIG_DATA besides the declared ones."""
        if 0 <= offset - CONFIG_DATA < 4:
            return NamedRegister("config_data", CONFIG_DATA, 4)
        return super().register_at(offset)

    # -- address translation

    def outbound(self, pa: int) -> tuple[bool, int]:
        """Where a CPU access at `pa` goes on the bus: whether to I/O space, and the address."""
        for start, end, target, io in self._decoded[0]:
            if start <= pa < end:
                return io, target + pa - start
        return False, self._target(0) + pa % (2 << self.powar0.size)

    def inbound(self, address: int, length: int, write: bool) -> tuple[int, int]:
        """The physical address a device's `address` means, and for how much. Raises BusError outside all windows."""
        ccsr, size = self.function.ccsr_address(), self.function.bars[0].size
        if ccsr and ccsr <= address < ccsr + size:
            return self.ccsr + address - ccsr, min(length, ccsr + size - address)
        for start, end, target, _ in self._decoded[1]:
            if start <= address < end:
                return target + address - start, min(length, end - address)
        raise BusError(address, length, write)

    def _target(self, window: int) -> int:
        return self.potear[window].page << 44 | self.potar[window].page << 12

    def _settle(self) -> None:
        """Decode the enabled windows anew: outbound ones but the default, then inbound ones, in order of precedence."""
        out, into = [], []
        for window, attributes in enumerate(self.powar, 1):
            if attributes.enable:
                size = 2 << attributes.size
                start = self.powbar[window].page << 12 & -size
                out.append(_Window(start, start + size, self._target(window), attributes.read_type == _IO_TRANSACTION))
        for window, incoming in enumerate(self.piwar):
            if incoming.enable:
                size = 2 << incoming.size
                start = (self.piwbear[window].page << 44 | self.piwbar[window].page << 12) & -size
                into.append(_Window(start, start + size, self.pitar[window].page << 12, False))
        self._decoded = out, into

    def parts(self) -> list[Device]:
        """All functions on the bus."""
        return list(self.bus.functions.values())


class Aperture:
    """A window of the CPU's address space that leads to the bus; addresses keep their bytes' order."""

    def __init__(self, bridge: Ppce500Pci, base: int) -> None:
        self.bridge, self.base = bridge, base

    def read(self, offset: int, size: int, cpu: int) -> int:
        io, address = self.bridge.outbound(self.base + offset)
        return swap(self.bridge.bus.read(io, address, size), size)

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        io, address = self.bridge.outbound(self.base + offset)
        self.bridge.bus.write(io, address, size, swap(value, size))

    def decode(self, offset: int, size: int) -> tuple[PciFunction, int, int] | None:
        """The function, base address register and offset that an access reaches; None when nobody claims it."""
        io, address = self.bridge.outbound(self.base + offset)
        return self.bridge.bus.decode(io, address, size)


def swap(value: int, size: int) -> int:
    """`value` of `size` bytes with its bytes reversed; bits beyond are dropped."""
    return int.from_bytes((value & (1 << 8 * size) - 1).to_bytes(size, "little"), "big")
