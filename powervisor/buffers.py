"""Data in several buffers, taken as one after another: guest memory as devices and the host's system calls see it."""

from __future__ import annotations

from collections.abc import Sequence


def part(buffers: Sequence[memoryview], start: int, length: int) -> list[memoryview]:
    """Bytes `start`..`start+length` of the buffers taken as one, or what there is of them."""
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


def rest(buffers: Sequence[memoryview], done: int) -> list[memoryview]:
    """The buffers without their first `done` bytes."""
    first = 0
    while first < len(buffers) and done >= len(buffers[first]):
        done -= len(buffers[first])
        first += 1
    return [buffers[first][done:], *buffers[first + 1 :]] if first < len(buffers) else []


def fill(buffers: Sequence[memoryview], data: bytes | memoryview) -> int:
    """Put the beginning of `data` into the buffers; answers how much went in."""
    at = 0
    for buffer in buffers:
        piece = data[at : at + len(buffer)]
        buffer[: len(piece)] = piece
        at += len(piece)
    return at
