"""The network device as a driver uses it: frames both ways, buffers of every shape, commands, what may not be."""

import random
import struct

import pytest

from powervisor.devices.virtio import net
from powervisor.errors import UserError
from tests.support.virtio_driver import (
    DRIVER_OK,
    EVENT_INDEX,
    INDIRECT,
    NEEDS_RESET,
    PACKED,
)
from tests.support.wire import Wire

RNG = random.Random(5)
MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")
GROUP = bytes.fromhex("01005e000001")
FRAMES = [MAC + OTHER + b"\x08\x00" + RNG.randbytes(46 + 113 * n) for n in range(12)]
COMMANDS = net.CTRL_VQ | net.CTRL_RX | net.CTRL_VLAN | net.CTRL_RX_EXTRA | net.CTRL_MAC_ADDR


class Card:
    """A running card: its queues, and how a driver uses them."""

    def __init__(self, driver, wire, features):
        self.driver, self.wire, self.features = driver, wire, features
        commands = bool(features & net.CTRL_VQ)
        rings = driver.start(features, size=64, queues=2 + commands)
        self.rx, self.tx = rings[:2]
        self.control = rings[2] if commands else None
        self.header = 10 if driver.legacy and not features & net.MRG_RXBUF else 12
        self.posted = {}

    def send(self, frame, *cuts, header=None, **how):
        whole = (header or bytes(self.header)) + frame
        edges = [0, *(cuts or (self.header,)), len(whole)]
        self.tx.add(*(whole[a:b] for a, b in zip(edges, edges[1:], strict=False)), **how)

    def post(self, *lengths, **how):
        """A receive buffer, perhaps in parts."""
        before = self.rx.avail if hasattr(self.rx, "avail") else self.rx.at
        head = self.rx.descriptor % self.rx.size if hasattr(self.rx, "descriptor") else 0x100 + before
        places = self.rx.add(*lengths, **how)
        self.posted[head] = list(zip(places, lengths, strict=True))

    def received(self):
        """(header, data) of each frame; frames over several buffers are put together."""
        found, parts = [], []
        for identifier, length in self.rx.used():
            data = b"".join(self.rx.ram[at : at + n] for at, n in self.posted[identifier])[:length]
            parts.append(data)
            first = parts[0]
            wanted = 1
            if self.header == 12:
                (wanted,) = struct.unpack(self.rx.order + "H", first[10:12])
            if len(parts) == wanted:
                whole = b"".join(parts)
                found.append((whole[:10], whole[self.header :]))
                parts = []
        assert not parts
        return found

    def command(self, group, number, data=b""):
        answer, _ = (
            self.control.do(bytes((group, number)), data, 1) if data else self.control.do(bytes((group, number)), 1)
        )
        return answer[0]


@pytest.fixture
def wire():
    return Wire("n")


@pytest.fixture
def driven(plugged, services, wire):
    def driven(device="", wire=wire, **driving):
        services.netdevs.by_name["n"] = wire
        return plugged(f"virtio-net-pci,netdev=n,{device}", **driving)

    return driven


@pytest.fixture
def running(driven, wire):
    def running(features=net.MRG_RXBUF | COMMANDS, device="", wire=wire, **driving):
        return Card(driven(device, wire, **driving), wire, features)

    return running


WAYS = {
    "split": (net.MRG_RXBUF, False),
    "plain": (0, False),
    "events": (net.MRG_RXBUF | EVENT_INDEX | INDIRECT, False),
    "packed": (net.MRG_RXBUF | PACKED, False),
    "legacy": (0, True),
    "legacy-mergeable": (net.MRG_RXBUF, True),
}


