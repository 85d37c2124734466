"""The 82540EM as a driver uses it: EEPROM and PHY bit by bit, rings, checksums, segments, filters, what may not be."""

import random
import struct
from binascii import crc32

import pytest

from powervisor.devices.ethernet import checksum_total as total
from powervisor.devices.models import plug
from powervisor.devices.services import Services
from powervisor.memory.space import Dma
from tests.support.pci import IO, MEMORY, Guest
from tests.support.virtio_driver import BUS_MEMORY, Immediate
from tests.support.wire import Wire

CTRL, STATUS, EECD, EERD, MDIC, ICR, ICS, IMS, IMC, RCTL, TCTL = (
    0x00, 0x08, 0x10, 0x14, 0x20, 0xC0, 0xC8, 0xD0, 0xD8, 0x100, 0x400
)  # fmt: skip
RX, TX = 0x2800, 0x3800
RAL, RAH, MTA, VFTA = 0x5400, 0x5404, 0x5200, 0x5600
TXDW, LSC, RXO, RXT0 = 1, 4, 0x40, 0x80
MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")
RINGS, BUFFERS, COUNT = 0x10_0000, 0x20_0000, 16
RNG = random.Random(3)
FRAMES = [MAC + OTHER + b"\x08\x00" + RNG.randbytes(46 + 97 * n) for n in range(12)]
EOP, IFCS, IC, RS, DEXT, VLE = 1, 2, 4, 8, 0x20, 0x40
IXSM, TXSM = 0x100, 0x200


class Driver:
    def __init__(self, bench, wire):
        self.bench, self.wire, self.ram = bench, wire, bench.space.ram
        guest = self.guest = Guest(bench)
        guest.outbound(1, BUS_MEMORY, MEMORY, 29)
        guest.outbound(2, 0, IO, 16, io=True)
        guest.inbound(0xDE0, 0, 0, 26)
        guest.set_config(1, 0x10, BUS_MEMORY)
        guest.set_config(1, 0x14, 0x1000)
        guest.set_config(1, 4, 7, 2)
        self.card = bench.built.devices["pci"].bus.functions[1, 0]

    def _access(self, pa, value):
        if value is None:
            return int.from_bytes(self.bench.space.read(pa, 4).to_bytes(4, "little"), "big")
        self.bench.space.write(pa, 4, int.from_bytes(value.to_bytes(4, "little"), "big"))
        return None

    def reg(self, offset, value=None):
        return self._access(MEMORY + offset, value)

    def io(self, offset, value=None):
        return self._access(IO + 0x1000 + offset, value)

    @property
    def pin(self):
        return self.card.irq.level

    def eeprom(self, address):
        """A word, as drivers read it: clocking bits through the pins."""
        self.reg(EECD, 0x40)
        assert self.reg(EECD) & 0x80
        level = 0x42

        def clock(data):
            for pins in (data << 2, data << 2 | 1, data << 2):
                self.reg(EECD, level | pins)

        for bit in f"110{address:06b}":
            clock(int(bit))
        word = 0
        for _ in range(16):
            self.reg(EECD, level | 1)
            word = word << 1 | self.reg(EECD) >> 3 & 1
            self.reg(EECD, level)
        self.reg(EECD, 0)
        return word

    def phy(self, register, value=None):
        self.reg(MDIC, 1 << 21 | register << 16 | (2 << 26 if value is None else 1 << 26 | value))
        done = self.reg(MDIC)
        assert done & 0x5000_0000 == 0x1000_0000
        return done & 0xFFFF

    def start(self, rctl=0x8002, ctrl=0x40):
        self.reg(CTRL, ctrl)
        for ring, at in ((RX, RINGS), (TX, RINGS + 0x1000)):
            for offset, value in ((0, at), (4, 0), (8, 16 * COUNT), (16, 0), (24, 0)):
                self.reg(ring + offset, value)
        for n in range(COUNT):
            self.ram[RINGS + 16 * n : RINGS + 16 * n + 16] = struct.pack("<QQ", BUFFERS + 0x4000 * n, 0)
        self.head = self.tail = 0
        self.reg(IMS, 0xFF)
        self.reg(RCTL, rctl)
        self.reg(TCTL, 0x1000A)
        self.reg(RX + 24, COUNT - 1)
        return self

    def descriptor(self, first, lower, upper):
        at = RINGS + 0x1000 + 16 * self.tail
        self.ram[at : at + 16] = struct.pack("<QII", first, lower, upper)
        self.tail = (self.tail + 1) % COUNT
        return at

    def data(self, data, lower, upper=0):
        at = BUFFERS + 0x8_0000 + 0x4_000 * self.tail * 4
        self.ram[at : at + len(data)] = data
        return self.descriptor(at, len(data) | lower, upper)

    def go(self):
        self.reg(TX + 24, self.tail)
        return self.wire.take()

    def send(self, frame):
        done = self.data(frame, (EOP | IFCS | RS) << 24)
        sent = self.go()
        assert self.ram[done + 12 : done + 13] == b"\1"
        return sent

    def received(self):
        """(data, status, tag) of each frame, put together."""
        found, parts = [], b""
        while True:
            at = RINGS + 16 * self.head
            length, _, status, errors, tag = struct.unpack("<HHBBH", self.ram[at + 8 : at + 16])
            if not status & 1:
                return found
            assert not errors
            (place,) = struct.unpack("<Q", self.ram[at : at + 8])
            parts += self.ram[place : place + length]
            self.ram[at + 8 : at + 16] = bytes(8)
            self.head = (self.head + 1) % COUNT
            if status & 2:
                found.append((parts, status, tag))
                parts = b""

    def refill(self):
        self.reg(RX + 24, (self.head - 1) % COUNT)

    def deliver(self, *frames):
        assert self.wire.deliver(*frames) == len(frames)
        found = [data for data, _, _ in self.received()]
        self.refill()
        return found


