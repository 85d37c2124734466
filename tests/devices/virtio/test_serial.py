"""The console device as drivers use it: control messages, bytes both ways, flow control, and what may not be."""

import random
import socket
import struct
import threading
import time

import pytest

from powervisor.console import open_named
from powervisor.devices.lines import Lines
from powervisor.devices.virtio import serial
from powervisor.devices.virtio.serial import Event
from powervisor.errors import UserError
from tests.support.line import Line
from tests.support.virtio_driver import NEEDS_RESET, PACKED

MULTIPORT = serial.MULTIPORT


class Guest:
    """A driver of a virtio-serial-pci with two ports."""

    def __init__(self, driver, features=MULTIPORT):
        self.driver = driver
        self.rings = driver.start(features, queues=6)
        self.order = self.rings[0].order
        self.places = []

    def listen(self):
        """Give buffers for control messages; answers those that came since."""
        ring = self.rings[2]
        self.places += [ring.add(64)[0] for _ in range(4)]
        self.driver.notify(2)
        return self.heard()

    def heard(self):
        ring, found = self.rings[2], []
        for _, length in ring.used():
            data = ring.ram[(place := self.places.pop(0)) : place + length]
            found.append((*struct.unpack(self.order + "IHH", data[:8]), data[8:]))
        return found

    def say(self, port, event, value=1):
        self.rings[3].add(struct.pack(self.order + "IHH", port, event, value))
        self.driver.notify(3)
        self.rings[3].used()

    def open(self, port=1):
        self.listen()
        self.say(0, Event.DEVICE_READY)
        self.say(port, Event.PORT_READY)
        self.say(port, Event.PORT_OPEN)
        return self.listen()

    def send(self, data, queue=5):
        self.rings[queue].add(data)
        self.driver.notify(queue)
        return len(self.rings[queue].used())


@pytest.fixture
def lines(services):
    made = {"console": Line(), "port": Line()}
    services.lines = Lines(made)
    return made


@pytest.fixture
def guest(plugged, lines):
    """A device with a console (port 0) and a port, and its driver."""

    def guest(properties="", features=MULTIPORT, **driving):
        ports = "virtconsole,chardev=console", "virtserialport,chardev=port,name=org.example"
        return Guest(plugged(f"virtio-serial-pci,{properties}", *ports, **driving), features)

    return guest


WAYS = {"split": ("", MULTIPORT, False), "packed": ("packed=on", MULTIPORT | PACKED, False), "legacy": ("", 2, True)}


@pytest.mark.parametrize("way", WAYS)
def test_ports_are_announced_with_what_they_are(guest, way):
    properties, features, legacy = WAYS[way]
    guest = guest(properties, features, legacy=legacy)
    assert guest.listen() == []
    guest.say(0, Event.DEVICE_READY)
    assert guest.heard() == [(0, Event.PORT_ADD, 1, b""), (1, Event.PORT_ADD, 1, b"")]
    guest.say(0, Event.PORT_READY)
    assert guest.heard() == [(0, Event.CONSOLE_PORT, 1, b""), (0, Event.PORT_OPEN, 1, b"")]
    guest.say(1, Event.PORT_READY)
    assert guest.listen() == [(1, Event.PORT_NAME, 1, b"org.example"), (1, Event.PORT_OPEN, 1, b"")]
    guest.say(7, Event.PORT_READY)
    guest.say(0, Event.DEVICE_READY, 0)
    guest.say(1, 99)
    assert guest.listen() == []


@pytest.mark.parametrize("way", WAYS)
def test_bytes_go_both_ways(guest, lines, way):
    properties, features, legacy = WAYS[way]
    guest = guest(properties, features, legacy=legacy)
    guest.open()
    assert guest.send(b"out of the guest") == 1
    assert lines["port"].sent == b"out of the guest"
    places = [guest.rings[4].add(4)[0] for _ in range(2)]
    guest.driver.notify(4)
    assert lines["port"].type(b"into it") == b""
    assert [length for _, length in guest.rings[4].used()] == [4, 3]
    assert guest.rings[4].ram[places[0] : places[0] + 7] == b"into it"


def test_drivers_without_multiport_have_a_console(guest, lines):
    guest = guest(features=0)
    place = guest.rings[0].add(16)[0]
    guest.driver.notify(0)
    lines["console"].type(b"typed")
    assert [length for _, length in guest.rings[0].used()] == [5]
    assert guest.rings[0].ram[place : place + 5] == b"typed"
    assert guest.send(b"printed", queue=1) == 1 and lines["console"].sent == b"printed"