@pytest.mark.parametrize("way", WAYS)
def test_frames_go_both_ways(running, way):
    features, legacy = WAYS[way]
    card = running(features, "packed=on", legacy=legacy)
    for frame in FRAMES:
        card.send(frame)
        card.post(2000)
    card.driver.notify(1)
    assert card.wire.take() == FRAMES
    assert len(card.tx.used()) == len(FRAMES)
    assert card.wire.deliver(*FRAMES) == len(FRAMES)
    assert [data for _, data in card.received()] == FRAMES
    if not legacy:
        assert card.driver.messages == [2, 1], "one interrupt for each batch"


def test_buffers_may_be_cut_anywhere(running):
    card = running(INDIRECT)
    card.send(FRAMES[3], 5, 20, 21)
    card.send(FRAMES[4], 200, indirect=True)
    card.post(12, 1, 500, 1000)
    card.post(3, 2000)
    card.driver.notify(1)
    assert card.wire.take() == FRAMES[3:5]
    assert card.wire.deliver(*FRAMES[3:5]) == 2
    assert [data for _, data in card.received()] == FRAMES[3:5]


@pytest.mark.parametrize("features", [net.MRG_RXBUF, net.MRG_RXBUF | PACKED])
def test_long_frames_take_several_buffers_and_wait_for_all_of_them(running, features):
    card = running(features, "packed=on")
    long = MAC + OTHER + b"\x08\x00" + RNG.randbytes(5000)
    for _ in range(4):
        card.post(700, 300)
    assert card.wire.deliver(long) == 0
    for _ in range(8):
        card.post(1000)
    assert not card.rx.used() and card.rx.wants_notification()
    card.driver.notify(0)
    assert card.wire.resumed
    virtio = card.driver.bench.built.devices["pci"].bus.functions[1, 0].virtio
    card.wire.resumed = 0
    saved = virtio.save()
    assert not card.wire.resumed  # whoever is saved goes on as if it had not been
    virtio.restore(saved)
    assert card.wire.deliver(long, long) == 2
    assert [data for _, data in card.received()] == [long, long]


def test_frames_that_fit_nowhere_are_dropped(running):
    card = running(0)
    card.post(500)
    assert card.wire.deliver(FRAMES[8], FRAMES[0]) == 2
    assert [data for _, data in card.received()] == [FRAMES[0]]
    assert card.driver.bench.built.devices["pci"].bus.functions[1, 0].virtio.statistics()["dropped"] == 1


@pytest.mark.parametrize("features", [net.MRG_RXBUF, net.MRG_RXBUF | EVENT_INDEX, net.MRG_RXBUF | PACKED])
def test_what_finds_no_buffer_waits_for_one(running, features):
    card = running(features, "packed=on")
    card.post(2000)
    assert card.wire.deliver(*FRAMES[:3]) == 1
    assert card.rx.wants_notification()
    before = card.wire.resumed
    card.post(2000)
    card.post(2000)
    card.driver.notify(0)
    assert card.wire.resumed > before
    assert card.wire.deliver(*FRAMES[1:3]) == 2
    assert [data for _, data in card.received()] == FRAMES[:3]


def test_a_busy_netdev_stops_sending_until_it_takes_more(running):
    card = running()
    card.wire.full = True
    card.send(FRAMES[0])
    card.driver.notify(1)
    assert card.wire.take() == [] and card.tx.used() == []
    card.wire.full = False
    card.wire.nic.sendable()
    assert card.wire.take() == FRAMES[:1] and len(card.tx.used()) == 1


def test_many_frames_go_in_few_calls(running):
    card = running(net.MRG_RXBUF | INDIRECT)
    for _ in range(60):
        card.send(FRAMES[0], indirect=True)
    card.driver.notify(1)
    assert len(card.wire.take()) == 60 and card.wire.batches == [60] and card.driver.messages == [2]


def test_nothing_is_received_before_the_driver_is_there(driven, wire):
    driver = driven()
    assert wire.deliver(*FRAMES) == len(FRAMES)
    driver.negotiate(net.MRG_RXBUF)
    assert wire.deliver(*FRAMES) == len(FRAMES)


# -- what the card says of itself


