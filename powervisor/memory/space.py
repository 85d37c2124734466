"""The guest-physical address space: RAM at 0, windows of devices above, DMA through both."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple, Protocol

from powervisor.memory.ram import Ram

_PAGE_SHIFT = 12
_MOST_RECENT = 64


class BusError(Exception):
    """Nothing answers at a physical address; to a guest this is a machine check."""

    def __init__(self, pa: int, size: int, write: bool) -> None:
        self.pa, self.size, self.write = pa, size, write
        super().__init__(f"no device or RAM at 0x{pa:x} ({'write' if write else 'read'} of {size})")


class Target(Protocol):
    """What a window maps. Values are big-endian numbers, as the guest's register holds them.

    A target with an attribute `takes_doubleword = True` gets accesses of 8 bytes whole; for others they
    are split into two words, the one at the lower address first. One with `on_unknown` calls that for accesses where
    it has no register.
    """

    def read(self, offset: int, size: int, cpu: int) -> int:
        """The value of `size` (1, 2, 4) bytes at `offset`, read by vCPU `cpu`."""

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        """Store `value` of `size` (1, 2, 4) bytes at `offset`, written by vCPU `cpu`."""


class Window(NamedTuple):
    """`size` bytes from physical `base`, answered by `target`."""

    base: int
    size: int
    target: Target
    name: str

    @property
    def end(self) -> int:
        return self.base + self.size


class PhysicalSpace:
    """Dispatches physical accesses that native code does not answer itself."""

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self._bases: list[int] = []
        self._windows: list[Window] = []
        self._recent: dict[int, Window] = {}  # by the page of an access
        self._hooks: list[Callable[[int, int], None]] = []
        self.met_unknown = False
        """Whether an access came where its target has no register, since somebody cleared this."""

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows in address order."""
        return tuple(self._windows)

    def map(self, base: int, size: int, target: Target, name: str) -> Window:
        """Let `target` answer `base`..`base+size`. Raises ValueError where that overlaps RAM or a window."""
        if size <= 0:
            raise ValueError(f"{name}: a window needs a positive size")
        if base < self.ram.size:
            raise ValueError(f"{name} at 0x{base:x} overlaps RAM (0..0x{self.ram.size:x})")
        window = Window(base, size, target, name)
        at = bisect_right(self._bases, base)
        for other in self._windows[max(at - 1, 0) : at + 1]:
            if other.base < window.end and base < other.end:
                raise ValueError(f"{name} at 0x{base:x} overlaps {other.name} at 0x{other.base:x}")
        self._windows.insert(at, window)
        self._bases.insert(at, base)
        self._recent.clear()
        if hasattr(target, "on_unknown"):
            target.on_unknown = self._note_unknown
        return window

    def unmap(self, window: Window) -> None:
        """Remove what `map` returned."""
        at = self._bases.index(window.base)
        del self._bases[at], self._windows[at]
        self._recent.clear()

    def _note_unknown(self) -> None:
        self.met_unknown = True

    def find(self, pa: int) -> Window | None:
        """The window that holds `pa`, or None."""
        at = bisect_right(self._bases, pa) - 1
        if at >= 0 and pa < (window := self._windows[at]).end:
            return window
        return None

    def on_write(self, hook: Callable[[int, int], None]) -> None:
        """Call `hook(pa, length)` after each write to RAM made here (loaders, DMA, debuggers)."""
        self._hooks.append(hook)

    def _dispatch(self, pa: int, size: int, write: bool) -> tuple[int, Target]:
        """Offset in the window that holds an access, and its target; one of the last ones, mostly."""
        window = self._recent.get(pa >> _PAGE_SHIFT)
        if window is None or not window.base <= pa <= window.base + window.size - size:
            window = self.find(pa)
            if window is None or pa + size > window.end:
                raise BusError(pa, size, write)
            if len(self._recent) >= _MOST_RECENT:
                self._recent.clear()
            self._recent[pa >> _PAGE_SHIFT] = window
        return pa - window.base, window.target

    def read(self, pa: int, size: int, cpu: int = 0) -> int:
        """The big-endian value of `size` (1, 2, 4, 8) bytes at `pa`. Raises BusError."""
        if pa + size <= self.ram.size:
            return int.from_bytes(self.ram.view[pa : pa + size], "big")
        offset, target = self._dispatch(pa, size, False)
        if size == 8 and not getattr(target, "takes_doubleword", False):
            high = target.read(offset, 4, cpu)
            return high << 32 | target.read(offset + 4, 4, cpu)
        return target.read(offset, size, cpu)

    def write(self, pa: int, size: int, value: int, cpu: int = 0) -> None:
        """Store the low `size` (1, 2, 4, 8) bytes of `value` at `pa`, big-endian. Raises BusError."""
        if pa + size <= self.ram.size:
            self.ram.view[pa : pa + size] = value.to_bytes(size, "big")
            self.written(pa, size)
            return
        offset, target = self._dispatch(pa, size, True)
        if size == 8 and not getattr(target, "takes_doubleword", False):
            target.write(offset, 4, value >> 32, cpu)
            target.write(offset + 4, 4, value & 0xFFFF_FFFF, cpu)
        else:
            target.write(offset, size, value, cpu)

    def read_bytes(self, pa: int, length: int) -> bytes:
        """`length` bytes from `pa`; device windows are read in aligned words. Raises BusError."""
        if pa + length <= self.ram.size:
            return bytes(self.ram.view[pa : pa + length])
        out = bytearray()
        for at, size in _pieces(pa, length):
            out += self.read(at, size).to_bytes(size, "big")
        return bytes(out)

    def write_bytes(self, pa: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `pa`; device windows are written in aligned words. Raises BusError."""
        if pa + len(data) <= self.ram.size:
            self.ram.view[pa : pa + len(data)] = data
            self.written(pa, len(data))
            return
        if len(data) == 4 and pa % 4 == 0:  # a message of a device, mostly
            self.write(pa, 4, int.from_bytes(data, "big"))
            return
        for at, size in _pieces(pa, len(data)):
            self.write(at, size, int.from_bytes(data[at - pa : at - pa + size], "big"))

    def clear(self, pa: int, length: int) -> None:
        """Zero `length` bytes of RAM from `pa`; whole pages go back to the host. Raises BusError."""
        if pa + length > self.ram.size:
            raise BusError(pa, length, True)
        self.ram.clear(pa, pa + length)
        self.written(pa, length)

    def discard(self, pa: int, length: int) -> None:
        """Give host pages of RAM back to the host; the guest does not need their content. Raises BusError, OSError."""
        if pa + length > self.ram.size:
            raise BusError(pa, length, True)
        self.ram.discard(pa, pa + length)
        self.written(pa, length)

    def written(self, pa: int, length: int) -> None:
        """RAM was changed: tell whoever keeps something derived from it."""
        for hook in self._hooks:
            hook(pa, length)


def _pieces(pa: int, length: int) -> list[tuple[int, int]]:
    """The naturally aligned accesses of at most 4 bytes that cover `pa`..`pa+length`, in order."""
    pieces = []
    while length:
        size = next(size for size in (4, 2, 1) if size <= length and pa % size == 0)
        pieces.append((pa, size))
        pa, length = pa + size, length - size
    return pieces


Translate = Callable[[int, int, bool], tuple[int, int]]


class Dma:
    """A device's way into physical memory, with an optional IOMMU or bus bridge in front.

    `translate(address, length, write)` answers a physical address and how many of the `length` bytes (1 at
    least) lie there in a row, or raises BusError.
    """

    def __init__(self, space: PhysicalSpace, translate: Translate | None = None) -> None:
        self.space = space
        self.translate = translate

    def behind(self, translate: Translate) -> Dma:
        """A further stage: addresses go through `translate`, then through this object."""

        def both(address: int, length: int, write: bool) -> tuple[int, int]:
            address, length = translate(address, length, write)
            return self.translate(address, length, write) if self.translate else (address, length)

        return Dma(self.space, both)

    def pieces(self, address: int, length: int, write: bool) -> list[tuple[int, int]]:
        """Physical addresses and lengths of what the device sees at `address`. Raises BusError."""
        if self.translate is None:
            return [(address, length)] if length else []
        pieces: list[tuple[int, int]] = []
        while length:
            pa, n = self.translate(address, length, write)
            if pieces and sum(pieces[-1]) == pa:
                pieces[-1] = pieces[-1][0], pieces[-1][1] + n
            else:
                pieces.append((pa, n))
            address, length = address + n, length - n
        return pieces

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes from the device's `address`. Raises BusError."""
        return b"".join(self.space.read_bytes(pa, n) for pa, n in self.pieces(address, length, False))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at the device's `address`. Raises BusError before the first byte when any address is refused."""
        at = 0
        for pa, n in self.pieces(address, len(data), True):
            self.space.write_bytes(pa, data[at : at + n])
            at += n

    def view(self, pa: int, length: int, write: bool) -> memoryview:
        """Guest RAM at a physical address out of `pieces`; nothing is copied. Raises BusError where no RAM is.

        Whoever writes into it calls `space.written` afterwards, and lets go of it before the machine is closed.
        """
        ram = self.space.ram
        if pa + length > ram.size:
            raise BusError(pa, length, write)
        return ram.view[pa : pa + length]

    def buffers(self, address: int, length: int, write: bool) -> list[tuple[int, memoryview]]:
        """What the device sees at `address`, as `view`s, each with its physical address."""
        ram = self.space.ram
        if self.translate is None and length and address + length <= ram.size:
            return [(address, ram.view[address : address + length])]
        return [(pa, self.view(pa, n, write)) for pa, n in self.pieces(address, length, write)]

    def views(self, address: int, length: int, write: bool) -> list[memoryview]:
        """What the device sees at `address`, as `view`s."""
        return [self.view(pa, n, write) for pa, n in self.pieces(address, length, write)]

    def read_ram(self, address: int, length: int) -> bytes:
        """As `read`, but of RAM only: a device's thread must not reach registers, its device's least of all."""
        return b"".join(self.views(address, length, False))

    def write_ram(self, address: int, data: bytes) -> None:
        """As `write`, but to RAM only."""
        places = [(pa, n, self.view(pa, n, True)) for pa, n in self.pieces(address, len(data), True)]
        at = 0
        for pa, n, view in places:
            view[:] = data[at : at + n]
            self.space.written(pa, n)
            at += n
