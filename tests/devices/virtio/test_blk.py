"""The block device as a driver uses it: requests, limits, what may not be, and errors of the host."""

import errno
import os
import random
import struct

import pytest

from powervisor.block.drives import open_drives
from powervisor.devices.virtio import blk
from powervisor.errors import UserError
from tests.support.virtio_driver import (
    ACCESS_PLATFORM,
    EVENT_INDEX,
    FEATURES_OK,
    INDIRECT,
    NEEDS_RESET,
    PACKED,
    VERSION_1,
)

READ, WRITE, FLUSH, IDENTIFY, DISCARD, ZEROES = 0, 1, 4, 8, 11, 13
OK, IO_ERROR, UNSUPPORTED = b"\0", b"\1", b"\2"
SECTORS = 256
ALL = blk.FLUSH | blk.DISCARD | blk.WRITE_ZEROES | blk.CONFIG_WCE


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(random.Random(1).randbytes(512 * SECTORS))
    return path


@pytest.fixture
def disk(plugged, services, image):
    """Plug the image in: `disk("readonly=on", "serial=abc")`."""

    def disk(drive="", device="", **driving):
        services.drives = open_drives([f"file={image},if=none,id=d,{drive}"])
        return plugged(f"virtio-blk-pci,drive=d,{device}", **driving)

    yield disk
    services.drives.close()


class Disk:
    """A running queue, with requests as calls."""

    def __init__(self, ring):
        self.ring = ring

    def header(self, kind, sector=0):
        return struct.pack(self.ring.order + "IIQ", kind, 0, sector)

    def request(self, kind, sector, *contents, **how):
        data, written = self.ring.do(self.header(kind, sector), *contents, 1, **how)
        assert written == len(data) if data[-1:] == OK and len(data) > 1 else written == 1
        return data

    def read(self, sector, count, **how):
        return self.request(READ, sector, 512 * count, **how)

    def write(self, sector, data, **how):
        return self.request(WRITE, sector, data, **how)

    def ranges(self, kind, *ranges):
        return self.request(kind, 0, b"".join(struct.pack(self.ring.order + "QII", *one) for one in ranges))


@pytest.fixture
def running(disk):
    def running(drive="", device="", features=ALL, **driving):
        return Disk(disk(drive, device, **driving).start(features, size=16))

    return running


WAYS = {"split": (ALL, False), "packed": (ALL | PACKED, False), "legacy": (0, True)}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_is_read_and_is_in_the_image(running, image, way):
    features, legacy = WAYS[way]
    running = running(device="packed=on", features=features, legacy=legacy)
    content = image.read_bytes()
    assert running.read(3, 2) == content[1536:2560] + OK
    data = random.Random(2).randbytes(1024)
    assert running.write(5, data) == OK
    assert running.request(WRITE, 7, data[:100], data[100:512]) == OK
    assert image.read_bytes() == content[:2560] + data + data[:512] + content[4096:]
    assert running.request(READ, 5, 100, 900, 24) == data + OK
    assert running.request(FLUSH, 0) == OK


def test_requests_may_be_cut_anywhere(running, image):
    running = running(features=ALL | INDIRECT | EVENT_INDEX)
    header = running.header(WRITE, 1) + b"x" * 512
    data, _ = running.ring.do(header[:5], header[5:20], header[20:], 1, indirect=True)
    assert data == OK and image.read_bytes()[512:1024] == b"x" * 512
    data, _ = running.ring.do(running.header(READ, 1), 513)
    assert data == b"x" * 512 + OK


def test_configuration_tells_size_and_limits(disk, image):
    driver = disk(device="logical_block_size=4K,physical_block_size=16K,num-queues=3,queue-size=128")
    assert driver.configuration(0, 4) == SECTORS and driver.configuration(4, 4) == 0
    assert driver.configuration(12, 4) == 126, "segments"
    assert driver.configuration(20, 4) == 4096 and driver.configuration(24, 1) == 2
    assert driver.configuration(34, 2) == 3 and driver.common(0x12, 2) == 3
    assert driver.configuration(44, 4) == 8, "alignment of discards in sectors"
    assert driver.configuration(60, 4) == 0
    driver.common(0x16, 2, 2)
    assert driver.common(0x18, 2) == 128


