"""Packets of gdb's remote serial protocol: `$data#checksum`, acknowledged with + or - until both agree not to."""

from __future__ import annotations

from collections.abc import Iterator

INTERRUPT = b"\x03"
LONGEST = 0x4000
"""Bytes of the longest packet we take, as `qSupported` tells gdb."""
_SPECIAL = b"#$}*"


def escaped(data: bytes) -> bytes:
    """Binary data as it goes into a packet."""
    out = bytearray()
    for byte in data:
        out += bytes((0x7D, byte ^ 0x20)) if byte in _SPECIAL else bytes((byte,))
    return bytes(out)


def unescaped(data: bytes) -> bytes:
    """Binary data of a packet."""
    out, at = bytearray(), 0
    while at < len(data):
        if data[at] == 0x7D and at + 1 < len(data):
            at += 1
            out.append(data[at] ^ 0x20)
        else:
            out.append(data[at])
        at += 1
    return bytes(out)


def framed(data: bytes) -> bytes:
    """A packet with these contents, which are escaped already."""
    return b"$" + data + b"#%02x" % (sum(data) & 0xFF)


class Framer:
    """Takes bytes as they come; `acknowledge` says whether packets are answered with + and -."""

    def __init__(self) -> None:
        self.acknowledge = True
        self.replies = bytearray()
        """Acknowledgements to be sent."""
        self._buffer = bytearray()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Packets' contents, INTERRUPT, and b"-" for a packet that gdb wants again."""
        self._buffer += data
        while self._buffer:
            first = self._buffer[0]
            if first == 0x24:
                end = self._buffer.find(b"#")
                if end < 0 or len(self._buffer) < end + 3:
                    if len(self._buffer) > 2 * LONGEST:  # no packet: nobody ends one
                        self._buffer.clear()
                    return
                body, checksum = bytes(self._buffer[1:end]), bytes(self._buffer[end + 1 : end + 3])
                del self._buffer[: end + 3]
                good = checksum.lower() == b"%02x" % (sum(body) & 0xFF)
                if self.acknowledge:
                    self.replies += b"+" if good else b"-"
                if good or not self.acknowledge:
                    yield body
                continue
            del self._buffer[0]
            if first == INTERRUPT[0]:
                yield INTERRUPT
            elif first == 0x2D and self.acknowledge:
                yield b"-"
