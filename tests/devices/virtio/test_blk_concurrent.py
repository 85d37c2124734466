"""The block device on storage that works on many requests at a time: an NBD server, and the worker's own thread."""

import struct
import time
from threading import RLock

import pytest

from powervisor.block.drives import open_drives
from powervisor.devices.services import Services
from powervisor.devices.virtio import blk, flights
from powervisor.memory.space import Dma
from tests.support.nbd_server import Server
from tests.support.virtio_driver import NEEDS_RESET, PACKED

READ, WRITE, FLUSH, DISCARD, ZEROES = 0, 1, 4, 11, 13
OK, IO_ERROR = 0, 1
ALL = blk.FLUSH | blk.DISCARD | blk.WRITE_ZEROES | blk.CONFIG_WCE


class Machine:
    """What the machine is to a device: its lock, and where it ends with errors."""

    def __init__(self):
        self.lock, self.errors = RLock(), []


@pytest.fixture
def machine():
    machine = Machine()
    yield machine
    assert not machine.errors


@pytest.fixture
def services(bench, warnings, machine):
    return Services(Dma(bench.space), warn=warnings.append, lock=machine.lock, failed=machine.errors.append)


@pytest.fixture
def disk(plugged, services, tmp_path, machine):
    """A server, and a running queue on it: `disk("cache=writethrough", features=ALL)`."""

    def disk(drive="", features=ALL, legacy=False, size=64, **how):
        server = Server(tmp_path / "nbd", **how)
        services.drives = open_drives([f"file=nbd+unix:///?socket={tmp_path}/nbd,if=none,id=d,{drive}"])
        ring = plugged("virtio-blk-pci,drive=d,packed=on", legacy=legacy).start(features, size=size)
        return server, Disk(ring, machine)

    yield disk
    services.drives.close()


class Disk:
    def __init__(self, ring, machine):
        self.ring, self.machine = ring, machine

    def begin(self, kind, sector, *contents):
        """Make a request available; answers the places of what is written."""
        header = struct.pack(self.ring.order + "IIQ", kind, 0, sector)
        return self.ring.add(header, *contents, 1)[1:]

    def notify(self):
        with self.machine.lock:
            self.ring.driver.notify(0)

    def used(self, count):
        found, deadline = [], time.monotonic() + 10
        while len(found) < count and time.monotonic() < deadline:
            found += self.ring.used()
            time.sleep(0.001)
        assert len(found) == count
        return found

    def do(self, kind, sector, *contents):
        """A request from beginning to end: its status, and what was written."""
        places = self.begin(kind, sector, *contents)
        self.notify()
        self.used(1)
        data = [self.ring.ram[p : p + c] for p, c in zip(places, contents, strict=False) if isinstance(c, int)]
        return self.ring.ram[places[-1] : places[-1] + 1][0], b"".join(data)


@pytest.mark.parametrize(("features", "legacy"), [(ALL, False), (ALL | PACKED, False), (0, True)])
def test_requests_overtake_each_other(disk, features, legacy):
    server, disk = disk(features=features, legacy=legacy)
    server.held = 16
    places = [disk.begin(READ, n, 512) for n in range(16)]
    disk.notify()
    used = disk.used(16)
    assert [written for _, written in used] == [513] * 16
    for n, (data, status) in enumerate(places):
        assert disk.ring.ram[data : data + 512] == server.data[512 * n : 512 * n + 512]
        assert disk.ring.ram[status : status + 1] == b"\0"
    assert [at for at, _ in used] != sorted(at for at, _ in used), "the server answered in another order"
    server.held = 0
    for n in range(40):
        assert disk.do(WRITE, n, bytes([n]) * 512) == (OK, b"")
        assert disk.do(READ, n, 512) == (OK, bytes([n]) * 512)


def test_all_kinds_of_requests(disk):
    server, disk = disk("discard=unmap")
    assert disk.do(FLUSH, 0)[0] == OK
    assert disk.do(ZEROES, 0, struct.pack("<QIIQII", 8, 8, 1, 100, 1, 0))[0] == OK
    assert disk.do(DISCARD, 0, struct.pack("<QII", 16, 8, 0))[0] == OK
    assert server.requests == [(3, 0, 0, 0), (6, 0, 4096, 4096), (6, 2, 51200, 512), (4, 0, 8192, 4096)]
    assert disk.do(READ, 1 << 40, 512)[0] == IO_ERROR
    assert disk.do(8, 0, 20) == (OK, bytes(20))
    assert disk.do(99, 0, 20)[0] == 2