def test_legacy_configuration_is_in_the_guests_order(disk):
    driver = disk(legacy=True)
    assert b"".join(bytes([driver.configuration(at, 1)]) for at in range(8)) == SECTORS.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("properties", "offered", "missing"),
    [
        ("", ALL | blk.BLK_SIZE | blk.SEG_MAX | blk.TOPOLOGY, blk.RO | blk.MQ),
        ("discard=off,write-zeroes=off,config-wce=off", blk.FLUSH, blk.DISCARD | blk.WRITE_ZEROES | blk.CONFIG_WCE),
        ("num-queues=2", blk.MQ, blk.RO),
    ],
)
def test_features_follow_the_properties(disk, properties, offered, missing):
    features = disk(device=properties).offered()
    assert features & offered == offered and not features & missing


def test_a_read_only_disk_refuses_to_change(disk, image):
    content = image.read_bytes()
    driver = disk("readonly=on")
    assert driver.offered() & blk.RO and not driver.offered() & (blk.DISCARD | blk.WRITE_ZEROES)
    running = Disk(driver.start(blk.RO | blk.FLUSH))
    assert running.read(0, 1) == content[:512] + OK
    assert running.write(0, b"x" * 512) == IO_ERROR
    assert running.ranges(ZEROES, (0, 1, 0)) == UNSUPPORTED
    assert image.read_bytes() == content


@pytest.mark.parametrize("sector, count", [(SECTORS, 1), (SECTORS - 1, 2), (1 << 54, 1), ((1 << 64) - 1, 1)])
def test_beyond_the_end_is_an_error(running, image, sector, count):
    running = running()
    content = image.read_bytes()
    assert running.read(sector, count)[-1:] == IO_ERROR
    assert running.write(sector, b"x" * 512 * count) == IO_ERROR
    assert running.ranges(DISCARD, (sector, count, 0)) == IO_ERROR
    assert running.ranges(ZEROES, (0, 1, 0), (sector, count, 0)) == IO_ERROR
    assert image.read_bytes() == content, "not even the range that was good"


def test_parts_of_blocks_are_an_error(running):
    running = running(device="logical_block_size=4096")
    assert running.read(0, 8)[-1:] == OK
    assert running.read(1, 8)[-1:] == IO_ERROR
    assert running.request(READ, 0, 4000)[-1:] == IO_ERROR
    assert running.write(0, b"x" * 512) == IO_ERROR


def test_discards_and_zeros(running, image):
    running = running("discard=unmap")
    content = image.read_bytes()
    assert running.ranges(ZEROES, (8, 8, 1), (24, 8, 0)) == OK
    expected = content[:4096] + bytes(4096) + content[8192:12288] + bytes(4096) + content[16384:]
    assert image.read_bytes() == expected
    before = image.stat().st_blocks
    assert running.ranges(DISCARD, (128, 128, 0)) == OK
    assert image.stat().st_blocks < before
    for kind, one in ((DISCARD, (0, 1, 1)), (ZEROES, (0, 1, 2))):
        assert running.ranges(kind, one) == UNSUPPORTED, "flags"
    assert running.ranges(ZEROES) == UNSUPPORTED
    assert running.request(ZEROES, 0, b"x" * 15) == UNSUPPORTED
    assert running.ranges(ZEROES, *[(0, 1, 0)] * 17) == UNSUPPORTED
    assert running.ranges(ZEROES, (0, 1 << 31, 0)) == IO_ERROR


def test_serial_number(running):
    running = running(device="serial=SN-123456789")
    assert running.request(IDENTIFY, 0, 20) == b"SN-123456789".ljust(20, b"\0") + OK
    assert running.request(IDENTIFY, 0, 5) == b"SN-12" + OK


@pytest.mark.parametrize("kind", [2, 3, 5, 7, 0xFFFF_FFFF])
def test_other_requests_are_unsupported(running, kind):
    assert running(device="").request(kind, 0, 512)[-1:] == UNSUPPORTED


@pytest.mark.parametrize("contents", [(b"short", 1), (b"x" * 16,), (1,), ()])
def test_requests_that_are_none_stop_the_device(running, warnings, contents):
    running = running()
    if contents:
        running.ring.add(*contents)
    else:
        running.ring.offer([(0, 0, 0)])
    running.ring.driver.notify(0)
    assert running.ring.driver.status() & NEEDS_RESET
    assert len(warnings) == 1 and "a request without header or status" in warnings[0]


