"""A 9P2000.L client for the server, which talks to it as v9fs does."""

import struct


class Refused(Exception):
    """Rlerror."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<H", len(value)) + value


class Client:
    """Messages as calls; fid 0 is the root, others are given out from 1."""

    def __init__(self, server, msize=65536):
        self.server, self.next = server, 0
        self.reply = bytearray(msize)
        assert self.call(100, struct.pack("<I", msize) + text("9P2000.L"))[:4] == struct.pack("<I", msize)
        self.call(104, struct.pack("<II", 0, 0xFFFF_FFFF) + text("root") + text("") + struct.pack("<I", 0))

    def raw(self, message):
        """A message as it is, cut in two pieces; answers type and body."""
        cut = len(message) // 2
        pieces = [memoryview(message)[:cut], memoryview(message)[cut:]]
        reply = memoryview(self.reply)
        length = self.server.answer(pieces, [reply[:5], reply[5:]])
        size, kind, tag = struct.unpack_from("<IBH", self.reply)
        assert size == length and tag == 7
        return kind, bytes(self.reply[7:length])

    def call(self, kind, body):
        answer, data = self.raw(struct.pack("<IBH", 7 + len(body), kind, 7) + body)
        if answer == 7:
            raise Refused(struct.unpack("<I", data)[0])
        assert answer == kind + 1
        return data

    def walk(self, *names, start=0):
        """A new fid at the end of `names`."""
        self.next += 1
        body = struct.pack("<IIH", start, self.next, len(names)) + b"".join(map(text, names))
        (count,) = struct.unpack_from("<H", self.call(110, body))
        if count < len(names):
            raise Refused(2)
        return self.next

    def open(self, fid, flags=0):
        self.call(12, struct.pack("<II", fid, flags))
        return fid

    def create(self, name, parent=0, flags=2, mode=0o644):
        fid = self.walk(start=parent)
        self.call(14, struct.pack("<I", fid) + text(name) + struct.pack("<III", flags, mode, 0))
        return fid

    def read(self, fid, offset=0, count=60000):
        data = self.call(116, struct.pack("<IQI", fid, offset, count))
        assert len(data) == 4 + struct.unpack_from("<I", data)[0]
        return data[4:]

    def write(self, fid, data, offset=0):
        return struct.unpack("<I", self.call(118, struct.pack("<IQI", fid, offset, len(data)) + data))[0]

    def list(self, *names, count=8000):
        """Names and types in a directory, read in pieces of `count` bytes."""
        fid, offset, found = self.open(self.walk(*names)), 0, {}
        while True:
            data = self.call(40, struct.pack("<IQI", fid, offset, count))[4:]
            if not data:
                self.clunk(fid)
                return found
            while data:
                _, _, _, offset, kind, length = struct.unpack_from("<BIQQBH", data)
                found[data[24 : 24 + length].decode()] = kind
                data = data[24 + length :]

    def attributes(self, fid):
        """(mode, uid, gid, links, size)."""
        values = struct.unpack("<QBIQIIIQQQQQQQQQQQQQQQ", self.call(24, struct.pack("<IQ", fid, 0x7FF)))
        return *values[4:8], values[9]

    def set(self, fid, valid, mode=0, size=0, mtime=(0, 0)):
        self.call(26, struct.pack("<IIIIIQQQQQ", fid, valid, mode, 0, 0, size, 0, 0, *mtime))

    def clunk(self, fid):
        self.call(120, struct.pack("<I", fid))