@pytest.fixture
def driver(bench, request, warnings):
    services = Services(Dma(bench.space), warn=warnings.append, hire=Immediate)
    wire = services.netdevs.by_name["n"] = Wire("n", headers=getattr(request, "param", False))
    plug(["e1000,netdev=n"], {"pci.0": bench.built.devices["pci"].bus}, services)
    yield Driver(bench, wire)
    for device in bench.built.everything():
        device.close()


def with_crc(frame):
    return frame.ljust(60, b"\0") + crc32(frame.ljust(60, b"\0")).to_bytes(4, "little")


def test_it_is_the_card_that_drivers_know(driver):
    assert driver.guest.config(1, 0) == 0x100E_8086 and driver.guest.config(1, 8) >> 8 == 0x020000
    assert driver.guest.config(1, 0x3D, 1) == 1
    assert driver.reg(STATUS) & 0xC3 == 0x83, "full duplex, link, 1000 Mb/s"


def test_the_eeprom_has_the_address_and_its_checksum(driver):
    words = [driver.eeprom(at) for at in range(64)]
    assert struct.pack("<3H", *words[:3]) == MAC and sum(words) & 0xFFFF == 0xBABA
    driver.reg(EERD, 1 | 2 << 8)
    assert driver.reg(EERD) == words[2] << 16 | 2 << 8 | 0x10
    assert driver.reg(RAL) == words[0] | words[1] << 16 and driver.reg(RAH) == 1 << 31 | words[2]


def test_the_phy(driver):
    assert (driver.phy(2), driver.phy(3)) == (0x0141, 0x0C20)
    assert driver.phy(1) & 0x24 == 0x24 and driver.phy(17) & 0xC400 == 0x8400
    driver.phy(4, 0x0101)
    assert driver.phy(4) == 0x0101
    driver.phy(0, 0x9000)
    assert driver.phy(4) == 0x0DE1 and driver.phy(0) == 0x1140
    assert driver.reg(ICR) & LSC
    driver.reg(MDIC, 2 << 21 | 2 << 26)
    assert driver.reg(MDIC) & 0x5000_0000 == 0x5000_0000, "no such PHY"
    driver.wire.pull(False)
    assert not driver.phy(1) & 4 and not driver.reg(STATUS) & 2 and driver.reg(ICR) == LSC


def test_a_link_that_is_another_than_when_it_was_saved_is_told(driver):
    mac = driver.card.parts()[0]
    with_link = mac.save()
    mac.restore(with_link)
    mac.resumed()
    assert not driver.reg(ICR) & LSC
    driver.wire.link_up = False
    mac.restore(with_link)
    mac.resumed()
    assert driver.reg(ICR) & LSC and not driver.reg(STATUS) & 2


