"""What guest RAM held at a moment, kept so that keeping it again and going back cost little.

The first moment kept becomes a *base*: a file in memory that RAM maps privately from then on, so that only pages the
guest writes become RAM's own. The next moment moves those pages into the base, and what was there into the moment
before: each `Contents` but the newest of a base is the next one with some pages different. RAM of another machine may
map the base too; then it never changes again, and the next moment begins a base of its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator

from powervisor.memory.pagemap import Run, data_runs, joined

PAGE = 4096
PIECE = 16 << 20
"""Bytes copied at a time."""


class Base:
    """A file in memory of `size` bytes, of which `users` RAMs have private mappings."""

    def __init__(self, size: int, fd: int | None = None) -> None:
        """`fd` becomes the base's; without it, it begins as zeros."""
        self.size, self.users = size, 0
        self.lock = threading.Lock()
        """Held while `users` is looked at and what follows from it is done."""
        if fd is None:
            fd = os.memfd_create("powervisor-ram", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
        self.fd = fd
        self._close = weakref.finalize(self, os.close, fd)
        self._newest: weakref.ref[Contents] | None = None

    @property
    def newest(self) -> Contents | None:
        """The moment the base holds; None when nobody keeps it any more."""
        return self._newest() if self._newest is not None else None

    @newest.setter
    def newest(self, contents: Contents) -> None:
        self._newest = weakref.ref(contents)

    def read(self, run: Run) -> bytes:
        """The bytes of a run."""
        offset, length = run
        return os.pread(self.fd, length, offset)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store all of `data`. Raises OSError when the host has no memory for it."""
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self.fd, rest, offset)
            offset, rest = offset + done, rest[done:]

    def copy(self) -> Base:
        """Another one with the same bytes; holes stay holes."""
        other = Base(self.size)
        for offset, length in data_runs(self.fd, 0, self.size):
            for at in range(offset, offset + length, PIECE):
                other.write(at, self.read((at, min(PIECE, offset + length - at))))
        return other


class Contents:
    """All bytes of RAM at one moment; they stay as long as somebody holds this."""

    def __init__(self, base: Base) -> None:
        """What `base` holds now."""
        self.base = base
        self.size = base.size
        self._next: Contents | None = None
        self._differences: list[tuple[int, bytes]] = []
        base.newest = self

    @classmethod
    def filled(cls, size: int, pieces: Iterable[tuple[int, bytes]]) -> Contents:
        """Zeros but for `pieces`: offsets and bytes."""
        base = Base(size)
        for offset, data in pieces:
            base.write(offset, data)
        return cls(base)

    def replace(self, runs: Iterable[Run], view: memoryview) -> Contents:
        """The next moment, with other bytes in some runs; the base, which nobody else uses, takes them from `view`."""
        later = Contents(self.base)
        for run in runs:
            self._differences.append((run[0], self.base.read(run)))
            self.base.write(run[0], view[run[0] : sum(run)])
        self._next = later
        return later

    @property
    def kept_bytes(self) -> int:
        """What this moment takes besides the next one."""
        return sum(len(data) for _, data in self._differences)

    def differences(self) -> list[tuple[int, bytes]]:
        """Offsets and bytes that have to be stored over the base, in this order, to have this moment."""
        chain: list[Contents] = []
        moment: Contents | None = self
        while moment is not None:
            chain.append(moment)
            moment = moment._next
        return [difference for moment in reversed(chain) for difference in moment._differences]

    def pieces(self, most: int = PIECE) -> Iterator[tuple[int, bytes]]:
        """Offsets and bytes, at most so many each, of everything that may differ from 0, in order."""
        differences = sorted(self._latest().items())
        at = 0
        for offset, length in self._runs([(page, len(data)) for page, data in differences]):
            for start in range(offset, offset + length, most):
                n = min(most, offset + length - start)
                data = bytearray(self.base.read((start, n)))
                while at < len(differences) and differences[at][0] < start + n:
                    page, content = differences[at]
                    data[page - start : page - start + len(content)] = content
                    at += 1
                yield start, bytes(data)

    def _latest(self) -> dict[int, bytes]:
        """The differences page by page."""
        pages: dict[int, bytes] = {}
        for offset, data in self.differences():
            for at in range(0, len(data), PAGE):
                pages[offset + at] = data[at : at + PAGE]
        return pages

    def _runs(self, differing: list[Run]) -> list[Run]:
        return joined(sorted([*data_runs(self.base.fd, 0, self.size), *differing]))

    def read(self, offset: int, length: int) -> bytes:
        """Some of the bytes."""
        data = bytearray(self.base.read((offset, length)))
        for at, content in self.differences():
            first, last = max(at, offset), min(at + len(content), offset + length)
            if first < last:
                data[first - offset : last - offset] = content[first - at : last - at]
        return bytes(data)
