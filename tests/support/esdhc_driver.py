"""A driver of the eSDHC and the card in its slot, which waits for nothing: what it asks for is done at once."""

import struct

BASE = 0x2E000
DSADDR, BLKATTR, CMDARG, XFERTYP, CMDRSP = 0x00, 0x04, 0x08, 0x0C, 0x10
DATPORT, PRSSTAT, PROCTL, SYSCTL = 0x20, 0x24, 0x28, 0x2C
IRQSTAT, IRQSTATEN, IRQSIGEN, AUTOC12ERR = 0x30, 0x34, 0x38, 0x3C
FEVT, ADMAES, ADSADDR, HOSTVER = 0x50, 0x54, 0x58, 0xFC
DMA, COUNTED, AUTO12, READ, MULTIPLE, DATA = 1, 2, 4, 1 << 4, 1 << 5, 1 << 21
NONE, LONG, SHORT, BUSY = (kind << 16 for kind in range(4))
CC, TC, DINT, BWR, BRR = 1, 2, 8, 0x10, 0x20
CTOE, DTOE, DCE, AC12E, ADMAE, DMAE = 1 << 16, 1 << 20, 1 << 21, 1 << 24, 1 << 25, 1 << 28
BREN, BWEN, CINS, WPSPL, DAT0 = 1 << 11, 1 << 10, 1 << 16, 1 << 19, 1 << 24
TABLE, BUFFER = 0x10_0000, 0x20_0000


class Driver:
    """A driver, with the interrupts it has seen."""

    def __init__(self, bench, identify=True):
        self.bench = bench
        self.device = bench.device("esdhc")
        self.write(SYSCTL, 1 << 24)
        self.write(IRQSTATEN, 0x137F_013F)
        if identify:
            self.command(0, 0, NONE)
            self.command(8, 0x1AA)
            self.command(55, 0)
            self.command(41, 0x4030_0000)
            self.command(2, 0, LONG)
            self.address = self.command(3, 0) & 0xFFFF_0000
            self.command(7, self.address, BUSY)

    def read(self, offset):
        return self.bench.read(BASE + offset)

    def write(self, offset, value):
        self.bench.write(BASE + offset, value)

    def send(self, index, argument, flags=SHORT):
        """A command; the interrupts that come of it."""
        self.write(IRQSTAT, 0xFFFF_FFFF)
        self.write(CMDARG, argument)
        self.write(XFERTYP, index << 24 | flags)
        return self.read(IRQSTAT)

    def command(self, index, argument, flags=SHORT):
        """A command that is answered; its answer."""
        assert self.send(index, argument, flags) & CC
        return self.read(CMDRSP)

    def table(self, *pieces, at=TABLE):
        """An ADMA2 table of addresses and lengths."""
        for n, (address, length) in enumerate(pieces):
            last = 2 if n == len(pieces) - 1 else 0
            self.descriptor(at + 8 * n, 0x21 | last, length, address)
        self.write(PROCTL, 0x220)
        self.write(ADSADDR, at)

    def descriptor(self, at, flags, length, address):
        self.bench.space.write_bytes(at, struct.pack("<HHI", flags, length & 0xFFFF, address))

    def blocks(self, index, block, count, flags, size=512):
        """A command with data; the interrupts that come of it."""
        self.write(BLKATTR, count << 16 | size)
        return self.send(index, block, DATA | SHORT | flags)

    def memory(self, address, length):
        return self.bench.space.read_bytes(address, length)
