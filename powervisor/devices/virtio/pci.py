"""virtio over PCI, modern and transitional (virtio 1.2, section 4.1).

BAR 0 is the legacy interface in I/O space, BAR 1 MSI-X, BAR 4 the modern structures; as in QEMU's devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from powervisor.devices.device import Device, state
from powervisor.devices.pci.card import PciCard, PciOptions
from powervisor.devices.pci.function import COMMAND_MASTER, Bar
from powervisor.devices.pci.msi import MAX_MSIX, Msix
from powervisor.devices.registers import NamedRegister
from powervisor.devices.services import Services
from powervisor.devices.virtio.device import Feature, VirtioDevice
from powervisor.devices.virtio.queue import NO_VECTOR, Queue
from powervisor.errors import UserError, argument
from powervisor.memory.space import Dma
from powervisor.properties import choice, number, prop

VENDOR = 0x1AF4
_MODERN_DEVICE = 0x1040
_MODERN_SUBSYSTEM = 0x1100
_TRANSITIONAL_DEVICE = {1: 0x1000, 2: 0x1001, 5: 0x1002, 3: 0x1003, 8: 0x1004, 4: 0x1005, 9: 0x1009}
"""By device type."""

LEGACY_BAR, MSIX_BAR, MODERN_BAR = 0, 1, 4
_VENDOR_CAPABILITY = 9
COMMON, NOTIFY, ISR, DEVICE, PCI_ACCESS = 1, 2, 3, 4, 5
"""Types of structures."""
_STRUCTURE = 0x1000
_PLACES = {COMMON: 0x0000, ISR: 0x1000, DEVICE: 0x2000, NOTIFY: 0x3000}
NOTIFY_STEP = 4
_LEGACY_PAGE = 4096

ISR_QUEUE, ISR_CONFIGURATION = 1, 2

_COMMON_FIELDS = {
    "device_feature_select": (0x00, 4), "device_feature": (0x04, 4), "driver_feature_select": (0x08, 4),
    "driver_feature": (0x0C, 4), "config_msix_vector": (0x10, 2), "num_queues": (0x12, 2), "device_status": (0x14, 1),
    "config_generation": (0x15, 1), "queue_select": (0x16, 2), "queue_size": (0x18, 2), "queue_msix_vector": (0x1A, 2),
    "queue_enable": (0x1C, 2), "queue_notify_off": (0x1E, 2), "queue_desc": (0x20, 8), "queue_driver": (0x28, 8),
    "queue_device": (0x30, 8),
}  # fmt: skip
_LEGACY_FIELDS = {
    "device_feature": (0x00, 4), "driver_feature": (0x04, 4), "queue_address": (0x08, 4), "queue_size": (0x0C, 2),
    "queue_select": (0x0E, 2), "queue_notify": (0x10, 2), "device_status": (0x12, 1), "isr_status": (0x13, 1),
}  # fmt: skip
"""Offset and bytes of the fields that precede the device's own (virtio 1.2, 4.1.4.3 and 4.1.4.8)."""


@dataclass(frozen=True)
class VirtioPciOptions(PciOptions):
    """Properties of every virtio device on PCI."""

    disable_legacy: str = prop("auto", "no legacy interface; auto has one", choice("auto", "on", "off"))
    disable_modern: bool = prop(False, "no virtio 1.x interface")
    vectors: int | None = prop(None, "MSI-X vectors, 0 for none; default one a queue and one", number(0, MAX_MSIX))
    event_idx: bool = prop(True, "notifications and interrupts by event index", name="event_idx")
    indirect_desc: bool = prop(True, "tables of indirect descriptors", name="indirect_desc")
    packed: bool = prop(False, "packed rings")
    iommu_platform: bool = prop(False, "rings and buffers are bus addresses", name="iommu_platform")

    def features(self) -> int:
        """What the properties let the device offer."""
        offered = (
            (Feature.EVENT_INDEX, self.event_idx),
            (Feature.INDIRECT, self.indirect_desc),
            (Feature.PACKED, self.packed and not self.disable_modern),
            (Feature.ACCESS_PLATFORM, self.iommu_platform and not self.disable_modern),
            (Feature.VERSION_1, not self.disable_modern),
        )
        return sum(feature for feature, chosen in offered if chosen)


def _field(fields: dict[str, tuple[int, int]], offset: int) -> NamedRegister | None:
    """The field that an offset lies in."""
    for name, (begin, size) in fields.items():
        if begin <= offset < begin + size:
            return NamedRegister(name, begin, size)
    return None


class _Cell(NamedTuple):
    """A register of the common or legacy structure."""

    size: int
    read: Callable[[], int]
    write: Callable[[int], None] | None = None