def test_configuration(driven, wire):
    driver = driven("mac=52-54-00-AB-CD-EF")
    assert bytes(driver.configuration(at, 1) for at in range(6)) == OTHER
    assert driver.configuration(6, 2) == 1 and driver.configuration(8, 2) == 1
    wire.link_up = False
    assert driver.configuration(6, 2) == 0
    assert not driver.offered() & (net.MTU | net.CSUM | net.GUEST_CSUM | net.HOST_TSO4 | net.GUEST_TSO4)
    assert driver.config(0, 4) == 0x1000_1AF4 and driver.config(8) >> 8 == 0x020000


@pytest.mark.parametrize(("device", "told"), [("", 65520), ("host_mtu=9000", 9000), ("host_mtu=0", None)])
def test_the_netdevs_mtu_is_told(driven, device, told):
    driver = driven(device, Wire("n", mtu=65520))
    assert bool(driver.offered() & net.MTU) == (told is not None)
    assert told is None or driver.configuration(10, 2) == told


def test_the_link(running):
    card = running(net.STATUS)
    card.wire.pull(False)
    assert card.driver.configuration(6, 2) == 0 and card.driver.messages == [0]
    card.wire.pull(True)
    assert card.driver.configuration(6, 2) == 1 and card.driver.messages == [0, 0]


def test_a_link_that_is_another_than_when_it_was_saved_is_told(running):
    card = running(net.STATUS)
    virtio = card.driver.bench.built.devices["pci"].bus.functions[1, 0].virtio
    with_link = virtio.save()
    virtio.restore(with_link)
    virtio.resumed()
    assert not card.driver.messages
    card.wire.link_up = False
    virtio.restore(with_link)
    virtio.resumed()
    assert card.driver.messages == [0] and card.driver.configuration(6, 2) == 0


def test_legacy_drivers_may_choose_an_address(running):
    card = running(0, legacy=True)
    for at, byte in enumerate(OTHER):
        card.driver.configuration(at, 1, byte)
    assert bytes(card.driver.configuration(at, 1) for at in range(6)) == OTHER


OFFLOADS = net.CSUM | net.GUEST_CSUM | net.HOST_TSO4 | net.HOST_TSO6 | net.GUEST_TSO4 | net.GUEST_TSO6


@pytest.mark.parametrize("legacy", [False, True])
def test_headers_pass_a_netdev_that_has_them(running, legacy):
    card = running(OFFLOADS | net.MRG_RXBUF, wire=Wire("n", headers=True), legacy=legacy)
    assert card.driver.offered() & OFFLOADS == OFFLOADS
    assert card.wire.offloads[-1] == (True, True, True, False)
    fields = 1, 1, 54, 1448, 34, 16
    theirs, host = struct.pack(card.tx.order + "BBHHHH", *fields), struct.pack("=BBHHHH", *fields)
    card.send(FRAMES[0], header=theirs + b"\0\0")
    card.driver.notify(1)
    assert card.wire.take() == [host + FRAMES[0]]
    card.post(2000)
    assert card.wire.deliver(host + FRAMES[1]) == 1
    assert card.received() == [(theirs, FRAMES[1])]
    card.driver.status(0)
    assert card.wire.offloads[-1] == (False, False, False, False)


def test_headers_are_empty_for_a_driver_that_takes_none(running):
    card = running(net.MRG_RXBUF, wire=Wire("n", headers=True))
    card.post(2000)
    card.wire.deliver(struct.pack("=BBHHHH", 2, 0, 0, 0, 0, 0) + FRAMES[1])
    assert card.received() == [(bytes(10), FRAMES[1])]