def test_errors_of_the_host_reach_the_guest_and_once_the_user(running, warnings, services):
    running = running()
    backend = services.drives.by_name["d"].backend

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    backend.writev = backend.flush = fails
    for _ in range(5):
        assert running.write(0, b"x" * 512) == IO_ERROR
        assert running.request(FLUSH, 0) == IO_ERROR
    assert running.read(0, 1)[-1:] == OK
    assert len(warnings) == 1 and warnings[0].startswith("virtio-blk-pci@1: drives file=")
    assert "write failed (No space left on device), and the guest got an I/O error" in warnings[0]


@pytest.mark.parametrize(
    ("device", "features", "flushes"),
    [("", ALL, 0), ("", 0, 1), ("write-cache=off", ALL, 1), ("write-cache=on", ALL, 0)],
)
def test_drivers_that_do_not_flush_need_not(running, services, device, features, flushes):
    running = running(device=device, features=features)
    flushed = []
    services.drives.by_name["d"].backend.flush = lambda: flushed.append(1)
    running.write(0, b"x" * 512)
    assert len(flushed) == flushes


def test_the_guest_switches_its_cache(running, services):
    running = running()
    driver = running.ring.driver
    flushed = []
    services.drives.by_name["d"].backend.flush = lambda: flushed.append(1)
    assert driver.configuration(32, 1) == 1
    driver.configuration(32, 1, 0)
    assert driver.configuration(32, 1) == 0
    running.write(0, b"x" * 512)
    assert flushed == [1]


def test_many_requests_are_answered_with_few_interrupts(running):
    running = running()
    for n in range(5):
        running.ring.add(running.header(READ, n), 512, 1)
    running.ring.driver.notify(0)
    assert len(running.ring.used()) == 5 and running.ring.driver.messages == [1]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("virtio-blk-pci", "drive= is missing"),
        ("virtio-blk-pci,drive=x", "drive=x: no such drive; there is d"),
        ("virtio-blk-pci,drive=d,logical_block_size=1000", "logical_block_size=1000 cannot be"),
        ("virtio-blk-pci,drive=d,logical_block_size=4K,physical_block_size=512", "physical_block_size=512 cannot be"),
        ("virtio-blk-pci,drive=d,queue-size=100", "queue-size=100 cannot be"),
        ("virtio-blk-pci,drive=d,serial=123456789012345678901", "is too long; write at most 20"),
        (
            "virtio-blk-pci,drive=d,logical_block_size=1M",
            "131072 bytes of drive d are no whole blocks",
        ),
    ],
)
def test_disks_that_cannot_be(plugged, services, image, device, message):
    services.drives = open_drives([f"file={image},if=none,id=d"])
    with pytest.raises(UserError, match=message):
        plugged(device)
    services.drives.close()


def test_bus_addresses(disk, image):
    driver = disk(device="iommu_platform=on")
    driver.guest.inbound(0xDE0, 0, 0, 26)
    assert driver.negotiate(VERSION_1 | ACCESS_PLATFORM) & FEATURES_OK
    assert Disk(driver.start(ACCESS_PLATFORM)).read(0, 1) == image.read_bytes()[:512] + OK


@pytest.mark.parametrize("seed", range(3))
def test_random_requests_never_raise_and_stay_inside(running, image, seed):
    rng = random.Random(seed)
    running = running()
    for _ in range(300):
        kind = rng.choice((READ, WRITE, FLUSH, IDENTIFY, DISCARD, ZEROES, rng.getrandbits(32)))
        sector = rng.choice((rng.randrange(SECTORS + 5), rng.getrandbits(64)))
        contents = [
            rng.choice((rng.randbytes(rng.choice((16, 32, 512))), rng.choice((1, 512, 1024)))) for _ in range(3)
        ]
        contents.sort(key=lambda content: isinstance(content, int))
        data, _ = running.ring.do(running.header(kind, sector), *contents, 1)
        assert data[-1:] in (OK, IO_ERROR, UNSUPPORTED)
    assert image.stat().st_size == 512 * SECTORS
