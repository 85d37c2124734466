"""Drives an eTSEC by its registers and rings, as gianfar does."""

from __future__ import annotations

import random
import struct
from binascii import crc32

from powervisor.devices.ethernet import checksum_total as total
from tests.support.wire import Wire

BASE = 0xF_0000_0000
IEVENT, IMASK, EDIS, ECNTRL, DMACTRL, TBIPA = 0x10, 0x14, 0x18, 0x20, 0x2C, 0x30
TCTRL, TSTAT, DFVLAN, TQUEUE, TBPTR, TBASE = 0x100, 0x104, 0x108, 0x114, 0x184, 0x204
RCTRL, RSTAT, RQUEUE, RQFAR, RQFCR, RQFPR, MRBLR, RBPTR, RBASE = (
    0x300, 0x304, 0x314, 0x334, 0x338, 0x33C, 0x340, 0x384, 0x404
)  # fmt: skip
MACCFG1, MACCFG2, MAXFRM, MIIMCOM, MIIMADD, MIIMCON, MIIMSTAT = 0x500, 0x504, 0x510, 0x524, 0x528, 0x52C, 0x530
MACADDR, RMON, CAR1, CAM1, IGADDR, GADDR = 0x540, 0x680, 0x730, 0x738, 0x800, 0x880
BSY, EBERR, MSRO, GTSC, BABT, TXE, TXB, TXF, XFUN, BABR, GRSC, RXF, RXB = (
    1 << bit for bit in (29, 28, 26, 25, 24, 22, 21, 20, 16, 31, 8, 7, 15)
)
READY = EMPTY = 0x8000
PAD, WRAP, INTERRUPT, LAST, FIRST, OFFLOAD = 0x4000, 0x2000, 0x1000, 0x0800, 0x0400, 0x0002
PROMISCUOUS, EXACT, EXTENDED, CHECKSUMS, FILER, VLAN = 8, 2, 0x400, 0x3C0, 0x1000, 0x2000
MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")
RINGS, BUFFERS, COUNT, ROOM = 0x10_0000, 0x20_0000, 16, 1536
TX_BUFFERS = BUFFERS + 0x10_0000
TX, RX, ERROR = 5, 6, 7
"""Interrupt sources."""
RNG = random.Random(5)
FRAMES = [MAC + OTHER + b"\x08\x06" + RNG.randbytes(46 + 97 * n) for n in range(12)]
BROADCAST = b"\xff" * 6
GROUP = bytes.fromhex("01005e000102")


def with_crc(frame: bytes) -> bytes:
    """As it passes the wire."""
    return frame.ljust(60, b"\0") + crc32(frame.ljust(60, b"\0")).to_bytes(4, "little")


def address_words(address: bytes) -> tuple[int, int]:
    """What goes into MACSTNADDR1 and MACSTNADDR2."""
    return int.from_bytes(address[2:], "little"), int.from_bytes(address[:2], "little") << 16


