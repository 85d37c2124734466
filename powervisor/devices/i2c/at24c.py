"""AT24C EEPROMs, from the AT24C01 (128 bytes) to the AT24C512 (64 KiB)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from powervisor.block.backend import SECTOR, fetch, store
from powervisor.devices.device import Device, TreeNode, state
from powervisor.devices.host_errors import HostErrors
from powervisor.devices.services import Services
from powervisor.errors import UserError, argument
from powervisor.properties import SIZE, number, prop

SIZES = tuple(128 << n for n in range(10))
_PAGES = (8, 8, 16, 16, 16, 32, 32, 64, 64, 128)
"""Bytes that one write can reach, by the place in SIZES."""
BLOCK = 256
"""What one address byte can tell; chips with one byte and more storage have an I2C address for each block."""
_MOST_WITH_ONE_BYTE = 2048
_ERASED = 0xFF


@dataclass(frozen=True)
class At24cOptions:
    """Properties of at24c-eeprom."""

    id: str = prop("", "its name in messages and statistics")
    bus: str = prop("i2c", "the bus it sits on")
    address: int | None = prop(None, "its I2C address, mostly 0x50 to 0x57", number(0x08, 0x77), required=True)
    rom_size: int | None = prop(None, "bytes: a power of two from 128 to 64K", SIZE, required=True)
    drive: str = prop("", "the -drive's id or the -blockdev's node-name with its contents")
    readonly: bool = prop(False, "the write-protect pin is set: what is written is not acknowledged")


class At24c(Device):
    """One EEPROM. What is written is there at once, and on its drive soon; after an error of the host it
    acknowledges no more data."""

    model = "at24c-eeprom"
    summary = "an EEPROM on an I2C bus"
    options_type = At24cOptions
    size = 0

    contents: bytearray = state(bytearray, keep=True)
    pointer: int = state(int)
    address_bytes: int = state(int)
    """How many of the address are still to come."""
    latch: bytearray = state(bytearray)
    """The page that is being written, from the first byte of data to the stop condition."""
    failed: bool = state(bool)

    def __init__(self, name: str, options: Any, services: Services) -> None:
        """`options` are At24cOptions. Raises UserError for what no such chip is."""
        where = f"{argument('devices')} {self.model}"
        capacity, address = options.rom_size, options.address
        if capacity not in SIZES:
            raise UserError(f"{where}: rom-size={capacity}: no such chip; write a power of two from 128 to 64K")
        self.capacity, self.page = capacity, _PAGES[SIZES.index(capacity)]
        self.address_width = 1 if capacity <= _MOST_WITH_ONE_BYTE else 2
        blocks = -(-capacity // BLOCK) if self.address_width == 1 else 1
        if address % blocks:
            remedy = f"write address=0x{address & -blocks:x}"
            raise UserError(f"{where}: address=0x{address:x}: {capacity} bytes take {blocks} addresses; {remedy}")
        self.addresses = range(address, address + blocks)
        self._dirty: set[int] = set()
        self._drive = services.drives.claim(options.drive, where) if options.drive else None
        backend = self._drive.backend if self._drive else None
        self.read_only = options.readonly or (backend is not None and backend.read_only)
        super().__init__(name)
        self.contents = bytearray([_ERASED]) * capacity
        if self._drive and backend:
            if backend.size != -(-capacity // SECTOR) * SECTOR:
                remedy = f"truncate -s {capacity} FILE makes one of zeros"
                raise UserError(f"{self._drive.where}: {where} needs an image of {capacity} bytes; {remedy}")
            self._drive.device = name
            self._host_errors = HostErrors(services, name, self._drive)
            try:
                fetch(backend, [memoryview(self.contents)], 0)
            except OSError as error:
                raise UserError(f"{self._drive.where}: cannot be read ({error.strerror}); name another image") from None
        self._lock = services.lock
        self._bell = services.worker()(name, self._write_back)

    # -- the bus

    def targets(self) -> dict[int, Target]:
        """What answers at each of its addresses."""
        return {address: Target(self, block) for block, address in enumerate(self.addresses)}

    def start(self, block: int, read: bool) -> None:
        """Addressed; without a stop condition before, nothing of what was latched is written."""
        self.latch = bytearray()
        self.address_bytes = 0 if read else self.address_width
        if self.address_width == 1 and len(self.addresses) > 1:
            self.pointer = block * BLOCK | self.pointer % BLOCK

    def receive(self, byte: int) -> bool:
        """First the address, then data for one page, at whose end it begins again."""
        if self.address_bytes:
            self.address_bytes -= 1
            kept = self.pointer & ~0xFF if self.address_width == 1 else self.pointer << 8
            self.pointer = (kept | byte) % self.capacity
            return True
        if self.read_only or self.failed:
            return False
        page, at = self.pointer // self.page * self.page, self.pointer % self.page
        if not self.latch:
            self.latch = self.contents[page : page + self.page]
        self.latch[at] = byte
        self.pointer = page + (at + 1) % self.page
        return True

    def send(self) -> int:
        """The byte at the pointer, which moves on through all of the chip."""
        value = self.contents[self.pointer]
        self.pointer = (self.pointer + 1) % self.capacity
        return value

    def stop(self) -> None:
        """A page that was latched is written."""
        if self.latch:
            page = self.pointer // self.page * self.page
            self.contents[page : page + self.page] = self.latch
            self.latch = bytearray()
            self._changed({page})

    # -- the drive

    def _changed(self, pages: set[int]) -> None:
        if self._drive and not self.read_only:
            self._dirty |= pages
            self._bell.ring()

    def _write_back(self) -> None:
        with self._lock:
            pages, self._dirty = sorted(self._dirty), set()
            data = [bytearray(self.contents[page : page + self.page]) for page in pages]
        if not (pages and self._drive):
            return
        try:
            for page, content in zip(pages, data, strict=True):
                store(self._drive.backend, [memoryview(content)], page)
            self._drive.backend.flush()
        except OSError as error:
            self._host_errors.tell("write", error)
            with self._lock:
                self.failed = True

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned. Raises ValueError for another size."""
        if len(saved.get("contents", self.contents)) != self.capacity:
            raise ValueError(f"{self.name}: saved state has not {self.capacity} bytes of contents")
        before = bytes(self.contents)
        super().restore({"contents": before, **saved})
        starts = range(0, self.capacity, self.page)
        self._changed({at for at in starts if before[at : at + self.page] != self.contents[at : at + self.page]})

    def close(self) -> None:
        """Write back what is left."""
        self._bell.close()
        self._write_back()

    def fdt(self, node: TreeNode) -> None:
        """The node below the bus's, whose compatible is the chip's."""
        node.set("compatible", f"atmel,24c{self.capacity * 8 >> 10:02}").set("pagesize", self.page)
        if self.read_only:
            node.set("read-only")


class Target:
    """An EEPROM at one of its addresses."""

    def __init__(self, chip: At24c, block: int) -> None:
        self._chip, self._block = chip, block
        self.receive, self.send, self.stop = chip.receive, chip.send, chip.stop

    def start(self, read: bool) -> None:
        """Addressed by this address."""
        self._chip.start(self._block, read)