def test_configuration_tells_the_number_of_ports(plugged):
    driver = plugged("virtio-serial-pci,max_ports=5")
    assert driver.configuration(4, 4) == 5
    assert driver.common(0x12, 2) == 12 and driver.config(driver.msix + 2, 2) & 0x7FF == 5


def test_input_waits_until_the_guest_listens_and_has_buffers(guest, lines):
    line = lines["port"]
    guest = guest()
    assert line.type(b"early ") == b""
    guest.rings[4].add(16)
    guest.driver.notify(4)
    assert guest.rings[4].used() == []
    guest.open()
    assert [length for _, length in guest.rings[4].used()] == [6]
    data = random.Random(1).randbytes(3 * serial.INBOX)
    rest, taken = line.type(data), b""
    assert len(rest) == len(data) - serial.INBOX
    while len(taken) < len(data):
        place = guest.rings[4].add(5000)[0]
        guest.driver.notify(4)
        ((_, length),) = guest.rings[4].used()
        taken += guest.rings[4].ram[place : place + length]
        rest = line.type(rest)
    assert taken == data
    guest.say(1, Event.PORT_OPEN, 0)
    guest.rings[4].add(16)
    guest.driver.notify(4)
    line.type(b"for the next one")
    assert guest.rings[4].used() == []


def test_output_waits_for_room_and_nothing_is_lost(guest, lines):
    line = lines["port"]
    guest = guest()
    guest.open()
    line.free = 100
    assert guest.send(b"a" * 150) == 1, "taken, since it is kept"
    assert guest.send(b"b" * 20) == 0, "left in the ring"
    assert line.sent == b"a" * 100
    line.free = 10
    line.on_room()
    assert guest.rings[5].used() == [] and len(line.sent) == 110
    line.free = 1000
    line.on_room()
    assert len(guest.rings[5].used()) == 1
    assert line.sent == b"a" * 150 + b"b" * 20


def test_what_was_sent_is_handed_over_when_the_machine_ends(guest, lines, bench):
    guest = guest()
    guest.open()
    lines["port"].free = 3
    guest.send(b"the last words")
    for device in bench.built.everything():
        device.close()
    assert lines["port"].sent == b"the last words"


def test_a_console_does_not_wait_for_its_reader(guest, lines):
    guest = guest()
    guest.open(0)
    lines["console"].free = 0
    assert guest.send(b"printk", queue=1) == 1 and lines["console"].sent == b"printk"


def test_the_guest_hears_who_comes_and_leaves(guest, lines):
    lines["port"].connected = False
    guest = guest()
    guest.say(0, Event.DEVICE_READY)
    lines["port"].on_connected(True)
    assert [event for _, event, *_ in guest.listen()] == [Event.PORT_ADD] * 2, "nothing of a port it does not know"
    guest.say(1, Event.PORT_READY)
    assert [event for _, event, *_ in guest.listen()] == [Event.PORT_NAME]
    lines["port"].on_connected(True)
    assert guest.heard() == [(1, Event.PORT_OPEN, 1, b"")]
    for n in range(1000):
        lines["port"].on_connected(bool(n & 1))
    assert len(guest.listen()) < 20


def test_saved_bytes_and_messages_come_back(guest, lines, bench):
    guest = guest()
    guest.open()
    lines["port"].type(b"abc")
    lines["port"].free = 1
    guest.send(b"xyz")
    device = bench.built.devices["pci"].bus.functions[guest.driver.slot, 0].virtio
    saved = device.save()
    device.reset()
    device.restore(saved)
    assert device.save() == saved
    lines["port"].free = 100
    lines["port"].on_room()
    assert lines["port"].sent == b"xyz"
    guest.rings[4].add(8)
    guest.driver.notify(4)
    assert [length for _, length in guest.rings[4].used()] == [3]


def test_a_guest_that_never_listens_is_not_listened_to(guest):
    guest = guest()
    for _ in range(300):
        guest.say(1, Event.PORT_READY)
        ring = guest.rings[3]
        if ring.unpack(ring.device_area + 2, "H")[0] != ring.avail:
            break  # this one was left in the ring
    else:
        pytest.fail("messages pile up")
    while guest.listen():
        assert not guest.driver.status() & NEEDS_RESET
    assert ring.unpack(ring.device_area + 2, "H")[0] == ring.avail


@pytest.mark.parametrize("message", [b"", b"short"])
def test_control_messages_that_are_none_stop_the_device(guest, warnings, message):
    guest = guest()
    guest.rings[3].add(message)
    guest.driver.notify(3)
    assert guest.driver.status() & NEEDS_RESET
    assert len(warnings) == 1 and "a control message without its header" in warnings[0]