class Driver:
    """An eTSEC on a board, with a wire in front."""

    def __init__(self, bench, wire: Wire) -> None:
        self.bench, self.wire, self.ram = bench, wire, bench.space.ram
        self.mac = wire.nic

    def reg(self, offset, value=None):
        if value is None:
            return self.bench.space.read(BASE + offset, 4)
        self.bench.space.write(BASE + offset, 4, value)
        return None

    @property
    def pins(self):
        """Which interrupts are asserted."""
        return {source for source, line in self.bench.irqchip.lines.items() if line.level}

    def events(self):
        """IEVENT, cleared afterwards."""
        found = self.reg(IEVENT)
        self.reg(IEVENT, found)
        return found

    def start(self, rctl=0, mac2=0x7205, tctrl=0, ring=0, count=COUNT):
        self.ring, self.count = ring, count
        self.reg(MACCFG1, 1 << 31)
        self.reg(MACCFG1, 0)
        self.reg(MACCFG2, mac2)
        self.reg(MAXFRM, 9600)
        self.reg(MRBLR, ROOM)
        self.reg(RCTRL, rctl)
        self.reg(TCTRL, tctrl)
        for offset, value in zip((0, 4), address_words(MAC), strict=True):
            self.reg(MACADDR + offset, value)
        self.reg(IEVENT, 0xFFFF_FFFF)
        self.reg(TBASE + 8 * ring, RINGS)
        self.reg(RBASE + 8 * ring, RINGS + 0x1000)
        for n in range(count):
            last = WRAP if n == count - 1 else 0
            self.put(RINGS + 8 * n, last, 0, 0)
            self.put(RINGS + 0x1000 + 8 * n, last | EMPTY | INTERRUPT, 0, BUFFERS + 0x1000 * n)
        self.head = self.tail = 0
        self.reg(ECNTRL, 0x1000)
        self.reg(RQUEUE, 0x0080_0080 >> ring)
        self.reg(TQUEUE, 0x8000 >> ring)
        self.reg(DMACTRL, 0xC3)
        self.reg(TSTAT, 0x8000_0000 >> ring)
        self.reg(RSTAT, 0x0080_0000 >> ring)
        self.reg(MACCFG1, 5)
        self.reg(IMASK, 0xFFFF_FFFF)
        self.events()
        return self

    # -- descriptors

    def put(self, at, status, length, buffer):
        self.ram[at : at + 8] = struct.pack(">HHI", status, length, buffer)

    def get(self, at):
        return struct.unpack(">HHI", self.ram[at : at + 8])

    def queue(self, data, status):
        """Put a piece of a frame into the next transmit descriptor; where that is."""
        at, buffer = RINGS + 8 * self.tail, TX_BUFFERS + 0x4000 * self.tail
        self.ram[buffer : buffer + len(data)] = data
        self.put(at, self.get(at)[0] & WRAP | status, len(data), buffer)
        self.tail = (self.tail + 1) % self.count
        return at

    def go(self):
        """Ring the bell; what was sent."""
        self.reg(TSTAT, 0x8000_0000 >> self.ring)
        return self.wire.take()

    def send(self, frame, status=0):
        at = self.queue(frame, READY | LAST | INTERRUPT | status)
        sent = self.go()
        assert not self.get(at)[0] & READY
        return sent

    def received(self):
        """(data, status of the last descriptor) of each frame, check sequences included."""
        found, parts = [], b""
        while True:
            at = RINGS + 0x1000 + 8 * self.head
            status, length, buffer = self.get(at)
            if status & EMPTY:
                return found
            assert bool(status & FIRST) == (not parts)
            size = length - len(parts) if status & LAST else length
            parts += self.ram[buffer : buffer + size]
            self.put(at, status & WRAP | EMPTY | INTERRUPT, 0, buffer)
            self.head = (self.head + 1) % self.count
            if status & LAST:
                found.append((parts, status & 0x07FF))
                parts = b""

    def deliver(self, *frames):
        """Frames arrive, and all are taken; those that were received."""
        assert self.wire.deliver(*frames) == len(frames)
        return [data for data, _ in self.received()]


# -- packets

TCP_HEADER = struct.pack(">2H2I4H", 1, 2, 1000, 5, 0x5019, 100, 0, 0)
UDP_HEADER = struct.pack(">4H", 7, 8, 8 + 333, 0)


def ipv4(data, protocol, fragment=0):
    addresses = b"\x0a\0\0\2\x0a\0\0\1"
    header = struct.pack(">2B3H2BH8s", 0x45, 0, 20 + len(data), 7, fragment, 64, protocol, 0, addresses)
    header = header[:10] + (0xFFFF - total(header)).to_bytes(2, "big") + header[12:]
    return MAC + OTHER + b"\x08\x00" + header + data


def ipv6(data, protocol):
    return MAC + OTHER + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(data), protocol, 64) + RNG.randbytes(32) + data


def pseudo(frame):
    v6 = frame[12] == 0x86
    words = frame[22:54] if v6 else frame[26:34]
    start = 54 if v6 else 34
    return total(words + struct.pack(">HH", frame[20 if v6 else 23], len(frame) - start))


def summed(frame):
    """With the right checksum of TCP or UDP, as others would make it."""
    start = 54 if frame[12] == 0x86 else 34
    place = start + (16 if frame[20 if start == 54 else 23] == 6 else 6)
    blank = frame[:place] + b"\0\0" + frame[place + 2 :]
    value = 0xFFFF - (total(blank[start:]) + pseudo(blank)) % 0xFFFF
    return frame[:place] + value.to_bytes(2, "big") + frame[place + 2 :]


DATA = RNG.randbytes(333)
PACKETS = {
    "tcp": ipv4(TCP_HEADER + DATA, 6),
    "udp": ipv4(UDP_HEADER + DATA, 17),
    "tcp6": ipv6(TCP_HEADER + DATA, 6),
    "udp6": ipv6(UDP_HEADER + DATA, 17),
}
