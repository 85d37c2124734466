"""A guest that does to a device whatever no driver would: registers, configuration, rings and requests at random."""

from __future__ import annotations

import random
import struct
from typing import Any

from tests.support import esdhc_driver, etsec_driver, flash_driver, i2c_master
from tests.support.ninep_client import text
from tests.support.virtio_driver import NEXT, PACKED, RINGS, TABLE, VERSION_1, WRITE, Driver

ODD = (0, 1, 2, 0xF, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_F000)
CCSR = 0xF_E000_0000
NAMES = ("", ".", "..", "out", "secret", "../secret", "/etc/passwd", "file", "directory", "a\0b", "x" * 300)
LEGACY_REGISTERS = (4, 4), (8, 4), (0xE, 2), (0x10, 2), (0x12, 1), (0x14, 2), (0x16, 2), (0x18, 1)
COMMON_REGISTERS = (
    (0, 4), (8, 4), (0xC, 4), (0x10, 2), (0x14, 1), (0x14, 1), (0x16, 2), (0x18, 2), (0x1A, 2), (0x1C, 2), (0x20, 4),
    (0x24, 4), (0x28, 4), (0x2C, 4), (0x30, 4), (0x34, 4),
)  # fmt: skip
"""Offsets and sizes."""
ETSEC_BUSY = (
    etsec_driver.DMACTRL, etsec_driver.TSTAT, etsec_driver.RSTAT, etsec_driver.TBASE, etsec_driver.RBASE,
    etsec_driver.TBPTR, etsec_driver.RBPTR, etsec_driver.MRBLR, etsec_driver.RCTRL, etsec_driver.TCTRL,
    etsec_driver.MACCFG1, etsec_driver.MACCFG2, etsec_driver.TQUEUE, etsec_driver.RQUEUE, etsec_driver.RQFAR,
    etsec_driver.RQFCR, etsec_driver.RQFPR, etsec_driver.ECNTRL, etsec_driver.IMASK,
)  # fmt: skip
E1000_RINGS = 0x2800, 0x3800
E1000_BUSY = (
    0x00, 0x10, 0x14, 0x20, 0xC4, 0xC8, 0xD0, 0xD8, 0x100, 0x400, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x3800,
    0x3804, 0x3808, 0x3810, 0x3818, 0x5200, 0x5400, 0x5404, 0x5600,
)  # fmt: skip


OFF_PCI = {
    "eTSEC": "etsec_rings",
    "sd-card": "sd_commands",
    "cfi.pflash01": "flash_commands",
    "at24c-eeprom": "eeprom_transfers",
}
"""How what is not on PCI is attacked."""


