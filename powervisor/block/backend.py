"""What a disk device needs of the host. Offsets and lengths are bytes; buffers are given to the kernel as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

SECTOR = 512


class Backend(Protocol):
    """Storage of `size` bytes, a whole number of sectors. Everything raises OSError for what the host refuses."""

    size: int
    read_only: bool

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


def part(buffers: Sequence[memoryview], start: int, length: int) -> list[memoryview]:
    """Bytes `start`..`start+length` of the buffers taken as one."""
    found = []
    for buffer in buffers:
        if length <= 0:
            break
        if start < len(buffer):
            piece = buffer[start : start + length]
            found.append(piece)
            length -= len(piece)
        start = max(0, start - len(buffer))
    return found
