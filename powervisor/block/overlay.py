"""Snapshot mode: what the guest writes goes to a nameless file and is gone with the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from powervisor.block.backend import Backend
from powervisor.block.file import RawFile
from powervisor.buffers import part
from powervisor.errors import UserError, argument

CLUSTER = 64 << 10


class Overlay:
    """`base` as it is, with changes in `store`, which begins empty; both are closed with it."""

    def __init__(self, base: Backend, store: RawFile) -> None:
        self.base, self.store = base, store
        self.size, self.read_only, self.granularity = base.size, False, base.granularity
        self._changed = bytearray(-(-base.size // CLUSTER))

    def _runs(self, offset: int, length: int) -> Iterator[tuple[bool, int, int]]:
        """Whether changed, offset and length of pieces that are either all in the store or all in the base."""
        end = offset + length
        while offset < end:
            first = offset // CLUSTER
            state, last = self._changed[first], first + 1
            while last * CLUSTER < end and self._changed[last] == state:
                last += 1
            n = min(end, last * CLUSTER) - offset
            yield bool(state), offset, n
            offset += n

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill the buffers from wherever each part of them is."""
        begin = offset
        for changed, at, n in self._runs(offset, sum(map(len, buffers))):
            (self.store if changed else self.base).readv(part(buffers, at - begin, n), at)

    def writev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Store the buffers; the rest of the clusters they touch comes from the base first."""
        length = sum(map(len, buffers))
        if length:
            self._complete(offset, length)
            self.store.writev(buffers, offset)
            self._mark(offset, offset + length)

    def _complete(self, offset: int, length: int) -> None:
        for cluster in {offset // CLUSTER, (offset + length - 1) // CLUSTER}:
            start = cluster * CLUSTER
            whole = offset <= start and start + CLUSTER <= offset + length
            if not whole and not self._changed[cluster]:
                buffer = memoryview(bytearray(min(CLUSTER, self.size - start)))
                self.base.readv([buffer], start)
                self.store.writev([buffer], start)
                self._changed[cluster] = 1

    def _mark(self, start: int, end: int) -> None:
        first, last = start // CLUSTER, -(-end // CLUSTER)
        self._changed[first:last] = b"\1" * (last - first)

    def flush(self) -> None:
        """Nothing is kept, so nothing has to be stable."""

    def discard(self, offset: int, length: int) -> None:
        """Nothing is gained by it."""

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        """Zeros in the store: holes of it."""
        if length:
            self._complete(offset, length)
            self.store.write_zeroes(offset, length, unmap=True)
            self._mark(offset, offset + length)

    def close(self) -> None:
        """Forget the changes."""
        self.store.close()
        self.base.close()


def nameless(size: int) -> RawFile:
    """A file of `size` bytes, all holes, that vanishes when it is closed. Raises UserError."""
    import tempfile

    directory = os.environ.get("TMPDIR", "/var/tmp")
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            file.truncate(size)
            return RawFile(os.dup(file.fileno()), flushes=False, unmap=True)
    except OSError as error:
        why = f"no file for what the guest writes in {directory} ({error.strerror})"
        raise UserError(f"{argument('snapshot')}: {why}; set TMPDIR to a directory with room") from None
