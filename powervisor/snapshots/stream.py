"""A snapshot in a stream: what a file has, in one pass, for pipes and descriptors that are somewhere inside a file.

A head with a checksum, the packed header, then frames: each a compressed piece of a section with its own head and
checksum, the last one empty. What is cut off or altered is found. Numbers are little-endian; the header is msgpack.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import zstandard

from ..errors import UserError
from .file import CHUNK, LEVEL, MOST_INDEX, WORKERS, Pieces, Progress, damaged, in_order, pack, unpack

MAGIC = b"PVSTREAM"
VERSION = 1
_HEAD = struct.Struct("<8sIIII")
"""Magic, version, length of the packed header, its CRC, and the CRC of all of this."""
_FRAME = struct.Struct("<IIQII")
"""Number of the section, compressed bytes, offset in the section, their CRC, and the CRC of all of this."""
_END = 0xFFFF_FFFF
_MOST_SECTIONS = 1000


def write(
    send: Callable[[bytes], None], header: Mapping[str, Any], sections: Mapping[str, Pieces],
    tell: Callable[[int], None] = lambda length: None,
) -> None:  # fmt: skip
    """Send plain values, and bytes by section; `tell` is told how many bytes of sections went. What `send` raises ends
    it."""
    packed = zstandard.compress(msgpack.packb({"header": header, "sections": [*sections]}), LEVEL)
    send(_summed(_HEAD.pack(MAGIC, VERSION, len(packed), zlib.crc32(packed), 0)))
    send(packed)
    with ThreadPoolExecutor(WORKERS) as pool:
        for number, pieces in enumerate(sections.values()):
            for offset, length, data in in_order(pool, pack, pieces):
                send(_summed(_FRAME.pack(number, len(data), offset, zlib.crc32(data), 0)))
                send(data)
                tell(length)
    send(_summed(_FRAME.pack(_END, 0, 0, 0, 0)))


def _summed(head: bytes) -> bytes:
    return head[:-4] + struct.pack("<I", zlib.crc32(head[:-4]))


class Stream:
    """Reads what `write` sent. `receive(n)` answers n bytes, fewer only where the stream ends.

    `where` begins messages. Raises UserError for what is no such stream, or is damaged.
    """

    def __init__(self, receive: Callable[[int], bytes], where: str) -> None:
        self._receive, self._where = receive, where
        head = receive(_HEAD.size)
        if not head or head[: len(MAGIC)] != MAGIC[: len(head)]:
            raise UserError(f"{where}: no stream of a Powervisor machine; name one that migrate wrote")
        self._check(head, _HEAD.size, "its head")
        _, version, length, crc, _ = _HEAD.unpack(head)
        if version != VERSION:
            raise UserError(f"{where}: a stream of format {version}, this Powervisor reads format {VERSION}")
        packed = receive(length)
        if length > MOST_INDEX or zlib.crc32(packed) != crc:
            raise damaged(where, "its header")
        try:
            values = msgpack.unpackb(zstandard.decompress(packed, MOST_INDEX), strict_map_key=False)
            self.header: dict[str, Any] = values["header"]
            self._sections: list[str] = values["sections"][:_MOST_SECTIONS]
        except (zstandard.ZstdError, ValueError, TypeError, KeyError) as error:
            raise damaged(where, f"{type(error).__name__} in its header") from None
        self._next = self._frame()

    def _check(self, head: bytes, size: int, what: str) -> None:
        if len(head) != size or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
            raise damaged(self._where, what)

    def _frame(self) -> tuple[str, int, bytes]:
        """The next piece: its section, offset and bytes; "" after the last."""
        head = self._receive(_FRAME.size)
        self._check(head, _FRAME.size, "it ends early" if len(head) < _FRAME.size else "a frame")
        number, length, offset, crc, _ = _FRAME.unpack(head)
        if number == _END:
            return "", 0, b""
        data = self._receive(length) if length <= 2 * CHUNK else b""
        if len(data) != length or zlib.crc32(data) != crc or number >= len(self._sections):
            raise damaged(self._where, "it ends early" if len(data) < length else f"a frame at {offset:#x}")
        try:
            return self._sections[number], offset, unpack(data, CHUNK)
        except zstandard.ZstdError:
            raise damaged(self._where, f"a frame at {offset:#x}") from None

    def read(self, section: str, store: Callable[[int, bytes], object], progress: Progress | None = None) -> None:
        """Have each piece of a section stored; sections come in the order in which they were sent."""
        while self._next[0] == section:
            _, offset, data = self._next
            store(offset, data)
            self._next = self._frame()

    def end(self) -> None:
        """All was read. Raises UserError where there is more."""
        if self._next[0]:
            raise damaged(self._where, f"{self._next[0]} is not expected")
