"""The memory balloon as a driver uses it: pages to the host and back, the target, statistics, free pages."""

import os
import struct
import threading

import pytest

from powervisor.devices.virtio import balloon
from powervisor.errors import PowervisorError
from tests.support.virtio_driver import NEEDS_RESET, PACKED

PAGE, MEGABYTE = 4096, 1 << 20
AT = 32 * MEGABYTE


@pytest.fixture
def ram(bench):
    """RAM with something in 4 MiB of it."""
    bench.space.ram[AT : AT + 4 * MEGABYTE] = b"x" * (4 * MEGABYTE)
    return bench.space.ram


def device(driver):
    return driver.bench.built.devices["pci"].bus.functions[driver.slot, 0].balloon


def inflate(ring, frames):
    ring.do(struct.pack(f"{ring.order}{len(frames)}I", *frames))


@pytest.mark.parametrize(("features", "legacy"), [(0, False), (PACKED, False), (0, True)])
def test_pages_in_the_balloon_are_the_hosts(plugged, ram, features, legacy):
    driver = plugged("virtio-balloon-pci,packed=on", legacy=legacy)
    ring = driver.start(features)
    dropped = []
    driver.bench.space.on_write(lambda pa, n: dropped.append((pa, n)))
    before = os.fstat(ram.fd).st_blocks
    frames = [AT // PAGE + n for n in range(512)]
    inflate(ring, frames[300:] + frames[:256])
    # The page numbers themselves took a page or two.
    assert 465 * PAGE < (before - os.fstat(ram.fd).st_blocks) * 512 <= 468 * PAGE
    assert ram[AT : AT + 256 * PAGE] == bytes(256 * PAGE)
    assert ram[AT + 256 * PAGE : AT + 300 * PAGE] == b"x" * (44 * PAGE)
    assert (AT, 256 * PAGE) in dropped, "code translated from there is forgotten"
    ram[AT : AT + 4] = b"back"
    assert ram[AT : AT + 8] == b"back\0\0\0\0"


def test_legacy_drivers_tell_byte_by_byte_what_they_have(plugged, bench):
    driver = plugged("virtio-balloon-pci", legacy=True)
    driver.start()
    for actual in (0xFFFF, 0x1_0000, 0x123, 0):
        for at, byte in enumerate(actual.to_bytes(4, "little")):
            driver.configuration(4 + at, 1, byte)
        assert device(driver).actual == actual


def test_the_driver_hears_of_a_new_target(plugged, bench):
    driver = plugged("virtio-balloon-pci")
    driver.start()
    one, size = device(driver), len(bench.space.ram)
    assert one.target == one.memory == size and driver.configuration(0, 4) == 0
    generation = driver.common(0x15, 1)
    one.target = size - 5 * MEGABYTE
    assert driver.configuration(0, 4) == 5 * MEGABYTE // PAGE
    assert driver.messages == [0] and driver.common(0x15, 1) != generation
    driver.configuration(4, 4, 1000)
    assert one.memory == size - 1000 * PAGE and driver.configuration(4, 4) == 1000
    driver.configuration(4, 4, 0xFFFF_FFFF)
    assert one.memory == 0, "a guest that lies has nothing, not less"
    for wrong in (0, -1, size + 1):
        with pytest.raises(PowervisorError, match="not within"):
            one.target = wrong


def test_a_legacy_configuration_is_little_endian_too(plugged):
    driver = plugged("virtio-balloon-pci", legacy=True)
    driver.start()
    one = device(driver)
    one.target -= 3 * PAGE
    assert driver.configuration(0, 4) == 3


def test_statistics_are_fresh(plugged):
    driver = plugged("virtio-balloon-pci")
    rings = driver.start(balloon.STATISTICS, queues=3)
    ring, one = rings[2], device(driver)

    def fill(value):
        ring.add(struct.pack("<HQHQHQ", 4, value, 5, 2 * value, 77, 1))
        driver.notify(2)

    fill(1)
    assert ring.used() == [], "kept until somebody asks"
    threading.Timer(0.05, lambda: (ring.used(), fill(1000))).start()
    assert one.guest_statistics() == {"free-memory": 1000, "total-memory": 2000}
    with pytest.raises(PowervisorError, match="no statistics within 0.01 s"):
        one.guest_statistics(0.01)


def test_free_pages_are_given_back(plugged, ram):
    driver = plugged("virtio-balloon-pci,free-page-reporting=on")
    rings = driver.start(balloon.REPORTING, queues=3)
    before = os.fstat(ram.fd).st_blocks
    rings[2].offer([(AT, 2 * MEGABYTE, 2), (AT + 3 * MEGABYTE, MEGABYTE, 2)])
    driver.notify(2)
    assert rings[2].used() == [(0, 0)]
    assert 3 * MEGABYTE - 3 * PAGE < (before - os.fstat(ram.fd).st_blocks) * 512 <= 3 * MEGABYTE


def test_features_follow_the_properties(plugged):
    offered = plugged("virtio-balloon-pci,deflate-on-oom=on").offered()
    assert offered & (balloon.DEFLATE_ON_OOM | balloon.STATISTICS) and not offered & balloon.REPORTING


@pytest.mark.parametrize("numbers", [b"xyz", b"\xff\xff\xff\xff", b"\0\0\0\0" * (balloon.MOST_PAGES + 1)])
def test_pages_that_are_none_stop_the_device(plugged, warnings, numbers):
    driver = plugged("virtio-balloon-pci")
    ring = driver.start()
    ring.add(numbers)
    driver.notify(0)
    assert driver.status() & NEEDS_RESET and len(warnings) == 1


def test_a_host_that_cannot_is_told_of_once(plugged, warnings, ram, monkeypatch):
    ring = plugged("virtio-balloon-pci").start()

    def refuse(start, stop):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(ram, "discard", refuse)
    for _ in range(3):
        inflate(ring, [AT // PAGE])
    assert warnings == ["virtio-balloon-pci@1: the host does not take pages back (Operation not supported)"]