def test_huge_buffers_stop_the_device(guest, warnings):
    guest = guest()
    guest.rings[5].offer([(0, serial.MOST_AT_ONCE + 1, 0)])
    guest.driver.notify(5)
    assert guest.driver.status() & NEEDS_RESET and "a buffer of 4194305 bytes" in warnings[0]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["virtconsole"], "devices virtconsole: there is nothing to put it on; add devices virtio-serial-pci"),
        (["virtio-serial-pci,id=s", "virtconsole,bus=t.0"], "no bus 't.0'; there is s.0"),
        (["virtio-serial-pci", "virtconsole,bus=t.0"], "no bus 't.0'; give the virtio-serial-pci an id="),
        (["virtio-serial-pci", "virtconsole,chardev=x"], "chardev=x: no such chardev; there is console, port"),
        (["virtio-serial-pci", *["virtconsole,chardev=port"] * 2], "chardev=port is used by devices virtconsole"),
        (["virtio-serial-pci", "virtserialport,nr=0"], "nr=0 is not within 1..30"),
        (["virtio-serial-pci,max_ports=4", "virtserialport,nr=4"], "nr=4 is not within 1..3"),
        (["virtio-serial-pci", "virtconsole", "virtconsole,nr=0"], "nr=0 is taken by a virtconsole"),
        (["virtio-serial-pci,max_ports=2", *["virtconsole"] * 3], "all ports of virtio-serial-pci@1 are taken"),
        (["virtio-serial-pci", "virtserialport,nmae=x"], "unknown property 'nmae'; did you mean name"),
    ],
)
def test_ports_that_cannot_be(plugged, lines, texts, message):
    with pytest.raises(UserError, match=message):
        plugged(*texts)


@pytest.mark.parametrize("seed", range(3))
def test_random_messages_never_raise(guest, seed):
    rng = random.Random(seed)
    guest = guest()
    for _ in range(300):
        guest.say(rng.choice((0, 1, 2, rng.getrandbits(32))), rng.randrange(10), rng.choice((0, 1, 0xFFFF)))
        if len(guest.places) <= 4:
            guest.listen()
        guest.send(rng.randbytes(rng.randrange(100)), queue=rng.choice((1, 5)))
    assert not guest.driver.status() & NEEDS_RESET


def test_megabytes_both_ways_at_once_with_threads_and_a_socket(plugged, services, tmp_path):
    """The device's own worker, a socket's threads, and a reader that stands still at first: nothing is lost."""
    size = 3 << 20
    _, chardev = open_named(f"socket,id=p,path={tmp_path}/s,server=on,wait=off")
    services.hire = None
    services.lines = Lines({"p": chardev}, lambda call: locked(services.lock, call))
    guest = Guest(plugged("virtio-serial-pci", "virtserialport,chardev=p"))
    out, into = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
        with services.lock:
            guest.say(1, Event.PORT_READY)
            guest.say(1, Event.PORT_OPEN)
        got = bytearray()

        def read():
            time.sleep(0.3)
            while len(got) < size:
                got.extend(client.recv(1 << 16))

        threads = [threading.Thread(target=read), threading.Thread(target=client.sendall, args=(into,))]
        for thread in threads:
            thread.start()
        to, back, places, taken, sent = guest.rings[5], guest.rings[4], [], bytearray(), 0
        waiting, deadline = 0, time.monotonic() + 30
        buffer = to.buffer(32768)[0]
        inputs = [back.buffer(4096)[0] for _ in range(8)]
        while len(taken) < size or waiting or sent < size:
            assert time.monotonic() < deadline, (sent, len(taken), len(got))
            with services.lock:
                waiting -= len(to.used())
                if not waiting and sent < size:
                    to.ram[buffer : buffer + 32768] = out[sent : sent + 32768]
                    to.offer([(buffer, 32768, 0)])
                    sent, waiting = sent + 32768, 1
                    guest.driver.notify(5)
                for _, length in back.used():
                    place = places.pop(0)
                    taken += back.ram[place : place + length]
                    inputs.append(place)
                if inputs:
                    for place in inputs:
                        back.offer([(place, 4096, 2)])
                    places += inputs
                    inputs = []
                    guest.driver.notify(4)
            time.sleep(0)
        for thread in threads:
            thread.join(30)
    assert bytes(got) == out and bytes(taken) == into
    chardev.close()


def locked(lock, call):
    with lock:
        call()
