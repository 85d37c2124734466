"""9P messages on the wire: little-endian numbers, strings with a length of two bytes; sizes, types and constants."""

from __future__ import annotations

import struct

HEADER = struct.Struct("<IBH")
"""Size of the whole message, type, tag."""
LEAST_MSIZE, MOST_MSIZE = 4096, 512 << 10
VERSION = b"9P2000.L"
LERROR = 7
T_READ, T_WRITE = 116, 118
READ_DATA_AT, WRITE_DATA_AT = HEADER.size + 4, HEADER.size + 16
"""Where the data of Rread and Twrite begin."""

QID = struct.Struct("<BIQ")
QID_DIR, QID_LINK, QID_FILE = 0x80, 0x02, 0x00
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = (1 << bit for bit in range(6))
SET_ATIME_TO, SET_MTIME_TO = 1 << 7, 1 << 8
ATTRIBUTES = struct.Struct("<Q13sIIIQQQQQQQQQQQQQQQ")
BASIC = 0x7FF
"""The attributes of Rgetattr that are told: all but the time of birth, generation and data version."""
STATFS = struct.Struct("<IIQQQQQQI")
MAGIC = 0x0102_1997
REMOVE_DIRECTORY = 0x200
UNLOCKED = 2

# Flags of Tlopen and Tlcreate; the protocol fixes what Linux on x86 has.
ACCESS, EXCLUSIVE, TRUNCATE, APPEND, DATA_SYNC, SYNC = 3, 0o200, 0o1000, 0o2000, 0o10000, 0o4000000


class Malformed(Exception):
    """A message ends before its fields do, or has more than they need."""


class Reader:
    """Takes the fields of a message's body, one after another. Raises Malformed."""

    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Numbers, as struct names them."""
        size = struct.calcsize("<" + layout)
        if self._at + size > len(self._body):
            raise Malformed
        values = struct.unpack_from("<" + layout, self._body, self._at)
        self._at += size
        return values

    def number(self, layout: str = "I") -> int:
        """One number."""
        return self.take(layout)[0]

    def text(self) -> bytes:
        """A string."""
        length = self.number("H")
        if length > self.left:
            raise Malformed
        self._at += length
        return self._body[self._at - length : self._at]

    @property
    def left(self) -> int:
        """Bytes that were not taken."""
        return len(self._body) - self._at


def packed_text(text: bytes) -> bytes:
    """A string as it is sent."""
    return struct.pack("<H", len(text)) + text