class VirtioPci(PciCard):
    """The transport of one `virtio` device."""

    interrupt_pin = 1

    isr: int = state(int)
    configuration_vector: int = state(lambda: NO_VECTOR)
    device_feature_select: int = state(int)
    driver_feature_select: int = state(int)
    queue_select: int = state(int)

    def __init__(self, name: str, options: Any, services: Services, virtio: VirtioDevice) -> None:
        self.virtio, self._services = virtio, services
        self.modern = not options.disable_modern
        transitional = options.disable_legacy != "on"
        if not self.modern and not transitional:
            where = f"{argument('devices')} {self.model}"
            raise UserError(f"{where}: disable-legacy=on and disable-modern=on leave nothing; leave one of them out")
        self.vendor_id = VENDOR
        self.device_id = _TRANSITIONAL_DEVICE[virtio.kind] if transitional else _MODERN_DEVICE + virtio.kind
        self.revision = 0 if transitional else 1
        self.subsystem = (VENDOR, virtio.kind if transitional else _MODERN_SUBSYSTEM)
        self._vectors = len(virtio.queues) + 1 if options.vectors is None else options.vectors
        bars = {}
        if transitional:
            size = 24 + len(virtio.configuration("<"))
            bars[LEGACY_BAR] = Bar(max(32, 1 << (size - 1).bit_length()), io=True)
        if self._vectors:
            bars[MSIX_BAR] = Bar(Msix.bar_size(self._vectors))
        if self.modern:
            bars[MODERN_BAR] = Bar(4 * _STRUCTURE, wide=True, prefetchable=True)
        self.bars = bars
        self._window = 0  # offset of the capability for access through configuration space
        super().__init__(name, options, services)
        virtio.transport = self
        self._common = self._common_structure()
        self._legacy = self._legacy_structure()

    def _declare(self) -> None:
        super()._declare()
        if self.modern:
            for kind, place in _PLACES.items():
                step = NOTIFY_STEP.to_bytes(4, "little") if kind == NOTIFY else b""
                self._structure(kind, MODERN_BAR, place, _STRUCTURE, step)
            self._window = self._structure(PCI_ACCESS, 0, 0, 0, bytes(4))
            writable = b"\0\0\xff\0\0\0" + b"\xff" * 12
            self._writable[self._window + 2 : self._window + 20] = writable
        if self._vectors:
            self.msix = Msix(self, self._vectors, MSIX_BAR)

    def _structure(self, kind: int, bar: int, offset: int, length: int, more: bytes) -> int:
        """A capability that tells where a structure is."""
        place = offset.to_bytes(4, "little") + length.to_bytes(4, "little")
        return self.add_capability(_VENDOR_CAPABILITY, bytes((16 + len(more), kind, bar, 0, 0, 0)) + place + more)

    def parts(self) -> list[Device]:
        """The device behind the transport."""
        return [self.virtio]

    # -- interrupts and memory

    def queue_interrupt(self, queue: Queue) -> None:
        """Chains of `queue` were used."""
        self._interrupt(queue.vector, ISR_QUEUE)

    def configuration_interrupt(self) -> None:
        """Status or configuration changed."""
        self._interrupt(self.configuration_vector, ISR_CONFIGURATION)

    def _interrupt(self, vector: int, cause: int) -> None:
        if self.msix and self.msix.enabled:
            self.msix.notify(vector)
        else:
            self.isr |= cause
            self.set_intx(True)

    def _vector(self, value: int) -> int:
        return value if value < self._vectors else NO_VECTOR

    def _take_isr(self) -> int:
        value, self.isr = self.isr, 0
        self.set_intx(False)
        return value

    def memory(self) -> Dma | None:
        """Memory as rings address it: the bus's, or physical memory around it; None while the guest allows no DMA."""
        if not self.command & COMMAND_MASTER:
            return None
        return self.dma if self.virtio.has(Feature.ACCESS_PLATFORM) else self._services.memory

    # -- the common structure

    @property
    def _queue(self) -> Queue | None:
        queues = self.virtio.queues
        return queues[self.queue_select] if self.queue_select < len(queues) else None

    def _common_structure(self) -> dict[int, _Cell]:
        virtio = self.virtio

        def plain(size: int, name: str) -> _Cell:
            return _Cell(size, lambda: getattr(self, name), lambda value: setattr(self, name, value))

        def of_queue(size: int, name: str, shift: int = 0) -> _Cell:
            ones = (1 << 8 * size) - 1

            def read() -> int:
                return getattr(self._queue, name, 0) >> shift & ones

            def write(value: int) -> None:
                queue = self._queue
                if queue and not queue.enabled:
                    setattr(queue, name, getattr(queue, name) & ~(ones << shift) | value << shift)

            return _Cell(size, read, write)

        cells = {
            0x00: plain(4, "device_feature_select"),
            0x04: _Cell(4, lambda: self._word(virtio.offered, self.device_feature_select)),
            0x08: plain(4, "driver_feature_select"),
            0x0C: _Cell(4, lambda: self._word(virtio.features, self.driver_feature_select), self._accept),
            0x10: _Cell(2, lambda: self.configuration_vector, self._set_configuration_vector),
            0x12: _Cell(2, lambda: len(virtio.queues)),
            0x14: _Cell(1, lambda: virtio.status, lambda value: self._set_status(value, True)),
            0x15: _Cell(1, lambda: virtio.generation),
            0x16: plain(2, "queue_select"),
            0x18: _Cell(2, lambda: getattr(self._queue, "size", 0), self._set_queue_size),
            0x1A: _Cell(2, lambda: getattr(self._queue, "vector", NO_VECTOR), self._set_queue_vector),
            0x1C: _Cell(2, lambda: getattr(self._queue, "enabled", 0), self._enable_queue),
            0x1E: _Cell(2, lambda: getattr(self._queue, "index", 0)),
        }
        for at, name in ((0x20, "descriptors"), (0x28, "driver"), (0x30, "device")):
            cells[at] = of_queue(4, name)
            cells[at + 4] = of_queue(4, name, 32)
        return cells

    @staticmethod
    def _word(value: int, select: int) -> int:
        return value >> 32 * select & 0xFFFF_FFFF if select < 2 else 0

    def _accept(self, value: int) -> None:
        if (select := self.driver_feature_select) < 2:
            self.virtio.accept(value << 32 * select, 0xFFFF_FFFF << 32 * select)

    def _set_configuration_vector(self, value: int) -> None:
        self.configuration_vector = self._vector(value)

    def _set_queue_vector(self, value: int) -> None:
        if queue := self._queue:
            queue.vector = self._vector(value)

    def _set_queue_size(self, value: int) -> None:
        queue = self._queue
        if queue and not queue.enabled:
            queue.size = value

    def _enable_queue(self, value: int) -> None:
        queue = self._queue
        if not queue or queue.enabled or value != 1:
            return
        if not queue.fits(self.virtio.has(Feature.PACKED)):
            self.virtio.refuse(f"queue {queue.index} is enabled with {queue.size} entries, of {queue.max_size} at most")
            return
        queue.enabled = 1

    def _set_status(self, value: int, modern: bool) -> None:
        if not value:
            self.isr, self.configuration_vector, self.queue_select = 0, NO_VECTOR, 0
            self.device_feature_select = self.driver_feature_select = 0
            self.set_intx(False)
        self.virtio.set_status(value, modern)

    # -- the legacy structure

    def _legacy_structure(self) -> dict[int, _Cell]:
        virtio = self.virtio
        low = 0xFFFF_FFFF
        cells = {
            0x00: _Cell(4, lambda: virtio.offered & low),
            0x04: _Cell(4, lambda: virtio.features & low, lambda value: virtio.accept(value, low)),
            0x08: _Cell(4, lambda: getattr(self._queue, "descriptors", 0) // _LEGACY_PAGE, self._set_page),
            0x0C: _Cell(2, lambda: getattr(self._queue, "size", 0)),
            0x0E: _Cell(2, lambda: self.queue_select, lambda value: setattr(self, "queue_select", value)),
            0x10: _Cell(2, lambda: 0, virtio.notify),
            0x12: _Cell(1, lambda: virtio.status, lambda value: self._set_status(value, False)),
            0x13: _Cell(1, self._take_isr),
        }
        return cells

    def _legacy_vectors(self) -> dict[int, _Cell]:
        return {
            0x14: _Cell(2, lambda: self.configuration_vector, self._set_configuration_vector),
            0x16: _Cell(2, lambda: getattr(self._queue, "vector", NO_VECTOR), self._set_queue_vector),
        }

    def _set_page(self, page: int) -> None:
        """Where the parts of a legacy ring are follows from one page number; 0 stops the queue."""
        queue = self._queue
        if queue is None:
            return
        if page == 0:
            self.virtio.stop(queue)
            return
        if queue.enabled:
            return
        queue.descriptors = page * _LEGACY_PAGE
        queue.driver = queue.descriptors + 16 * queue.size
        end = queue.driver + 6 + 2 * queue.size
        queue.device = -(-end // _LEGACY_PAGE) * _LEGACY_PAGE
        queue.enabled = 1

    # -- accesses

    def bar_register(self, bar: int, offset: int) -> NamedRegister | None:
        """Fields of the structures, as the standard calls them."""
        if bar == LEGACY_BAR:
            return _field(_LEGACY_FIELDS, offset) or NamedRegister("device_config", offset, 1)
        if bar != MODERN_BAR:
            return super().bar_register(bar, offset)
        if offset >= _PLACES[NOTIFY]:
            queue = (offset - _PLACES[NOTIFY]) // NOTIFY_STEP
            return NamedRegister(f"queue_notify[{queue}]", _PLACES[NOTIFY] + NOTIFY_STEP * queue, NOTIFY_STEP)
        if offset >= _PLACES[DEVICE]:
            return NamedRegister("device_config", offset, 1)
        return NamedRegister("isr", _PLACES[ISR], 1) if offset >= _PLACES[ISR] else _field(_COMMON_FIELDS, offset)

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """The guest reads a structure."""
        if bar == LEGACY_BAR:
            return self._legacy_read(offset, size)
        if bar != MODERN_BAR:
            return super().bar_read(bar, offset, size)
        place, offset = offset & -_STRUCTURE, offset % _STRUCTURE
        if place == _PLACES[COMMON]:
            return _read(self._common, offset, size)
        if place == _PLACES[ISR]:
            return self._take_isr() if offset == 0 else 0
        if place == _PLACES[DEVICE]:
            return self._configuration(offset, size, "<")
        return 0

    def bar_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """The guest writes a structure."""
        if bar == LEGACY_BAR:
            self._legacy_write(offset, size, value)
        elif bar != MODERN_BAR:
            super().bar_write(bar, offset, size, value)
        elif offset >= _PLACES[NOTIFY]:
            self.virtio.notify((offset - _PLACES[NOTIFY]) // NOTIFY_STEP)
        elif offset >= _PLACES[DEVICE]:
            self.virtio.configure(offset - _PLACES[DEVICE], _bytes(value, size))
        elif offset < _PLACES[ISR]:
            _write(self._common, offset, size, value)

    def _legacy_read(self, offset: int, size: int) -> int:
        vectors = self._legacy_vectors() if self.msix and self.msix.enabled else {}
        begin = 0x18 if vectors else 0x14
        if offset >= begin:
            return self._configuration(offset - begin, size, ">")
        return _read(self._legacy | vectors, offset, size)

    def _legacy_write(self, offset: int, size: int, value: int) -> None:
        vectors = self._legacy_vectors() if self.msix and self.msix.enabled else {}
        begin = 0x18 if vectors else 0x14
        if offset >= begin:
            self.virtio.configure(offset - begin, _bytes(value, size))
        else:
            _write(self._legacy | vectors, offset, size, value)

    def _configuration(self, offset: int, size: int, order: str) -> int:
        """Bytes of the device's configuration, in the guest's own order for legacy drivers; what is beyond is 0."""
        return int.from_bytes(self.virtio.configuration(order)[offset : offset + size], "little")

    # -- access to the BARs through configuration space

    def _windowed(self, offset: int, size: int) -> tuple[int, int, int] | None:
        """BAR, offset and size that an access to the capability's data stands for."""
        if not self._window or offset != self._window + 16:
            return None
        bar, at, length = (self.field(self._window + place, n) for place, n in ((4, 1), (8, 4), (12, 4)))
        fits = bar in self.bars and length in (1, 2, 4) and length <= size and at + length <= self.bars[bar].size
        return (bar, at, length) if fits and at % length == 0 else None

    def config_read(self, offset: int, size: int) -> int:
        """A read by the guest."""
        if access := self._windowed(offset, size):
            return self.bar_read(*access)
        return super().config_read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """A write by the guest."""
        if access := self._windowed(offset, size):
            self.bar_write(*access, value & (1 << 8 * access[2]) - 1)
        else:
            super().config_write(offset, size, value)


def _bytes(value: int, size: int) -> bytes:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _read(cells: dict[int, _Cell], offset: int, size: int) -> int:
    """A register in its own size; a wider access takes it with zeros, a narrower one its low bytes."""
    cell = cells.get(offset)
    return cell.read() & (1 << 8 * min(size, cell.size)) - 1 if cell else 0


def _write(cells: dict[int, _Cell], offset: int, size: int, value: int) -> None:
    """A register in its own size; other accesses are no driver's and have no effect."""
    cell = cells.get(offset)
    if cell and cell.write and cell.size == size:
        cell.write(value & (1 << 8 * size) - 1)
