"""Snapshot mode: what the guest writes goes to a nameless file and is gone with the machine."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress

from powervisor.block.backend import Backend
from powervisor.block.file import RawFile
from powervisor.buffers import part
from powervisor.errors import UserError, argument

CLUSTER = 64 << 10
_NONE = -1


class _Store:
    """A nameless file of clusters, each in a *slot*; it goes with the last one who needs it.

    A cluster of the disk first takes the slot of its own number, so that what lies in a row does so in the file too.
    """

    def __init__(self, file: RawFile, clusters: int) -> None:
        self.file, self._next = file, clusters
        self._home_taken = bytearray(clusters)
        self._free: list[int] = []
        weakref.finalize(self, file.close)

    def take(self, cluster: int) -> int:
        """A slot for a cluster's new content."""
        if not self._home_taken[cluster]:
            self._home_taken[cluster] = 1
            return cluster
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give_back(self, slot: int) -> None:
        """Nobody needs what is in a slot."""
        if slot < len(self._home_taken):
            self._home_taken[slot] = 0
        else:
            self._free.append(slot)


class Changes:
    """What a guest had changed of a disk at one moment: slots by cluster, over what was changed before a fork."""

    def __init__(self, store: _Store, slots: array[int], below: Changes | None, size: int) -> None:
        self.store, self.slots, self.below, self.size = store, slots, below, size

    @classmethod
    def empty(cls, size: int) -> Changes:
        """No changes of a disk of `size` bytes, for `put`. Raises UserError where no file can be had."""
        clusters = -(-size // CLUSTER)
        return cls(_Store(nameless(size), clusters), array("q", [_NONE]) * clusters, None, size)

    def put(self, offset: int, data: bytes) -> None:
        """Add a changed cluster."""
        cluster = offset // CLUSTER
        if offset % CLUSTER or len(data) != min(CLUSTER, self.size - offset):
            raise ValueError(f"{len(data)} bytes at {offset} are no cluster")
        self.slots[cluster] = self.store.take(cluster)
        self.store.file.writev([memoryview(data)], self.slots[cluster] * CLUSTER)

    def find(self, cluster: int) -> tuple[RawFile, int] | None:
        """The file with a cluster, and its place there; None for one that is as in the image."""
        if (slot := self.slots[cluster]) != _NONE:
            return self.store.file, slot * CLUSTER
        return self.below.find(cluster) if self.below is not None else None

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of each changed cluster, in order. Raises OSError."""
        for cluster in range(len(self.slots)):
            if (found := self.find(cluster)) is not None:
                file, at = found
                data = bytearray(min(CLUSTER, self.size - cluster * CLUSTER))
                file.readv([memoryview(data)], at)
                yield cluster * CLUSTER, bytes(data)


class Overlay:
    """`base` as it is, with changes in `store`, which begins empty; both are closed with it.

    Changes can be kept at a moment and restored: what is kept is never overwritten.
    """

    def __init__(self, base: Backend, store: RawFile) -> None:
        self.base = base
        self.size, self.read_only, self.granularity = base.size, False, base.granularity
        clusters = -(-base.size // CLUSTER)
        self._changes = Changes(_Store(store, clusters), array("q", [_NONE]) * clusters, None, base.size)
        self._own = bytearray(clusters)  # changed since the last moment kept: nobody else needs its slot
        self._coming: dict[int, int] = {}  # slots of clusters that are being written
        self._kept: Changes | None = None

    # -- moments

    def keep(self) -> Changes:
        """The changes as they are now; nobody uses the disk meanwhile."""
        if self._kept is None:
            now = self._changes
            self._kept = Changes(now.store, now.slots[:], now.below, now.size)
            self._own = bytearray(len(self._own))
        return self._kept

    def restore(self, changes: Changes) -> None:
        """Be as the disk was when `changes` were kept, of this overlay or another one of the same image."""
        if changes.size != self.size:
            raise ValueError(f"{changes.size} bytes of a disk kept, {self.size} there")
        now = self._changes
        own = self._own.find(1)
        while own >= 0:
            now.store.give_back(now.slots[own])
            own = self._own.find(1, own + 1)
        if changes.store is now.store:
            now.slots, now.below = changes.slots[:], changes.below
        else:
            now.slots, now.below = array("q", [_NONE]) * len(now.slots), changes
        self._own = bytearray(len(self._own))
        self._kept = changes if changes.store is now.store else None

    # -- the disk

    def _runs(self, offset: int, length: int) -> Iterator[tuple[Backend, int, int]]:
        """Where pieces are that lie in a row: the file or image, the place in it, bytes."""
        end = offset + length
        while offset < end:
            source, at = self._find(offset)
            start, last = offset, offset // CLUSTER + 1
            while last * CLUSTER < end and self._find(last * CLUSTER) == (source, at + last * CLUSTER - start):
                last += 1
            offset = min(end, last * CLUSTER)
            yield source, at, offset - start

    def _find(self, offset: int) -> tuple[Backend, int]:
        cluster = offset // CLUSTER
        found = self._changes.find(cluster)
        return (self.base, offset) if found is None else (found[0], found[1] + offset % CLUSTER)

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill the buffers from wherever each part of them is."""
        begin = 0
        for source, at, n in self._runs(offset, sum(map(len, buffers))):
            source.readv(part(buffers, begin, n), at)
            begin += n

    def writev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Store the buffers; the rest of the clusters they touch comes from where it is first."""
        begin = 0
        for at, n in self._prepare(offset, sum(map(len, buffers))):
            self._changes.store.file.writev(part(buffers, begin, n), at)
            begin += n
        self._settle(offset, begin)

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        """Zeros in the store: holes of it."""
        for at, n in self._prepare(offset, length):
            self._changes.store.file.write_zeroes(at, n, unmap=True)
        self._settle(offset, length)

    def _prepare(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Places in the store for the bytes, and how many lie there in a row; they count after `_settle`."""
        if not length:
            return
        self._kept = None
        end = offset + length
        for slot in self._coming.values():  # a write that the host refused
            self._changes.store.give_back(slot)
        self._coming = {}
        for cluster in range(offset // CLUSTER, (end - 1) // CLUSTER + 1):
            if not self._own[cluster]:
                start = cluster * CLUSTER
                self._coming[cluster] = self._changes.store.take(cluster)
                if start < offset or end < min(start + CLUSTER, self.size):
                    self._copy(cluster, self._coming[cluster])
        run_at, run = _NONE, 0
        while offset < end:
            cluster = offset // CLUSTER
            slot = self._coming.get(cluster, self._changes.slots[cluster])
            at, n = slot * CLUSTER + offset % CLUSTER, min(end, (cluster + 1) * CLUSTER) - offset
            if run and run_at + run != at:
                yield run_at, run
                run = 0
            run_at, run = (run_at, run + n) if run else (at, n)
            offset += n
        yield run_at, run

    def _copy(self, cluster: int, slot: int) -> None:
        start = cluster * CLUSTER
        buffer = memoryview(bytearray(min(CLUSTER, self.size - start)))
        self.readv([buffer], start)
        self._changes.store.file.writev([buffer], slot * CLUSTER)

    def _settle(self, offset: int, length: int) -> None:
        """What was prepared is stored."""
        if length:
            for cluster, slot in self._coming.items():
                self._changes.slots[cluster] = slot
                self._own[cluster] = 1
            self._coming = {}

    def flush(self) -> None:
        """Nothing is kept, so nothing has to be stable."""

    def discard(self, offset: int, length: int) -> None:
        """Nothing is gained by it."""

    def close(self) -> None:
        """Forget the changes, but for those that were kept."""
        self._kept = None
        with suppress(AttributeError):  # closed before
            del self._changes
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