@pytest.mark.parametrize(
    ("device", "missing"),
    [
        ("mrg_rxbuf=off", net.MRG_RXBUF),
        ("ctrl_vq=off", COMMANDS),
        ("status=off", net.STATUS),
        ("csum=off", net.CSUM | net.HOST_TSO4 | net.HOST_TSO6),
        ("guest_csum=off", net.GUEST_CSUM | net.GUEST_TSO4 | net.GUEST_TSO6),
        ("host_tso4=off,guest_tso6=off", net.HOST_TSO4 | net.GUEST_TSO6),
    ],
)
def test_features_follow_the_properties(driven, device, missing):
    everything = OFFLOADS | COMMANDS | net.MRG_RXBUF | net.STATUS | net.MAC_ADDRESS
    assert driven(device, Wire("n", headers=True)).offered() & everything == everything & ~missing


# -- commands


def seen(card, *addresses, vlan=None):
    """Which of these destinations come in."""
    for address in addresses:
        card.post(2000)
        tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big")
        card.wire.deliver(address + OTHER + tag + b"\x08\x00" + bytes(60))
    return [data[:6] for _, data in card.received()]


BROADCAST = b"\xff" * 6


def test_the_receive_filter(running):
    card = running()
    everybody = (MAC, OTHER, GROUP, BROADCAST)
    assert seen(card, *everybody) == list(everybody), "promiscuous at first"
    assert card.command(0, 0, b"\0") == 0
    assert seen(card, *everybody) == [MAC, BROADCAST]
    assert card.command(0, 1, b"\1") == 0
    assert seen(card, *everybody) == [MAC, GROUP, BROADCAST]
    assert card.command(0, 5, b"\1") == 0 and card.command(0, 3, b"\1") == 0 and card.command(0, 2, b"\1") == 0
    assert seen(card, *everybody) == [MAC, OTHER]
    assert card.command(0, 4, b"\1") == 0
    assert seen(card, *everybody) == []
    card.driver.status(0)
    again = Card(card.driver, card.wire, card.features)
    assert seen(again, *everybody) == list(everybody), "a reset forgets it"


def test_addresses_and_vlans(running):
    card = running()
    card.command(0, 0, b"\0")
    tables = struct.pack("<I", 1) + OTHER + struct.pack("<I", 2) + GROUP + b"\x33\x33" + bytes(4)
    assert card.command(1, 0, tables) == 0
    assert seen(card, MAC, OTHER, GROUP, b"\x01" * 6) == [MAC, OTHER, GROUP]
    many = struct.pack("<I", 0) + struct.pack("<I", 65) + GROUP * 65
    assert card.command(1, 0, many) == 0
    assert seen(card, OTHER, b"\x01" * 6) == [b"\x01" * 6], "too many to know"
    assert card.command(1, 1, OTHER) == 0
    assert seen(card, MAC, OTHER) == [OTHER]
    assert bytes(card.driver.configuration(at, 1) for at in range(6)) == OTHER
    assert seen(card, OTHER, vlan=7) == []
    assert card.command(2, 0, struct.pack("<H", 7)) == 0
    assert seen(card, OTHER, vlan=7) == [OTHER]
    assert card.command(2, 1, struct.pack("<H", 7)) == 0
    assert seen(card, OTHER, vlan=7) == []


@pytest.mark.parametrize(
    ("group", "number", "data"),
    [
        (0, 6, b"\1"),
        (0, 0, b""),
        (1, 0, b""),
        (1, 0, struct.pack("<I", 1) + b"short"),
        (1, 0, struct.pack("<II", 0, 0) + b"more"),
        (1, 0, struct.pack("<I", 0xFFFF_FFFF)),
        (1, 1, b"short"),
        (2, 0, b"\0\x10"),
        (4, 0, b"\1\0"),
        (255, 255, b""),
    ],
)
def test_commands_that_are_none_are_refused(running, group, number, data):
    card = running()
    assert card.command(group, number, data) == 1
    assert seen(card, OTHER) == [OTHER]


# -- what may not be