class Hostile:
    """Attacks `card`, wherever it is plugged into a board of tests/devices/conftest.py; alike for the same `seed`."""

    def __init__(self, bench: Any, card: Any, furniture: Any, seed: int) -> None:
        self.bench, self.card, self.furniture = bench, card, furniture
        functions = bench.built.devices["pci"].bus.functions
        self.slot = next((place[0] for place, function in functions.items() if function is card), None)
        self.virtio = getattr(self.card, "virtio", None)
        self.rng = random.Random(seed)
        self.ram = bench.space.ram
        self.told = 0
        self.done: dict[str, int] = {}
        self.windows = [window for window in bench.space.windows if window.size <= 1 << 20]

    def attack(self, steps: int) -> None:
        """So many attacks; what the host's side was given is forgotten, so that memory stays bounded."""
        kinds = [self.board, self.host]
        if self.slot is None:
            kinds += [getattr(self, OFF_PCI[self.card.model])]
        else:
            kinds += [self.configuration, self.bars, self.messages]
            kinds += [self.rings, self.requests, self.moving] if self.virtio else [self.e1000_rings]
        for _ in range(steps):
            kind = self.rng.choice(kinds)
            self.done[kind.__name__] = self.done.get(kind.__name__, 0) + 1
            kind()
            self.bench.irqchip.stores.clear()
            self.bench.events.clear()
            self.furniture.wire.sent.clear()
            for line in self.furniture.lines.values():
                line.sent = b""

    def number(self, bits: int = 32) -> int:
        rng = self.rng
        chosen = rng.choice((*ODD, rng.getrandbits(32), 1 << rng.randrange(64), self.address(), rng.getrandbits(64)))
        return chosen & (1 << bits) - 1

    def address(self) -> int:
        """Mostly in RAM, also around its end, in devices, and nowhere."""
        rng, end = self.rng, len(self.ram)
        return rng.choice(
            (rng.randrange(end), rng.randrange(end) & ~0xFFF, RINGS + 16 * rng.randrange(64), end - rng.randrange(9),
             CCSR + rng.randrange(0x10_0000), rng.getrandbits(64))
        )  # fmt: skip

    # -- registers

    def board(self) -> None:
        """The board's own devices, the bridge in front of the card included."""
        for _ in range(50):
            window, size = self.rng.choice(self.windows), self.rng.choice((1, 2, 4, 8))
            pa = (
                window.base
                + self.rng.choice((0x40, window.size)) % (window.size + 1) * self.rng.random() // size * size
            )
            self.access(int(pa), size)

    def access(self, pa: int, size: int) -> None:
        if self.rng.random() < 0.5:
            self.bench.space.write(pa, size, self.number(8 * size))
        else:
            assert 0 <= self.bench.space.read(pa, size) < 1 << 8 * size

    def configuration(self) -> None:
        for _ in range(20):
            size = self.rng.choice((1, 2, 4))
            self.card.config_write(self.rng.randrange(0, 256, size), size, self.number(8 * size))
            assert 0 <= self.card.config_read(self.rng.randrange(0, 256, size), size) < 1 << 8 * size

    def bars(self) -> None:
        for _ in range(50):
            bar, size = self.rng.choice(list(self.card.bars)), self.rng.choice((1, 2, 4))
            length = self.card.bars[bar].size
            offset = self.rng.randrange(self.rng.choice((min(length, 0x40), length)))
            offset -= offset % size
            if self.rng.random() < 0.7:
                self.card.bar_write(bar, offset, size, self.number(8 * size))
            else:
                assert 0 <= self.card.bar_read(bar, offset, size) < 1 << 8 * size

    def messages(self) -> None:
        """MSI-X to anywhere, unmasked or not, pending or not."""
        msix = self.card.msix
        if msix is None:
            return
        for vector in range(msix.vectors):
            for word in range(4):
                value = self.number() if word < 3 else self.rng.getrandbits(1)
                self.card.bar_write(msix.bar, 16 * vector + 4 * word, 4, value)
        self.card.config_write(msix.offset + 2, 2, self.rng.choice((0, 0x4000, 0x8000, 0xC000)))
        for vector in range(3):
            msix.notify(vector)

    # -- the host's side meanwhile

    def host(self) -> None:
        rng, furniture = self.rng, self.furniture
        furniture.wire.full = rng.random() < 0.2
        if furniture.wire.nic:
            furniture.wire.nic.sendable()
            furniture.wire.pull(rng.random() < 0.8)
            furniture.wire.deliver(*(rng.randbytes(rng.choice((1, 14, 60, 1514, 9000))) for _ in range(3)))
        for line in furniture.lines.values():
            line.connected, line.free = rng.random() < 0.7, rng.choice((0, 5, 1 << 20))
            if line.on_receive:
                line.type(rng.randbytes(rng.choice((0, 1, 100))))
            if line.on_connected:
                line.on_connected(line.connected)
            if line.on_room:
                line.on_room()
        if balloon := getattr(self.card, "balloon", None):
            balloon.target = rng.randrange(1, len(self.ram) + 1)
        self.bench.clock.advance(rng.randrange(10_000_000))

    # -- virtio

    def driver(self) -> Driver:
        """The card as after its reset, in a place of its own."""
        return Driver(self.bench, self.slot, legacy=self.rng.random() < 0.3)

    def started(self) -> list[Any]:
        """All queues running, with features and sizes at random."""
        driver, rng = self.driver(), self.rng
        driver.status(0)
        features = driver.offered() & rng.choice(((1 << 64) - 1, rng.getrandbits(64)))
        features |= 0 if driver.legacy else VERSION_1
        count = len(self.virtio.queues)
        size = rng.choice((1, 8, 8, 8)) if not driver.legacy else 8
        if rng.random() < 0.5:
            features &= ~PACKED
        rings = driver.start(features, size=size, queues=count)
        return rings if count > 1 else [rings]

    def rings(self) -> None:
        """Rings full of noise that looks like rings, in use meanwhile."""
        rng = self.rng
        rings = self.started()
        for _ in range(4):
            for ring in rings:
                for at in range(ring.size):
                    flags = rng.choice((0, NEXT, WRITE, NEXT | WRITE, TABLE, rng.getrandbits(16)))
                    length = rng.choice((0, 1, 16, 100, 4096, len(self.ram), self.number()))
                    last = rng.choice((at, rng.randrange(ring.size), rng.getrandbits(16)))
                    if isinstance(flags, int) and ring.features & PACKED:
                        fields = last, flags | rng.choice((0x80, 0x8000, 0x8080))
                    else:
                        fields = flags, last
                    ring.pack(ring.table + 16 * at, "QIHH", self.address(), length, *fields)
                ring.pack(
                    ring.driver_area, "HH", rng.choice((0, 1, self.number(16))), rng.choice((1, 7, self.number(16)))
                )
                for n in range(ring.size if not ring.features & PACKED else 0):
                    ring.pack(ring.driver_area + 4 + 2 * n, "H", rng.choice((n, rng.randrange(ring.size), 0xFFFF)))
                if rng.random() < 0.3:
                    ring.ram[ring.device_area : ring.device_area + 8] = rng.randbytes(8)
                ring.driver.notify(ring.index)
            rings[0].driver.notify(rng.randrange(0x400))

    def requests(self) -> None:
        """Chains as they should be, with contents that should not."""
        rng = self.rng
        rings = self.started()
        self.told = 0
        for _ in range(30):
            ring = rng.choice(rings)
            ring._buffer = 0x20_0000 + 0x10_0000 * ring.index
            contents = sorted(self.contents(ring), key=lambda one: isinstance(one, int))[: max(1, ring.size)]
            if rng.random() < 0.1:
                contents = contents[::-1]
            ring.add(*contents)
            ring.driver.notify(ring.index)
            if rng.random() < 0.2:
                self.host()

    def contents(self, ring: Any) -> list[bytes | int]:
        rng, order = self.rng, ring.order
        room = rng.choice((1, 11, 512, 4096, 70_000))
        kind = self.card.model
        if kind == "virtio-blk-pci":
            which = rng.choice((0, 1, 4, 8, 11, 13, rng.getrandbits(32)))
            header = struct.pack(order + "IIQ", which, 0, rng.choice((rng.randrange(130), self.number(64))))
            ranges = struct.pack(order + "QII", self.number(64), self.number(), rng.choice((0, 1, 2)))
            return [header, rng.choice((ranges, rng.randbytes(512), b"x" * room)), room, 1]
        if kind == "virtio-9p-pci":
            return [self.ninep(), 8200]
        if kind == "virtio-net-pci" and ring.index == 2:
            command = bytes((rng.choice((0, 0, 1, 2, 4, 255)), rng.randrange(7)))
            return [command, rng.randbytes(rng.choice((1, 1, 2, 6, 64))), 1]
        if kind == "virtio-net-pci" and ring.index == 0 and rng.random() < 0.9:
            return [rng.choice((10, 12, 60, 1526, 70_000)) for _ in range(rng.choice((1, 1, 2)))]
        if kind == "virtio-balloon-pci":
            frames = [rng.choice((rng.randrange(1 << 14), self.number())) for _ in range(rng.choice((1, 30, 256)))]
            return [struct.pack(f"{order}{len(frames)}I", *frames)]
        if kind == "virtio-serial-pci" and ring.index in (2, 3):
            event = struct.pack(order + "IHH", rng.choice((0, 1, self.number())), rng.randrange(9), rng.randrange(2))
            return [rng.choice((event, event[:5], event + b"name"))] if ring.index == 3 else [room]
        frame = rng.choice((bytes(12), rng.randbytes(12))) + rng.randbytes(rng.choice((0, 60, 1514, 66_000)))
        if kind in ("virtio-net-pci", "virtio-serial-pci") and rng.random() < 0.95:  # what is written or read, not both
            return [frame] if ring.index % 2 else [room]
        return [frame, room]

    def ninep(self) -> bytes:
        """A message of 9P that may make sense."""
        rng = self.rng
        version = struct.pack("<I", rng.choice((8192, self.number()))) + text("9P2000.L")
        attach = struct.pack("<II", 0, 0xFFFF_FFFF) + text("u") + text(rng.choice(("", *NAMES))) + struct.pack("<I", 0)
        pieces = {
            "fid": lambda: struct.pack("<I", rng.choice((0, 0, 1, 1, 2, 3, self.number()))),
            "name": lambda: text(rng.choice(NAMES)),
            "count": lambda: struct.pack("<I", rng.choice((0, 1, 4096, self.number()))),
            "offset": lambda: struct.pack("<Q", rng.choice((0, 1, rng.randrange(1 << 20)))),
            "short": lambda: struct.pack("<H", rng.choice((0, 1, 1, 2, 3, self.number(16)))),
        }
        shapes = {
            100: None, 104: None, 110: "fid fid short name name name", 12: "fid count",
            14: "fid name count count count",
            16: "fid name name count", 18: "fid name count count count count", 20: "fid fid name", 22: "fid",
            24: "fid offset", 26: "fid count count count count offset offset offset offset offset",
            40: "fid offset count", 50: "fid count", 52: "fid", 70: "fid fid name", 72: "fid name count count",
            74: "fid name fid name", 76: "fid name count", 116: "fid offset count", 118: "fid offset count name",
            120: "fid", 122: "fid", 108: "short",
        }  # fmt: skip
        self.told += 1
        usual = {1: 100, 2: 104}.get(self.told)  # what a client says first
        kind = usual or rng.choice((*shapes, 110, 110, 110, 12, rng.getrandbits(8)))
        shape = shapes.get(kind, "fid name")
        body = {100: version, 104: attach}.get(kind) or b"".join(pieces[one]() for one in (shape or "").split())
        size = 7 + len(body) if rng.random() < 0.9 else self.number()
        return struct.pack("<IBH", size, kind, 7) + body

    def moving(self) -> None:
        """Queues that are moved, resized, enabled and notified in any state and order."""
        rng, driver = self.rng, self.driver()
        if rng.random() < 0.5:
            driver = self.started()[0].driver
        for _ in range(60):
            queue = rng.choice((0, 0, 1, 2, self.number(16)))
            offset, size = rng.choice(LEGACY_REGISTERS if driver.legacy else COMMON_REGISTERS)
            value = rng.choice((self.number(), rng.randrange(16), queue, RINGS, RINGS >> 12)) & (1 << 8 * size) - 1
            (driver.io if driver.legacy else driver.common)(offset, size, value)
            driver.notify(rng.choice((0, 1, queue & 0x3FF)))
            if rng.random() < 0.1:
                self.host()

    # -- network cards

    def e1000_rings(self) -> None:
        """Rings of descriptors anywhere with anything in them, in use."""
        rng = self.rng
        driver = self.driver()
        driver.guest.inbound(0xDE0, 0, 0, 26)
        length = rng.choice((0x40, 0x600, 0x1_0000))
        self.ram[RINGS : RINGS + 0x2000] = b"".join(
            struct.pack("<QII", self.address(), rng.choice((self.number(), one)), self.number())
            for one in (rng.randrange(length) | rng.getrandbits(12) << 20 for _ in range(0x200))
        )
        usual = [(ring + at, value) for ring in E1000_RINGS for at, value in ((0, RINGS), (4, 0), (8, 0x1000), (16, 0))]
        for offset, value in [*usual, (0x100, 0x1_800E), (0x400, 0xA), (0x2818, 0x80), (0x3818, rng.randrange(0x100))]:
            if rng.random() < 0.95:
                self.card.bar_write(0, offset, 4, value)
        self.host()
        for _ in range(60):
            offset = rng.choice(E1000_BUSY)
            phy = 1 << 21 | rng.getrandbits(5) << 16 | rng.choice((1, 2)) << 26 | rng.getrandbits(16)
            self.card.bar_write(
                0, offset, 4, rng.choice((self.number(), RINGS, 0x1000, rng.randrange(32), 0x1_800A, phy))
            )
            if rng.random() < 0.1:
                self.host()

    def etsec_rings(self) -> None:
        """The same, after a start as drivers make it, with every register written meanwhile."""
        rng = self.rng
        driver = etsec_driver.Driver(self.bench, self.furniture.wire)
        driver.start(
            ring=rng.randrange(8), mac2=rng.choice((0x7205, self.number())), rctl=self.number(), tctrl=self.number()
        )
        for at in range(etsec_driver.RINGS, etsec_driver.RINGS + 0x1100, 8):
            status = rng.choice((etsec_driver.READY, etsec_driver.READY | etsec_driver.LAST, self.number(16)))
            driver.put(at, status, rng.choice((60, 1514, self.number(16))), self.address() & 0xFFFF_FFFF)
        self.host()
        for _ in range(60):
            offset = rng.choice((*ETSEC_BUSY, rng.randrange(0, 0x1000, 4)))
            driver.reg(
                offset, rng.choice((self.number(), etsec_driver.RINGS, etsec_driver.RINGS + 0x1000, 0x8000_0000))
            )
            assert 0 <= driver.reg(rng.randrange(0, 0x1000, 4)) < 1 << 32
            if rng.random() < 0.1:
                self.host()

    # -- storage of the board

    def sd_commands(self) -> None:
        """Commands and the registers that go with them in any order, with tables of descriptors that are noise."""
        rng, reg = self.rng, esdhc_driver
        if rng.random() < 0.2:
            self.ram[reg.TABLE : reg.TABLE + 4096] = rng.randbytes(4096)
        for _ in range(60):
            offset = rng.choice(
                (reg.DSADDR, reg.BLKATTR, reg.CMDARG, reg.XFERTYP, reg.DATPORT, reg.PROCTL, reg.SYSCTL, reg.IRQSTAT,
                 reg.IRQSTATEN, reg.ADSADDR, reg.FEVT)
            )  # fmt: skip
            value = rng.choice((self.number(), 0x0002_0200, reg.TABLE, reg.BUFFER, 0x1_0000))
            if offset == reg.XFERTYP:
                index = rng.choice((6, 7, 12, 13, 17, 18, 23, 24, 25, 32, 33, 38, 51, 55, rng.randrange(64)))
                value = value & 0x003F_00FF | index << 24
            self.bench.write(reg.BASE + offset, value)
            self.bench.read(reg.BASE + rng.choice((reg.DATPORT, reg.PRSSTAT, reg.CMDRSP, reg.IRQSTAT)))

    def flash_commands(self) -> None:
        """Commands of every kind, in any order, everywhere."""
        rng, space = self.rng, self.bench.space
        for _ in range(60):
            size = rng.choice((1, 2, 2, 4, 4, 8))
            pa = flash_driver.BASE + rng.choice((rng.randrange(64), rng.randrange(0x1_0000))) // size * size
            command = rng.choice((0x20, 0xD0, 0x40, 0xE8, 0x60, 0x70, 0x90, 0x98, 0xFF, rng.getrandbits(16)))
            value = rng.choice((command, command << 16 | command, rng.getrandbits(64), rng.randrange(4)))
            space.write(pa, size, value & (1 << 8 * size) - 1)
            assert 0 <= space.read(pa, size) < 1 << 8 * size

    def eeprom_transfers(self) -> None:
        """Transfers that begin, turn round and end wherever they like."""
        rng = self.rng
        for _ in range(60):
            which = rng.choice((i2c_master.CR, i2c_master.SR, i2c_master.DR))
            value = rng.choice((0xA0, 0xA1, 0x80, 0xB0, 0xA4, 0x90, rng.getrandbits(8)))
            self.bench.write(which, value, 1)
            assert 0 <= self.bench.read(rng.choice((i2c_master.SR, i2c_master.DR)), 1) < 256
