"""Memory of a machine as the API shows it: physical, with device registers, and as a vCPU sees it."""

from __future__ import annotations

import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import PowervisorError, UserError
from ..hv.vcpu import Vcpu
from ..memory.space import BusError, PhysicalSpace

PAGE = 4096


class Unmapped(PowervisorError):
    """Nothing is at an address."""


class Numbers(ABC):
    """Reading and writing numbers over `read` and `write`; all are big-endian, as Power keeps them."""

    @abstractmethod
    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from an address. Raises Unmapped where nothing is."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> None:
        """Store `data` at an address. Raises Unmapped where nothing is."""

    def read8(self, address: int) -> int:
        """The byte at an address."""
        return self._number(address, 1)

    def read16(self, address: int) -> int:
        """The halfword (2 bytes) at an address."""
        return self._number(address, 2)

    def read32(self, address: int) -> int:
        """The word (4 bytes) at an address."""
        return self._number(address, 4)

    def read64(self, address: int) -> int:
        """The doubleword (8 bytes) at an address."""
        return self._number(address, 8)

    def write8(self, address: int, value: int) -> None:
        """Store a byte."""
        self._store(address, value, 1)

    def write16(self, address: int, value: int) -> None:
        """Store a halfword."""
        self._store(address, value, 2)

    def write32(self, address: int, value: int) -> None:
        """Store a word."""
        self._store(address, value, 4)

    def write64(self, address: int, value: int) -> None:
        """Store a doubleword."""
        self._store(address, value, 8)

    def _store(self, address: int, value: int, size: int) -> None:
        if not 0 <= value < 1 << 8 * size:
            raise UserError(f"0x{address:x}: {value:#x} does not fit into {size} byte{'s' * (size > 1)}")
        self.write(address, value.to_bytes(size, "big"))

    def _number(self, address: int, size: int) -> int:
        data = self.read(address, size)
        if len(data) < size:
            raise Unmapped(f"0x{address + len(data):x}: nothing is there")
        return int.from_bytes(data, "big")

    def unpack(self, layout: str, address: int) -> tuple[Any, ...]:
        """Values at an address by a layout of `struct`, big-endian unless it says otherwise: "2I" is two words."""
        layout = layout if layout[:1] in "<>!=@" else f">{layout}"
        return struct.unpack(layout, self.read(address, struct.calcsize(layout)))

    def pack(self, layout: str, address: int, *values: Any) -> None:
        """Store values at an address by a layout of `struct`, as `unpack`."""
        self.write(address, struct.pack(layout if layout[:1] in "<>!=@" else f">{layout}", *values))


class PhysicalMemory(Numbers):
    """Guest-physical memory. `memory[a:b]` is RAM; `read32` and its like reach device registers too, as a CPU would.

    Writes to RAM drop code translated from there. Any thread may use it.
    """

    def __init__(self, space: PhysicalSpace, lock: threading.RLock, changed: Callable[[], None]) -> None:
        """`changed` is called when something was written, or a device read, which may have an effect too."""
        self._space, self._lock, self._changed = space, lock, changed

    def __len__(self) -> int:
        return len(self._space.ram)

    def __getitem__(self, key: slice) -> bytes:
        return self._space.ram[key]

    def __setitem__(self, key: slice, data: bytes | bytearray | memoryview) -> None:
        self._space.ram[key] = data
        self._space.written(key.start or 0, len(data))
        self._changed()

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes of RAM, or of device registers in aligned accesses. Raises Unmapped."""
        if address + length > len(self):
            self._changed()
        with self._lock:
            try:
                return self._space.read_bytes(address, length)
            except BusError as error:
                raise Unmapped(str(BusError(error.pa, length, write=False))) from None

    def write(self, address: int, data: bytes) -> None:
        """Store to RAM, or to device registers in aligned accesses. Raises Unmapped."""
        self._changed()
        with self._lock:
            try:
                self._space.write_bytes(address, data)
            except BusError as error:
                raise Unmapped(str(BusError(error.pa, len(data), write=True))) from None


class EffectiveMemory(Numbers):
    """Memory as the program on a vCPU sees it, permissions aside; the vCPU is stopped."""

    def __init__(self, vcpu: Vcpu, physical: PhysicalMemory) -> None:
        self._vcpu, self._physical = vcpu, physical

    def _pieces(self, ea: int, length: int) -> Iterator[tuple[int, int]]:
        """Physical runs of an effective one, page by page. Raises Unmapped where it comes to a page without one."""
        while length:
            run = min(length, PAGE - ea % PAGE)
            pa = self._vcpu.translate(ea)
            if pa is None:
                raise Unmapped(f"0x{ea:x}: no translation on cpu{self._vcpu.index}")
            yield pa, run
            ea, length = ea + run, length - run

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from an effective address; less where translations end. Raises Unmapped when there is none."""
        data = bytearray()
        try:
            for pa, run in self._pieces(address, length):
                data += self._physical.read(pa, run)
        except Unmapped:
            if not data:
                raise
        return bytes(data)

    def write(self, address: int, data: bytes) -> None:
        """Store `data` at an effective address. Raises Unmapped, having written nothing, where a page is missing."""
        done = 0
        for pa, run in list(self._pieces(address, len(data))):
            self._physical.write(pa, data[done : done + run])
            done += run

    def text(self, address: int, limit: int = 4096) -> str:
        """The string at an effective address, up to its zero byte or `limit` bytes."""
        data = bytearray()
        while len(data) < limit and 0 not in data:
            data += self.read(address + len(data), min(PAGE - (address + len(data)) % PAGE, limit - len(data)))
        return bytes(data).split(b"\0", 1)[0].decode(errors="replace")