@pytest.mark.parametrize(
    ("queue", "contents", "message"),
    [
        (1, (b"short",), "a frame without its header"),
        (0, (5,), "a receive buffer of 5 bytes"),
        (0, (b"to be read",), "a receive buffer of 0 bytes"),
        (2, (b"\0", 1), "a command without its number"),
        (2, (b"\0\0\0",), "a command without its number or answer"),
    ],
)
def test_drivers_that_break_the_rules_stop_the_device(running, warnings, queue, contents, message):
    card = running()
    (card.rx, card.tx, card.control)[queue].add(*contents)
    card.driver.notify(queue)
    card.wire.deliver(FRAMES[0])
    assert card.driver.status() & NEEDS_RESET
    assert len(warnings) == 1 and message in warnings[0]
    assert card.wire.deliver(*FRAMES) == len(FRAMES)
    card.driver.status(0)
    again = Card(card.driver, card.wire, card.features)
    assert seen(again, MAC) == [MAC]


def test_frames_that_are_too_long_or_empty_are_not_sent(running):
    card = running()
    card.send(b"", header=bytes(12))
    card.send(bytes(70 << 10))
    card.driver.notify(1)
    assert card.wire.take() == [] and len(card.tx.used()) == 2


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("virtio-net-pci", "netdev= is missing"),
        ("virtio-net-pci,netdev=x", "netdev=x: no such netdev; there is n"),
        ("virtio-net-pci,netdev=n,mac=52:54:00:12:34", "mac=52:54:00:12:34 is no address; write for example"),
        ("virtio-net-pci,netdev=n,mac=53:54:00:12:34:56", "is a group's address"),
        ("virtio-net-pci,netdev=n,rx_queue_size=100", "rx_queue_size=100 cannot be; write a power of two"),
    ],
)
def test_cards_that_cannot_be(plugged, services, wire, device, message):
    services.netdevs.by_name["n"] = wire
    with pytest.raises(UserError, match=message):
        plugged(device)


@pytest.mark.parametrize("seed", range(4))
def test_hostile_drivers_never_raise(running, seed, warnings):
    rng = random.Random(seed)
    card = running(net.MRG_RXBUF | COMMANDS | INDIRECT, wire=Wire("n", headers=seed % 2 == 1))
    for _ in range(400):
        rings = (card.rx, card.tx, card.control)
        ring = rng.choice(rings)
        what = rng.randrange(6)
        if what == 0:
            ring.pack(
                ring.table + 16 * rng.randrange(64),
                "QIHH",
                rng.getrandbits(rng.choice((22, 64))),
                rng.getrandbits(rng.choice((4, 12, 32))),
                rng.getrandbits(3),
                rng.getrandbits(rng.choice((6, 16))),
            )
            ring.publish(rng.getrandbits(rng.choice((6, 16))))
        elif what == 1:
            card.wire.deliver(*(rng.randbytes(rng.choice((0, 1, 10, 60, 1500, 65000))) for _ in range(3)))
        elif what == 2:
            ring.add(rng.randbytes(rng.randrange(40)), rng.randrange(1, 40), indirect=rng.random() < 0.5)
        elif what == 3:
            card.driver.common(rng.randrange(0, 0x38, 4), 4, rng.getrandbits(32))
        elif what == 4:
            card.wire.pull(rng.random() < 0.5)
        for index in range(4):
            card.driver.notify(index)
        for r in rings:
            r._buffer = min(r._buffer, 0x80_0000)
        if card.driver.status() & NEEDS_RESET or not card.driver.status() & DRIVER_OK:
            card.driver.status(0)
            card = Card(card.driver, card.wire, card.features)
    card.driver.status(0)
    card = Card(card.driver, card.wire, card.features)
    card.wire.take()
    frame = bytes(10) + FRAMES[2] if card.wire.headers else FRAMES[2]
    card.post(2000)
    card.wire.deliver(frame)
    card.send(FRAMES[3])
    card.driver.notify(1)
    assert [data for _, data in card.received()] == [FRAMES[2]] and card.wire.take()[0].endswith(FRAMES[3])
    assert all("the guest has to reset the device" in line for line in warnings) and len(warnings) <= 10
