"""NOR flash with Intel's extended command set (JEDEC CFI 0001), as chips of 16 bits side by side on a big-endian bus.

What is programmed or erased is in the image before the chips are ready again, and on stable storage when the guest goes
back to reading.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

from powervisor.block.backend import store
from powervisor.devices.device import TreeNode, state
from powervisor.devices.host_errors import HostErrors
from powervisor.devices.platform import PlatformBus, PlatformCard, PlatformOptions
from powervisor.devices.registers import NamedRegister
from powervisor.devices.services import Services
from powervisor.errors import UserError, argument
from powervisor.properties import SIZE, choice, prop

CHIP_WIDTH = 2
BUFFER = 1 << 10
"""Bytes of one chip that a buffered program can reach."""
MANUFACTURER, CHIP = 0x89, 0x18
LEAST_SECTOR, MOST_SECTOR, MOST_SECTORS = 4096, 8 << 20, 1 << 16
_TIMES = bytes((4, 4, 1, 0, 15, 15, 13, 0))
"""Of programs (2**4 us) and erasing (2**1 ms), then what the host may take at most, as factors 2**15 and 2**13."""
_EXTENDED = 0x31
_INDIVIDUAL_LOCKS = 1 << 5


class View(IntEnum):
    """What reads show."""

    ARRAY, STATUS, IDENTIFIER, QUERY = range(4)


class Phase(IntEnum):
    """What the next write means."""

    COMMAND, ERASE, PROGRAM, COUNT, DATA, CONFIRM, LOCK, PROTECTION = range(8)


class Status(IntFlag):
    """The status register."""

    READY = 1 << 7
    ERASE_FAILED = 1 << 5
    PROGRAM_FAILED = 1 << 4
    LOCKED = 1 << 1


_SEQUENCE = Status.ERASE_FAILED | Status.PROGRAM_FAILED  # a command was not continued as it has to be
_LOCK, _UNLOCK, _LOCK_DOWN, _CONFIRM = 0x01, 0xD0, 0x2F, 0xD0
_VIEWS = {
    0xFF: View.ARRAY, 0x70: View.STATUS, 0x90: View.IDENTIFIER, 0x98: View.QUERY,
}  # fmt: skip
_PHASES = {
    0x20: Phase.ERASE, 0x28: Phase.ERASE, 0x10: Phase.PROGRAM, 0x40: Phase.PROGRAM, 0xE8: Phase.COUNT,
    0x60: Phase.LOCK, 0xC0: Phase.PROTECTION,
}  # fmt: skip
_CLEAR_STATUS, _SUSPEND = 0x50, 0xB0
_LOCKED, _LOCKED_DOWN = 1, 2


@dataclass(frozen=True)
class PflashOptions(PlatformOptions):
    """Properties of cfi.pflash01."""

    drive: str = prop("", "the -drive's id or the -blockdev's node-name", required=True)
    width: str = prop("2", "bytes of the bus: one or two chips side by side", choice("2", "4"))
    sector_length: int = prop(64 << 10, "bytes that are erased together", SIZE)


class Pflash(PlatformCard):
    """A bank of flash on a drive."""

    model = "cfi.pflash01"
    summary = "NOR flash on the platform bus"
    options_type = PflashOptions
    compatible = ("cfi-flash",)

    view: int = state(int)
    phase: int = state(int)
    errors: int = state(int)
    locks: bytearray = state(bytearray)
    """By block: bits _LOCKED and _LOCKED_DOWN; none after power-on."""
    start: int = state(int)
    """Where a buffered program began."""
    awaited: int = state(int)
    """Words it still waits for."""
    buffer: bytearray = state(bytearray)
    """All ones but for what it was given; from `start` down to a multiple of the buffer's size on."""
    pending: list[int] = state(list)
    """What the worker has to do: offset, and whether to erase; `buffer` is what to program."""

    def __init__(self, name: str, options: Any, services: Services) -> None:
        """`options` are PflashOptions. Raises UserError for what no such bank is."""
        where = f"{argument('devices')} {self.model}"
        self.drive = services.drives.claim(options.drive, where)
        self.width, self.sector = int(options.width), options.sector_length
        self.capacity = self.drive.backend.size
        if self.sector & (self.sector - 1) or not LEAST_SECTOR <= self.sector <= MOST_SECTOR:
            raise UserError(f"{where}: sector-length={self.sector} cannot be; write a power of two from 4K to 8M")
        least, most = self.sector, min(self.sector * MOST_SECTORS, 1 << 32)
        if self.capacity & (self.capacity - 1) or not least <= self.capacity <= most:
            right = min(max(1 << (self.capacity - 1).bit_length(), least), most)
            raise UserError(
                f"{self.drive.where}: flash of {self.capacity} bytes cannot be; make it a power of two from {least}"
                f" (truncate -s {right} FILE)"
            )
        self.drive.device = name
        self.services, self._host_errors = services, HostErrors(services, name, self.drive)
        self._shown: Callable[[bool], None] = lambda shown: None
        self._query = self._query_table()
        self._unflushed = self._flush_wanted = False
        self._busy = threading.RLock()  # the worker is at I/O; taken after the machine's lock
        super().__init__(name, options, services)
        self._bell = services.worker()(name, self._work)

    def attach(self, bus: PlatformBus) -> None:
        """Claim a window, and read the image; a node as Linux's physmap and U-Boot know it. Raises UserError too."""
        offset = bus.claim_window(self.name, self.capacity, self)
        self.array = mmap.mmap(-1, self.capacity)
        try:
            self._read_array()
        except OSError as error:
            raise UserError(f"{self.drive.where}: cannot be read ({error.strerror}); name another image") from None
        self.array_address = ctypes.addressof(ctypes.c_char.from_buffer(self.array))
        node: TreeNode = bus.add_node(f"nor@{offset:x}")
        node.set("compatible", *self.compatible).set("reg", offset, self.capacity).set("bank-width", self.width)

    def _read_array(self) -> None:
        with memoryview(self.array) as view:
            self.drive.backend.readv([view], 0)

    def follow(self, shown: Callable[[bool], None]) -> None:
        """Have `shown` called, now too, with whether reads show the array as it lies at `array_address`."""
        self._shown = shown
        self._settle()

    def _settle(self) -> None:
        self._shown(self.view == View.ARRAY)

    def _show(self, view: View) -> None:
        self.view = view
        self._settle()

    def _query_table(self) -> bytes:
        """What a chip says of itself, byte by byte."""
        chips = self.width // CHIP_WIDTH
        chip, sector = self.capacity // chips, self.sector // chips
        timings = bytes((0x45, 0x55, 0, 0)) + _TIMES
        geometry = struct.pack("<BHHB", chip.bit_length() - 1, 1, BUFFER.bit_length() - 1, 1)
        sectors = struct.pack("<HH", chip // sector - 1, sector // 256)
        table = b"QRY" + struct.pack("<HHHH", 1, _EXTENDED, 0, 0) + timings + geometry + sectors
        extended = b"PRI10" + struct.pack("<IBHBB", _INDIVIDUAL_LOCKS, 0, 1, 0x50, 0) + bytes(6)
        return bytes(0x10) + table.ljust(_EXTENDED - 0x10, b"\0") + extended

    # -- the guest's side

    def register_at(self, offset: int) -> NamedRegister | None:
        """The array, or the chips' answers and commands in its place."""
        return NamedRegister("array", 0, len(self.array))

    def read(self, offset: int, size: int, cpu: int = 0) -> int:
        """The array as it lies there, or what the chips answer, word by word."""
        self.counters.reads += 1
        if self.view == View.ARRAY:
            return int.from_bytes(self.array[offset : offset + size], "big")
        first = offset & -self.width
        words = range(first, offset + size, self.width)
        data = b"".join(self._answer(word).to_bytes(CHIP_WIDTH, "big") * (self.width // CHIP_WIDTH) for word in words)
        return int.from_bytes(data[offset - first : offset - first + size], "big")

    def _answer(self, offset: int) -> int:
        """What every chip answers at the word at `offset`."""
        if self.view == View.STATUS:
            return self.errors | (0 if self.pending else Status.READY)
        word = offset % self.sector // self.width
        if self.view == View.QUERY:
            return self._query[word] if word < len(self._query) else 0
        return {0: MANUFACTURER, 1: CHIP, 2: self._lock_of(offset)}.get(word, 0)

    def write(self, offset: int, size: int, value: int, cpu: int = 0) -> None:
        """Cycles of the bus; what is narrower than it leaves the other bytes alone."""
        self.counters.writes += 1
        if size <= self.width:
            missing = self.width - size
            lane = offset % self.width
            data = b"\xff" * lane + value.to_bytes(size, "big") + b"\xff" * (missing - lane)
            self._cycle(offset - lane, data[: self.width], value)
            return
        for at in range(0, size, self.width):
            piece = value >> 8 * (size - at - self.width) & (1 << 8 * self.width) - 1
            self._cycle(offset + at, piece.to_bytes(self.width, "big"), piece)

    def _cycle(self, offset: int, data: bytes, value: int) -> None:
        """One write: `data` as the array would have it, of which a command is the lowest byte of `value`."""
        if self.pending:
            return
        phase, command = Phase(self.phase), value & 0xFF
        self.phase = Phase.COMMAND
        if phase == Phase.COMMAND:
            self._command(command)
        elif phase == Phase.ERASE:
            self._erase(offset, command)
        elif phase == Phase.PROGRAM:
            self._fill(offset, data)
            self._program(offset)
        elif phase == Phase.COUNT:
            self._count(offset, value & 0xFFFF)
        elif phase == Phase.DATA:
            self._data(offset, data)
        elif phase == Phase.CONFIRM:
            if command == _CONFIRM:
                self._program(self.start)
            else:
                self.errors |= _SEQUENCE
        elif phase == Phase.LOCK:
            self._lock(offset, command)
        else:  # there is no protection register
            self.errors |= Status.PROGRAM_FAILED | Status.LOCKED

    def _command(self, command: int) -> None:
        if command == _CLEAR_STATUS:
            self.errors = 0
        elif command in _PHASES:
            self.phase = _PHASES[command]
            self._show(View.STATUS)
        elif command not in (_SUSPEND, _CONFIRM):  # nothing to suspend, as nobody said it could be
            self._show(_VIEWS.get(command, View.ARRAY))
            if self.view == View.ARRAY and self._unflushed:
                self._flush_wanted = True
                self._bell.ring()

    def _lock_of(self, offset: int) -> int:
        block = offset // self.sector
        return self.locks[block] if block < len(self.locks) else 0

    def _lock(self, offset: int, command: int) -> None:
        if not self.locks:
            self.locks = bytearray(self.capacity // self.sector)
        block = offset // self.sector
        if command == _LOCK:
            self.locks[block] |= _LOCKED
        elif command == _LOCK_DOWN:
            self.locks[block] |= _LOCKED | _LOCKED_DOWN
        elif command == _UNLOCK:
            self.locks[block] &= 0xFF if self.locks[block] & _LOCKED_DOWN else ~_LOCKED
        else:
            self.errors |= _SEQUENCE

    def _protected(self, offset: int) -> bool:
        return self.drive.backend.read_only or bool(self._lock_of(offset) & _LOCKED)

    def _erase(self, offset: int, command: int) -> None:
        if command != _CONFIRM:
            self.errors |= _SEQUENCE
        elif self._protected(offset):
            self.errors |= Status.ERASE_FAILED | Status.LOCKED
        else:
            self._begin(offset & -self.sector, erase=True)

    def _reach(self) -> int:
        """Bytes of the bank that a buffer has room for."""
        return BUFFER * (self.width // CHIP_WIDTH)

    def _fill(self, offset: int, data: bytes) -> None:
        """A new buffer with one word in it."""
        self.start, self.buffer = offset, bytearray(b"\xff" * self._reach())
        self.buffer[offset % self._reach() : offset % self._reach() + len(data)] = data

    def _count(self, offset: int, value: int) -> None:
        if (value + 1) * self.width > self._reach():
            self.errors |= _SEQUENCE
            return
        self.start, self.buffer, self.awaited = -1, bytearray(), value + 1
        self.phase = Phase.DATA

    def _data(self, offset: int, data: bytes) -> None:
        reach = self._reach()
        if not self.buffer:
            self._fill(offset, data)
        elif offset // reach != self.start // reach:
            self.errors |= _SEQUENCE
            return
        else:
            self.buffer[offset % reach : offset % reach + len(data)] = data
        self.awaited -= 1
        self.phase = Phase.DATA if self.awaited else Phase.CONFIRM

    def _program(self, offset: int) -> None:
        if self._protected(offset):
            self.errors |= Status.PROGRAM_FAILED | Status.LOCKED
        else:
            self._begin(offset & -self._reach(), erase=False)

    # -- the worker

    def _begin(self, offset: int, erase: bool) -> None:
        self.pending = [offset, int(erase)]
        self._bell.ring()

    def _work(self) -> None:
        while True:
            with self.services.lock:
                pending, flush = self.pending, self._flush_wanted
                if not pending and not flush:
                    return
                offset, erase = pending or (0, 0)
                data = b"\xff" * self.sector if erase else self._programmed(offset) if pending else b""
                self._flush_wanted = False
                self._unflushed = bool(pending)
                self._busy.acquire()
            try:
                if pending:
                    store(self.drive.backend, [memoryview(data)], offset)
                else:
                    self.drive.backend.flush()
                failure = None
            except OSError as error:
                failure = error
                self._host_errors.tell("erase" if erase else "write", error)
            finally:
                self._busy.release()
            with self.services.lock:
                if self.pending is not pending:  # another moment was restored
                    continue
                if failure is None:
                    self.array[offset : offset + len(data)] = data
                elif pending:
                    self.errors |= Status.ERASE_FAILED if erase else Status.PROGRAM_FAILED
                self.pending = []

    def _programmed(self, offset: int) -> bytes:
        """The array where the buffer goes: programming only makes zeros out of ones."""
        length = self._reach()
        old, new = (int.from_bytes(data, "big") for data in (self.array[offset : offset + length], self.buffer))
        return (old & new).to_bytes(length, "big")

    # -- the machine's side

    def reset(self) -> None:
        """As after power-on, but for what is being programmed or erased."""
        pending, buffer = self.pending, self.buffer
        super().reset()
        self.pending, self.buffer = pending, buffer

    def still(self) -> AbstractContextManager[object]:
        """The worker has done with the image; what it stored is stored once more after a restore."""
        return self._busy

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned; the array is the image's, which is as it was then. Raises OSError too."""
        super().restore(saved)
        if not self.drive.backend.read_only:
            self._read_array()
        if self.pending:
            self._bell.ring()

    def close(self) -> None:
        """Finish what was begun; everything is on stable storage then."""
        self._bell.close()
        self._flush_wanted = self._unflushed
        self._work()