def test_a_flush_follows_each_write_of_a_driver_that_does_not(disk):
    server, disk = disk(features=0)
    server.held = 1
    for n in range(3):
        disk.begin(WRITE, n, b"x" * 512)
    disk.notify()
    disk.used(3)
    kinds = [kind for kind, *_ in server.requests]
    assert sorted(kinds) == [1, 1, 1, 3, 3, 3] and kinds[0] == 1 and kinds[-1] == 3


def test_a_write_that_failed_is_not_flushed(disk, warnings):
    server, disk = disk(features=0)
    server.fail = 28
    for _ in range(3):
        assert disk.do(WRITE, 0, b"x" * 512)[0] == IO_ERROR
    assert {kind for kind, *_ in server.requests} == {1}
    assert len(warnings) == 1 and "write failed (No space left on device)" in warnings[0]
    server.fail = 0
    assert disk.do(WRITE, 0, b"x" * 512)[0] == OK


def test_a_reset_waits_for_what_is_under_way(disk):
    server, disk = disk()
    server.held = 3
    places = [disk.begin(READ, n, 512) for n in range(2)]
    disk.notify()
    while len(server.requests) < 2:
        time.sleep(0.001)
    server.held, before = 1, time.monotonic()
    ring, driver = disk.ring, disk.ring.driver
    server.release()
    with disk.machine.lock:
        driver.status(0)
    assert time.monotonic() - before < 5
    for n, (data, _) in enumerate(places):
        assert ring.ram[data : data + 512] == server.data[512 * n : 512 * n + 512]
        ring.ram[data : data + 512] = bytes(512)
    time.sleep(0.05)
    assert all(ring.ram[data : data + 512] == bytes(512) for data, _ in places), "nothing is stored after a reset"
    again = Disk(driver.start(ALL, size=64), disk.machine)
    assert again.do(READ, 3, 512) == (OK, server.data[1536:2048])


def test_a_server_that_is_silent_does_not_keep_a_reset_for_ever(disk, monkeypatch, warnings):
    monkeypatch.setattr(flights, "PATIENCE_SECONDS", 0.2)
    server, disk = disk()
    server.held = 10
    disk.begin(READ, 0, 512)
    disk.notify()
    while not server.requests:
        time.sleep(0.001)
    driver = disk.ring.driver
    with disk.machine.lock:
        driver.status(0)
    again = Disk(driver.start(ALL, size=64), disk.machine)
    assert again.do(READ, 3, 512)[0] == IO_ERROR
    assert len(warnings) == 1 and "read failed (no answer for 0.2 seconds)" in warnings[0]


def test_what_is_saved_has_no_request_under_way(disk, bench):
    server, disk = disk()
    server.held = 2
    disk.begin(WRITE, 7, b"y" * 512)
    disk.notify()
    while not server.requests:
        time.sleep(0.001)
    server.held = 1
    server.release()
    card = bench.built.devices["pci"].bus.functions[disk.ring.driver.slot, 0]
    with disk.machine.lock:
        saved = card.virtio.save()
    assert saved["queues"][0]["position"] == [1, 1]
    assert server.data[3584:4096] == b"y" * 512
    disk.used(1)


def test_a_server_that_goes_leaves_a_disk_that_fails(disk, warnings):
    server, disk = disk()
    server.held = 100
    for n in range(20):
        disk.begin(READ if n % 2 else WRITE, n, 512 if n % 2 else b"z" * 512)
    disk.notify()
    while len(server.requests) < 20:
        time.sleep(0.001)
    server.gone()
    disk.used(20)
    for _ in range(5):
        assert disk.do(READ, 0, 512)[0] == IO_ERROR
    assert not disk.ring.driver.status() & NEEDS_RESET
    assert len(warnings) == 1 and "failed (the NBD server has gone), and the guest got an I/O error" in warnings[0]
