"""A PCI function: configuration space, base address registers, capabilities, interrupts, DMA.

A device is a subclass with ids, `bars`, `bar_read` and `bar_write`. All values here are little-endian
numbers, as PCI defines its registers; the host bridge turns them for the big-endian guest.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from powervisor.devices.device import Device, state
from powervisor.devices.pci.msi import Msi, Msix
from powervisor.devices.registers import NamedRegister
from powervisor.memory.space import BusError, Dma

if TYPE_CHECKING:
    from powervisor.devices.pci.bus import PciBus

CONFIG_SIZE = 256

VENDOR_ID, DEVICE_ID, COMMAND, STATUS, REVISION, CLASS_CODE = 0x00, 0x02, 0x04, 0x06, 0x08, 0x09
CACHE_LINE, LATENCY, HEADER_TYPE, BAR0, SUBSYSTEM_VENDOR, SUBSYSTEM_ID = 0x0C, 0x0D, 0x0E, 0x10, 0x2C, 0x2E
CAPABILITIES, INTERRUPT_LINE, INTERRUPT_PIN, FIRST_CAPABILITY = 0x34, 0x3C, 0x3D, 0x40

COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER, COMMAND_NO_INTX = 0x001, 0x002, 0x004, 0x400
_COMMAND_WRITABLE = 0x547
STATUS_INTX, STATUS_CAPABILITIES = 0x0008, 0x0010
_STATUS_W1C = 0xF900


class Bar(NamedTuple):
    """A base address register: `size` (a power of two) bytes of memory or I/O space."""

    size: int
    io: bool = False
    wide: bool = False
    """A 64-bit memory address, in this register and the next."""
    prefetchable: bool = False

    @property
    def kind(self) -> int:
        """The read-only low bits."""
        return 1 if self.io else (4 if self.wide else 0) | (8 if self.prefetchable else 0)


class PciFunction(Device):
    """Base of all PCI functions. What a function is may differ by instance when set before `__init__` of this class."""

    size = CONFIG_SIZE
    vendor_id: int
    device_id: int
    class_code: int
    """24 bits: class, subclass, programming interface."""
    revision: int = 0
    subsystem: tuple[int, int] = (0, 0)
    """Subsystem vendor and id."""
    interrupt_pin: int = 0
    """1 to 4 for INTA to INTD, 0 for none."""
    bars: Mapping[int, Bar] = MappingProxyType({})

    config: bytearray = state(bytearray)
    msix_memory: bytearray = state(bytearray)
    """Table and pending bits of MSI-X."""

    def __init__(self, name: str) -> None:
        self.bus: PciBus | None = None
        self.dma: Dma | None = None
        """Memory as the function sees it; set when it is put on a bus."""
        self.msi: Msi | None = None
        self.msix: Msix | None = None
        self._writable = bytearray(CONFIG_SIZE)
        self._w1c = bytearray(CONFIG_SIZE)
        self._initial = bytearray(CONFIG_SIZE)
        self._next_capability = FIRST_CAPABILITY
        self._last_link = CAPABILITIES
        self._declare()
        super().__init__(name)

    # -- layout

    def _declare(self) -> None:
        """Lay out the header; a subclass goes on with its capabilities."""
        for offset, size, value in (
            (VENDOR_ID, 2, self.vendor_id),
            (DEVICE_ID, 2, self.device_id),
            (REVISION, 1, self.revision),
            (CLASS_CODE, 3, self.class_code),
            (SUBSYSTEM_VENDOR, 2, self.subsystem[0]),
            (SUBSYSTEM_ID, 2, self.subsystem[1]),
            (INTERRUPT_PIN, 1, self.interrupt_pin),
        ):
            self.declare(offset, size, value)
        for offset, size, writable in ((COMMAND, 2, _COMMAND_WRITABLE), (CACHE_LINE, 1, 0xFF), (LATENCY, 1, 0xFF)):
            self.declare(offset, size, 0, writable)
        self.declare(STATUS, 2, 0, w1c=_STATUS_W1C)
        self.declare(INTERRUPT_LINE, 1, 0, 0xFF)
        for index, bar in self.bars.items():
            width = 8 if bar.wide else 4
            self.declare(BAR0 + 4 * index, width, bar.kind, (1 << 8 * width) - bar.size)

    def declare(self, offset: int, size: int, value: int, writable: int = 0, w1c: int = 0) -> None:
        """Configuration bytes with their reset `value` and the bits a guest may write or clear."""
        for array, bits in ((self._initial, value), (self._writable, writable), (self._w1c, w1c)):
            array[offset : offset + size] = bits.to_bytes(size, "little")

    def add_capability(self, identifier: int, body: bytes, writable: bytes = b"") -> int:
        """Append a capability whose bytes after id and link are `body`; answers its offset."""
        offset = self._next_capability
        length = 2 + len(body)
        if offset + length > CONFIG_SIZE:
            raise ValueError(f"{type(self).__name__}: no room for capability 0x{identifier:02x}")
        self._next_capability = (offset + length + 3) & ~3
        self._initial[self._last_link] = offset
        self._last_link = offset + 1
        self.declare(STATUS, 2, STATUS_CAPABILITIES, w1c=_STATUS_W1C)
        self._initial[offset] = identifier
        self._initial[offset + 2 : offset + length] = body
        self._writable[offset + 2 : offset + 2 + len(writable)] = writable
        return offset

    def _settle(self) -> None:
        if len(self.config) != CONFIG_SIZE:
            self.config = bytearray(self._initial)
        if self.msix and len(self.msix_memory) != self.bars[self.msix.bar].size:
            self.msix_memory = self.msix.initial()
        if self.bus:
            self.bus.remap()
        self._drive()

    # -- configuration space

    def field(self, offset: int, size: int) -> int:
        """The number in configuration bytes `offset`..`offset+size`."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    @property
    def command(self) -> int:
        """The command register."""
        return self.field(COMMAND, 2)

    def read(self, offset: int, size: int, cpu: int = 0) -> int:
        """A function's registers are its configuration space."""
        return self.config_read(offset, size)

    def write(self, offset: int, size: int, value: int, cpu: int = 0) -> None:
        """A function's registers are its configuration space."""
        self.config_write(offset, size, value)

    def config_read(self, offset: int, size: int) -> int:
        """A read by the guest."""
        self.counters.reads += 1
        return self.field(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """A write by the guest, by the declared masks."""
        self.counters.writes += 1
        for at, byte in enumerate((value & (1 << 8 * size) - 1).to_bytes(size, "little"), offset):
            if at < CONFIG_SIZE:
                mask = self._writable[at]
                self.config[at] = (self.config[at] & ~mask | byte & mask) & ~(byte & self._w1c[at])
        if offset <= COMMAND + 1 or (offset < BAR0 + 24 and offset + size > BAR0):
            if self.bus:
                self.bus.remap()
        for messages in self._messages():
            if messages.offset < offset + size and offset <= messages.offset + 24:
                messages.update()
        self._drive()
        self.config_written(offset, size)

    def config_written(self, offset: int, size: int) -> None:
        """For subclasses: the guest wrote configuration bytes `offset`..`offset+size`."""

    # -- windows

    def bar_address(self, index: int) -> int | None:
        """Where BAR `index` answers, or None while its space is disabled or it has no address."""
        bar = self.bars[index]
        if not self.command & (COMMAND_IO if bar.io else COMMAND_MEMORY):
            return None
        address = self.field(BAR0 + 4 * index, 8 if bar.wide else 4) & -bar.size
        # Zero in memory space is where nobody was put yet (in I/O space 64-bit Linux does put one there); the top is
        # what sizing leaves behind.
        unset = address == 0 and not bar.io or address == (1 << (64 if bar.wide else 32)) - bar.size
        return None if unset else address

    def bar_register(self, bar: int, offset: int) -> NamedRegister | None:
        """What is called by name behind a base address register, None where that is not known."""
        return None

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """A read in BAR `bar`."""
        return self.msix.read(offset, size) if self.msix and bar == self.msix.bar else 0

    def bar_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """A write in BAR `bar`."""
        if self.msix and bar == self.msix.bar:
            self.msix.write(offset, size, value)

    # -- interrupts and DMA

    def _messages(self) -> list[Msi | Msix]:
        return [messages for messages in (self.msi, self.msix) if messages]

    def set_intx(self, level: bool) -> None:
        """Assert or release the function's INTx pin."""
        status = self.field(STATUS, 2) & ~STATUS_INTX | (STATUS_INTX if level else 0)
        self.config[STATUS : STATUS + 2] = status.to_bytes(2, "little")
        self._drive()

    def _drive(self) -> None:
        pending = self.field(STATUS, 2) & STATUS_INTX
        messages = any(messages.enabled for messages in self._messages())
        self.irq.set(bool(pending and not messages and not self.command & COMMAND_NO_INTX and self.interrupt_pin))

    def send_message(self, address: int, data: int) -> bool:
        """A message-signalled interrupt: a 32-bit write of `data`; False when it was refused."""
        if self.dma is None:
            return False
        try:
            self.dma.write(address, data.to_bytes(4, "little"))
        except BusError:
            return False
        self.irq.message_sent()
        return True
