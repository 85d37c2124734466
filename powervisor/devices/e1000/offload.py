"""Checksums and segments that a driver leaves to the controller."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from powervisor.devices.ethernet import checksum_total

_FIN_PUSH = 0x09


class Context(NamedTuple):
    """A context descriptor: where headers and checksums are, in bytes from a frame's beginning."""

    ip_start: int
    ip_place: int
    ip_end: int
    """Of the checksum's range, inclusive; 0 for all."""
    start: int
    place: int
    end: int
    tcp: int
    ipv4: int
    header: int
    """Bytes of all headers."""
    segment: int
    """Bytes of data in each frame."""

    @classmethod
    def parse(cls, first: int, second: int, third: int, fourth: int) -> Context:
        """From a descriptor's four words."""
        command = third >> 24
        return cls(
            first & 0xFF, first >> 8 & 0xFF, first >> 16, second & 0xFF, second >> 8 & 0xFF, second >> 16,
            command & 1, command & 2, fourth >> 8 & 0xFF, fourth >> 16,
        )  # fmt: skip


NO_CONTEXT = Context(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def insert(frame: bytearray, start: int, place: int, end: int) -> None:
    """Store at `place` the checksum of bytes `start`..`end`, inclusive; without effect where they are not."""
    if start < len(frame) and place + 2 <= len(frame):
        stop = end + 1 if end else len(frame)
        frame[place : place + 2] = (~checksum_total(frame[start:stop]) & 0xFFFF).to_bytes(2, "big")


def finish(frame: bytearray, context: Context, ip: bool, transport: bool) -> None:
    """Store the checksums that were asked for; the transport's place holds the sum of its pseudo header."""
    if ip:
        frame[context.ip_place : context.ip_place + 2] = bytes(len(frame[context.ip_place : context.ip_place + 2]))
        insert(frame, context.ip_start, context.ip_place, context.ip_end)
    if transport:
        insert(frame, context.start, context.place, context.end)


def segments(frame: bytes, context: Context, ip: bool, transport: bool) -> Iterator[bytearray]:
    """The frames that a long one is cut into; none of a context that has no room for its headers."""
    header, size = context.header, context.segment
    ip_room, room = context.ip_start + (20 if context.ipv4 else 40), context.start + (20 if context.tcp else 8)
    if not size or header > len(frame) or max(ip_room, room, context.place + 2) > header:
        return
    data = memoryview(frame)[header:]
    for number, at in enumerate(range(0, max(len(data), 1), size)):
        piece = bytearray(frame[:header]) + data[at : at + size]
        last = at + size >= len(data)
        length = len(piece) - context.ip_start
        if context.ipv4:
            _add(piece, context.ip_start + 4, number)
            struct.pack_into(">H", piece, context.ip_start + 2, length & 0xFFFF)
        else:
            struct.pack_into(">H", piece, context.ip_start + 4, length - 40 & 0xFFFF)
        if context.tcp:
            (sequence,) = struct.unpack_from(">I", piece, context.start + 4)
            struct.pack_into(">I", piece, context.start + 4, sequence + at & 0xFFFF_FFFF)
            if not last:
                piece[context.start + 13] &= ~_FIN_PUSH
        else:
            struct.pack_into(">H", piece, context.start + 4, len(piece) - context.start & 0xFFFF)
        if transport:
            (pseudo,) = struct.unpack_from(">H", piece, context.place)
            pseudo = (pseudo + len(piece) - context.start) % 0xFFFF
            struct.pack_into(">H", piece, context.place, pseudo)
        finish(piece, context, ip, transport)
        yield piece


def _add(frame: bytearray, place: int, number: int) -> None:
    (value,) = struct.unpack_from(">H", frame, place)
    struct.pack_into(">H", frame, place, value + number & 0xFFFF)
