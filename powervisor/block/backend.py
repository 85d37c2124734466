"""What a disk device needs of the host. Offsets and lengths are bytes; buffers are given to the kernel as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from powervisor.buffers import fill

SECTOR = 512


class Backend(Protocol):
    """Storage of `size` bytes, a whole number of sectors. Everything raises OSError for what the host refuses."""

    size: int
    read_only: bool
    granularity: int
    """Bytes that offsets and lengths are multiples of; at most a sector unless the host's storage has larger ones."""

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill the buffers, one after another, from `offset`."""

    def writev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Store the buffers, one after another, at `offset`."""

    def flush(self) -> None:
        """Return when everything written before is on stable storage."""

    def discard(self, offset: int, length: int) -> None:
        """The bytes are not needed any more; what they read as afterwards is open."""

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        """Let the bytes read as 0; with `unmap` their storage may be given back."""

    def close(self) -> None:
        """Give everything back to the host; nothing is used afterwards."""


class Do(Enum):
    """What can be done with storage."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    DISCARD = 3
    ZERO = 4


_READ, _WRITE = Do.READ, Do.WRITE  # an Enum's attributes take a while to find


class Job(NamedTuple):
    """One call of a backend, as a value."""

    do: Do
    offset: int = 0
    length: int = 0
    buffers: Sequence[memoryview] = ()
    unmap: bool = False


@runtime_checkable
class Concurrent(Protocol):
    """A backend that works on several jobs at a time, and can be asked to without waiting."""

    def begin(self, job: Job, done: Callable[[OSError | None], None]) -> None:
        """Begin `job`; `done` is called once, on any thread, when it is finished. Until then the buffers are in use."""

    def abandon(self, why: str) -> None:
        """Have all jobs that are not done fail soon, and all later ones."""


def perform(backend: Backend, job: Job) -> None:
    """Do `job` and wait for it. Raises OSError."""
    do, offset, length, buffers, unmap = job
    if do is _READ:
        backend.readv(buffers, offset)
    elif do is _WRITE:
        backend.writev(buffers, offset)
    elif do is Do.FLUSH:
        backend.flush()
    elif do is Do.DISCARD:
        backend.discard(offset, length)
    else:
        backend.write_zeroes(offset, length, unmap)


def store(backend: Backend, buffers: Sequence[memoryview], offset: int) -> None:
    """`writev` of any bytes: where the backend wants larger pieces, with what lies around them. Raises OSError."""
    length = sum(map(len, buffers))
    start, end = _around(backend, offset, length)
    if (start, end) == (offset, offset + length):
        backend.writev(buffers, offset)
        return
    whole = bytearray(end - start)
    backend.readv([memoryview(whole)], start)
    whole[offset - start : offset - start + length] = b"".join(buffers)
    backend.writev([memoryview(whole)], start)


def fetch(backend: Backend, buffers: Sequence[memoryview], offset: int) -> None:
    """`readv` of any bytes, as `store`. Raises OSError."""
    length = sum(map(len, buffers))
    start, end = _around(backend, offset, length)
    if (start, end) == (offset, offset + length):
        backend.readv(buffers, offset)
        return
    whole = memoryview(bytearray(end - start))
    backend.readv([whole], start)
    fill(buffers, whole[offset - start :])


def _around(backend: Backend, offset: int, length: int) -> tuple[int, int]:
    """Where the pieces that hold these bytes begin and end."""
    piece = backend.granularity
    return offset // piece * piece, -(-(offset + length) // piece) * piece