def test_registers_are_in_io_space_too(driver):
    driver.io(0, RAL)
    assert driver.io(4) == driver.reg(RAL)
    driver.io(0, 0xD0)
    driver.io(4, 0x10)
    assert driver.reg(IMS) == 0x10
    driver.io(0, 0x2_0000)
    assert driver.io(4) == 0


def test_interrupts(driver):
    driver.reg(ICS, LSC)
    assert not driver.pin
    driver.reg(IMS, LSC | TXDW)
    assert driver.pin
    driver.reg(IMC, LSC)
    assert not driver.pin and driver.reg(IMS) == TXDW
    driver.reg(IMS, LSC)
    assert driver.reg(ICR) == LSC and not driver.pin and driver.reg(ICR) == 0
    driver.reg(ICS, LSC)
    driver.reg(ICR, LSC)
    assert not driver.pin


@pytest.mark.parametrize("driver", [False, True], indirect=True)
def test_frames_go_both_ways(driver):
    before = bytes(10) if driver.wire.headers else b""
    driver.start()
    for frame in FRAMES * 2:
        assert driver.send(frame) == [before + frame]
        assert driver.pin and driver.reg(ICR) & TXDW
        assert driver.deliver(before + frame) == [with_crc(frame)]
        assert driver.pin and driver.reg(ICR) & RXT0
    driver.data(FRAMES[4][:100], IFCS << 24)
    assert driver.go() == [] and driver.reg(TX + 16) != driver.tail
    driver.data(FRAMES[4][100:], (EOP | RS) << 24)
    assert driver.go() == [before + FRAMES[4]] and driver.reg(TX + 16) == driver.tail


def test_statistics_count_and_are_cleared_by_reading(driver):
    driver.start()
    driver.send(FRAMES[0])
    driver.deliver(FRAMES[1], b"\xff" * 6 + FRAMES[2][6:])
    assert [driver.reg(at) for at in (0x4074, 0x4078, 0x4080, 0x4090)] == [2, 1, 1, len(FRAMES[0]) + 4]
    assert driver.reg(0x4088) == len(FRAMES[1]) + len(FRAMES[2]) + 8
    assert driver.reg(0x4074) == 0


def test_frames_wait_for_buffers(driver):
    driver.start()
    many = [FRAMES[0]] * 20
    taken = driver.wire.deliver(*many)
    assert taken == COUNT - 1 and driver.reg(ICR) & RXO
    assert len(driver.received()) == taken
    before = driver.wire.resumed
    driver.refill()
    assert driver.wire.resumed > before
    assert len(driver.deliver(*many[taken:])) == 20 - taken


def test_small_buffers_take_a_frame_together(driver):
    driver.start(rctl=0x8002 | 3 << 16)
    assert driver.deliver(FRAMES[11]) == [with_crc(FRAMES[11])]
    driver.start(rctl=0x8002 | 3 << 16 | 1 << 5 | 1 << 26)
    assert driver.deliver(FRAMES[0] + bytes(9000)) == [], "more than the ring takes"
    assert driver.deliver(FRAMES[11]) == [FRAMES[11]], "without check sequence"


# -- checksums and segments


def ipv4(data, protocol=6, checksum=True):
    header = struct.pack(">2B3H2BH4s4s", 0x45, 0, 20 + len(data), 7, 0x4000, 64, protocol, 0, bytes(4), b"\x0a\0\0\1")
    header = header[:10] + (0xFFFF - total(header)).to_bytes(2, "big") + header[12:] if checksum else header
    return MAC + OTHER + b"\x08\x00" + header + data


def pseudo(frame, protocol=6, with_length=True):
    return total(frame[26:34] + struct.pack(">HH", protocol, len(frame) - 34 if with_length else 0))


def is_right(frame, protocol=6):
    """Both checksums of an IPv4 packet with TCP."""
    assert total(frame[14:34]) == 0
    return (total(frame[34:]) + pseudo(frame, protocol)) % 0xFFFF == 0


TCP = struct.pack(">2H2I4H", 1, 2, 1000, 5, 0x5019, 100, 0, 0)


def context(driver, command, header=54, segment=0):
    first = 14 | 24 << 8 | 33 << 16
    driver.descriptor(first | (34 | 50 << 8) << 32, (command | DEXT) << 24, header << 8 | segment << 16)


def test_a_checksum_by_a_legacy_descriptor(driver):
    driver.start()
    frame = ipv4(TCP + b"odd")
    frame = frame[:50] + pseudo(frame).to_bytes(2, "big") + frame[52:]
    driver.data(frame, (EOP | IC | RS) << 24 | 50 << 16, 34 << 8)
    (sent,) = driver.go()
    assert is_right(sent)


def test_checksums_by_a_context(driver):
    driver.start()
    frame = ipv4(TCP + RNG.randbytes(333), checksum=False)
    frame = frame[:50] + pseudo(frame).to_bytes(2, "big") + frame[52:]
    context(driver, 3)
    driver.data(frame[:60], DEXT << 24 | 1 << 20, 0)
    driver.data(frame[60:], (EOP | RS | DEXT) << 24 | 1 << 20, IXSM | TXSM)
    (sent,) = driver.go()
    assert is_right(sent) and sent[52:] == frame[52:]


def test_long_segments_are_cut(driver):
    driver.start()
    data = RNG.randbytes(5000)
    frame = ipv4(TCP, checksum=False)
    frame = frame[:16] + b"\0\0" + frame[18:50] + pseudo(frame, with_length=False).to_bytes(2, "big") + frame[52:]
    context(driver, 7, segment=1448)
    driver.data(frame + data, (EOP | RS | DEXT | IC) << 24 | 1 << 20, IXSM | TXSM)
    sent = driver.go()
    assert [len(one) for one in sent] == [54 + 1448] * 3 + [54 + 5000 - 3 * 1448]
    assert all(is_right(one) for one in sent)
    assert b"".join(one[54:] for one in sent) == data
    assert [struct.unpack(">H", one[18:20])[0] for one in sent] == [7, 8, 9, 10]
    assert [struct.unpack(">I", one[38:42])[0] for one in sent] == [1000 + 1448 * n for n in range(4)]
    assert [one[47] for one in sent] == [0x10, 0x10, 0x10, 0x19]
    assert [struct.unpack(">H", one[16:18])[0] for one in sent] == [len(one) - 14 for one in sent]


def test_sums_are_rfc_1071s():
    for length in (1, 2, 3, 1499, 1500):
        data = RNG.randbytes(length)
        words = sum(struct.unpack(f">{(length + 1) // 2}H", data + b"\0" * (length % 2)))
        while words >> 16:
            words = (words & 0xFFFF) + (words >> 16)
        assert total(data) == words % 0xFFFF


def test_vlan_tags_are_put_in_and_taken_out(driver):
    driver.start(ctrl=0x40 | 1 << 30)
    driver.data(FRAMES[0], (EOP | RS | VLE) << 24, 0x2007 << 16)
    tagged = FRAMES[0][:12] + b"\x81\x00\x20\x07" + FRAMES[0][12:]
    assert driver.go() == [tagged]
    driver.wire.deliver(tagged)
    assert driver.received() == [(with_crc(FRAMES[0]), 0xF, 0x2007)]


# -- filters


def seen(driver, *addresses):
    return [data[:6] for data in driver.deliver(*(address + OTHER + b"\x08\x00" + bytes(46) for address in addresses))]


GROUP = bytes.fromhex("01005e000102")
EVERYBODY = (MAC, OTHER, GROUP, b"\xff" * 6)


@pytest.mark.parametrize(
    ("rctl", "let_in"),
    [(2, [MAC]), (0x8002, [MAC, b"\xff" * 6]), (0xA, [MAC, OTHER]), (0x12, [MAC, GROUP, b"\xff" * 6]), (0, [])],
)
def test_the_receive_filter(driver, rctl, let_in):
    assert seen(driver.start(rctl=rctl), *EVERYBODY) == let_in


def test_more_addresses_groups_and_vlans(driver):
    driver.start()
    driver.reg(RAL + 8, int.from_bytes(OTHER[:4], "little"))
    driver.reg(RAH + 8, 1 << 31 | int.from_bytes(OTHER[4:], "little"))
    assert seen(driver, *EVERYBODY) == [MAC, OTHER, b"\xff" * 6]
    place = (GROUP[5] << 8 | GROUP[4]) >> 4 & 0xFFF
    driver.reg(MTA + 4 * (place >> 5), 1 << place % 32)
    assert GROUP in seen(driver, *EVERYBODY)
    driver.reg(RCTL, 0x8002 | 1 << 18)
    tagged = FRAMES[0][:12] + b"\x81\x00\x00\x07" + FRAMES[0][12:]
    assert driver.deliver(tagged, FRAMES[0]) == [with_crc(FRAMES[0])]
    driver.reg(VFTA, 1 << 7)
    assert driver.deliver(tagged) == [with_crc(tagged)]


def test_a_reset_forgets_everything_but_the_address(driver):
    driver.start()
    driver.reg(RAL, 0x1234)
    driver.io(0, CTRL)
    driver.io(4, 1 << 26)
    assert driver.reg(CTRL) == 0 and driver.reg(RCTL) == 0 and driver.reg(IMS) == 0
    assert driver.reg(RAL) == int.from_bytes(MAC[:4], "little")
    assert driver.wire.deliver(*FRAMES) == len(FRAMES)
    assert driver.start().deliver(FRAMES[0]) == [with_crc(FRAMES[0])]


def test_buffers_over_the_cards_own_registers_are_none(driver):
    driver.guest.inbound(0xDC0, MEMORY, 0x8000_0000, 24)
    for ring in (RX, TX):
        driver.start(rctl=0x801A)
        if ring == RX:  # the frame would set CTRL's reset
            driver.ram[RINGS : RINGS + 8] = struct.pack("<Q", 0x8000_0000)
        else:
            driver.reg(RX, 0x8000_0000)
        driver.wire.deliver(b"\xff" * 60, FRAMES[0])
        assert driver.reg(CTRL) == 0x40 and driver.card.mac.dropped
    driver.reg(TX, 0x8000_0000)
    driver.reg(TX + 24, 5)
    assert driver.wire.take() == [] and driver.start().send(FRAMES[0]) == [FRAMES[0]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("driver", [False, True], indirect=True)
def test_hostile_drivers_never_raise(driver, seed, warnings):
    rng = random.Random(seed)
    driver.start()
    places = (
        CTRL,
        EECD,
        EERD,
        MDIC,
        ICS,
        IMS,
        IMC,
        RCTL,
        TCTL,
        *range(RX, RX + 32, 8),
        *range(TX, TX + 32, 8),
        RAL,
        RAH,
    )
    for _ in range(1500):
        what = rng.randrange(5)
        if what == 0:
            value = rng.choice((0, 1, 0x200, 0xFFFF_FFFF, rng.getrandbits(32), rng.getrandbits(5), RINGS))
            driver.reg(rng.choice(places) if rng.random() < 0.9 else rng.randrange(0, 0x2_0000, 4), value & ~(1 << 26))
        elif what == 1:
            at = RINGS + 0x1000 + 16 * rng.randrange(COUNT)
            address = rng.choice((BUFFERS, rng.getrandbits(26), rng.getrandbits(64)))
            words = rng.getrandbits(rng.choice((10, 16, 20))) | rng.getrandbits(4) << 20 | rng.getrandbits(8) << 24
            driver.ram[at : at + 16] = struct.pack("<QII", address, words, rng.getrandbits(32))
        elif what == 2:
            driver.reg(TX + 24, rng.randrange(COUNT + 2))
        elif what == 3:
            driver.wire.deliver(*(rng.randbytes(rng.choice((0, 13, 60, 1500, 20000))) for _ in range(3)))
        else:
            driver.reg(RX + 24, rng.randrange(COUNT + 2))
        driver.reg(rng.randrange(0, 0x2_0000, 4))
        if rng.random() < 0.05:
            driver.start()
    driver.reg(CTRL, 1 << 26)
    driver.wire.take()
    driver.guest.set_config(1, 4, 7, 2)
    driver.start()
    before = bytes(10) if driver.wire.headers else b""
    assert driver.send(FRAMES[3]) == [before + FRAMES[3]]
    assert driver.deliver(before + FRAMES[3]) == [with_crc(FRAMES[3])]
    assert not warnings
