"""virtio's structures over PCI: where they are, negotiation, queues, vectors; as QEMU's devices where it matters."""

import threading

import pytest

from powervisor.devices.models import plug
from powervisor.devices.services import Services
from powervisor.errors import UserError
from powervisor.memory.space import Dma
from tests.support.virtio_driver import (
    ACKNOWLEDGE,
    DRIVER_OK,
    EVENT_INDEX,
    FEATURES_OK,
    INDIRECT,
    NEEDS_RESET,
    PACKED,
    RINGS,
    VERSION_1,
    Driver,
)

NO_VECTOR = 0xFFFF


def test_structures_are_where_qemu_has_them(plugged):
    driver = plugged("virtio-rng-pci")
    found = []
    for at in driver.capabilities():
        if driver.config(at, 1) == 9:
            found.append(
                (driver.config(at + 3, 1), driver.config(at + 4, 1), driver.config(at + 8), driver.config(at + 2, 1))
            )
    assert found == [(1, 4, 0, 16), (3, 4, 0x1000, 16), (4, 4, 0x2000, 16), (2, 4, 0x3000, 20), (5, 0, 0, 20)]
    assert driver.config(0x2C) == 0x0004_1AF4


@pytest.mark.parametrize(
    ("text", "identity", "bars"),
    [
        ("virtio-rng-pci", 0x1005_1AF4, {0, 1, 4}),
        ("virtio-rng-pci,disable-legacy=on", 0x1044_1AF4, {1, 4}),
        ("virtio-rng-pci,disable-modern=on,vectors=0", 0x1005_1AF4, {0}),
    ],
)
def test_what_is_disabled_is_not_there(plugged, bench, text, identity, bars):
    driver = plugged(text, messages="vectors=0" not in text)
    assert driver.config(0) == identity
    assert driver.config(8, 1) == ("disable-legacy" in text)
    assert bench.built.devices["pci"].bus.functions[1, 0].bars.keys() == bars


def test_nothing_left_is_refused(plugged):
    with pytest.raises(UserError, match="devices virtio-rng-pci: disable-legacy=on and disable-modern=on"):
        plugged("virtio-rng-pci,disable-legacy=on,disable-modern=on")


@pytest.mark.parametrize(
    ("properties", "features"),
    [
        ("event_idx=on", EVENT_INDEX | INDIRECT),
        ("packed=on,event_idx=off", PACKED | INDIRECT),
        ("indirect_desc=off", EVENT_INDEX),
    ],
)
def test_features_are_offered_by_properties(plugged, properties, features):
    assert plugged(f"virtio-rng-pci,{properties}").offered() == VERSION_1 | features


def test_legacy_drivers_are_offered_legacy_features(plugged):
    assert plugged("virtio-rng-pci,packed=on", legacy=True).offered() == EVENT_INDEX | INDIRECT


def test_features_that_were_not_offered_are_not_accepted(plugged):
    driver = plugged("virtio-rng-pci")
    assert driver.negotiate(VERSION_1 | PACKED | 1) & FEATURES_OK
    driver.common(8, 4, 0)
    assert driver.common(0xC, 4) == 0
    driver.common(8, 4, 1)
    assert driver.common(0xC, 4) == VERSION_1 >> 32
    driver.common(0xC, 4, 0)
    assert driver.common(0xC, 4) == VERSION_1 >> 32, "negotiation is over"
    driver.common(8, 4, 7)
    assert driver.common(0xC, 4) == 0


def test_a_modern_driver_must_accept_version_1(plugged):
    assert not plugged("virtio-rng-pci").negotiate(0) & FEATURES_OK


def test_a_reset_forgets_everything(plugged):
    driver = plugged("virtio-rng-pci")
    driver.start()
    driver.status(0)
    assert driver.status() == 0
    driver.common(0x16, 2, 0)
    assert (driver.common(0x18, 2), driver.common(0x1A, 2), driver.common(0x1C, 2)) == (8, NO_VECTOR, 0)
    assert driver.common(0x20, 4) == 0 and driver.common(0x10, 2) == NO_VECTOR


@pytest.mark.parametrize(
    ("features", "size", "fits"),
    [
        (0, 4, True), (0, 1, True), (0, 0, False), (0, 3, False), (0, 16, False), (0, 0xFFFF, False),
        (PACKED, 3, True), (PACKED, 0, False), (PACKED, 9, False),
    ],
)  # fmt: skip
def test_a_queue_of_a_size_that_cannot_be_stops_the_device(plugged, warnings, features, size, fits):
    driver = plugged("virtio-rng-pci,packed=on")
    driver.negotiate(VERSION_1 | features)
    driver.common(0x16, 2, 0)
    driver.common(0x10, 2, 0)
    driver.common(0x18, 2, size)
    assert driver.common(0x18, 2) == size and not driver.status() & NEEDS_RESET
    for _ in range(3):
        driver.common(0x1C, 2, 1)
    driver.status(0xF)
    assert bool(driver.status() & NEEDS_RESET) != fits and driver.common(0x1C, 2) == fits
    assert len(warnings) == (not fits) and (fits or driver.messages[:1] == [0])
    if not fits:
        line = f"virtio-rng-pci@1: queue 0 is enabled with {size} entries, of 8 at most; the guest has to reset"
        assert warnings[0].startswith(line)
    driver.status(0)
    assert len(driver.start(features).do(16)[0]) == 16, "works after a reset"


def test_a_running_queue_cannot_be_moved(plugged):
    driver = plugged("virtio-rng-pci")
    driver.start()
    driver.common(0x20, 4, 0x5000)
    driver.common(0x18, 2, 2)
    driver.common(0x1C, 2, 0)
    assert (driver.common(0x20, 4), driver.common(0x18, 2), driver.common(0x1C, 2)) == (RINGS, 8, 1)


def test_queues_that_do_not_exist_have_no_size(plugged):
    driver = plugged("virtio-rng-pci")
    assert driver.common(0x12, 2) == 1
    driver.common(0x16, 2, 1)
    driver.common(0x1C, 2, 1)
    driver.common(0x20, 4, 1)
    assert (driver.common(0x18, 2), driver.common(0x1A, 2), driver.common(0x20, 4)) == (0, NO_VECTOR, 0)
    driver.notify(1)
    driver.notify(1000)


def test_vectors_that_do_not_exist_are_none(plugged):
    driver = plugged("virtio-rng-pci")
    driver.common(0x16, 2, 0)
    for at in (0x10, 0x1A):
        driver.common(at, 2, 1)
        assert driver.common(at, 2) == 1
        driver.common(at, 2, 2)
        assert driver.common(at, 2) == NO_VECTOR


def test_structures_are_reached_through_configuration_space(plugged):
    """As firmware does that has no place for BARs (virtio 1.2, 4.1.4.9)."""
    driver = plugged("virtio-rng-pci")
    driver.start()
    driver.guest.set_config(1, driver.window + 4, 4, 1)
    driver.guest.set_config(1, driver.window + 8, 0x14)
    driver.guest.set_config(1, driver.window + 12, 1)
    assert driver.config(driver.window + 16) == 0xF
    driver.guest.set_config(1, driver.window + 16, 0)
    assert driver.status() == 0
    for offset, length in ((0x4000, 1), (0x12, 3), (0x13, 2), (0xFFFF_FFFC, 4)):
        driver.guest.set_config(1, driver.window + 8, offset)
        driver.guest.set_config(1, driver.window + 12, length)
        driver.config(driver.window + 16)
        driver.guest.set_config(1, driver.window + 16, 0xFFFF_FFFF)
    assert driver.status() == 0


def test_random_bytes_come(plugged):
    ring = plugged("virtio-rng-pci").start()
    data, length = ring.do(64, 64)
    assert length == 128 and len(set(data)) > 50
    assert ring.do(b"to be read", 10)[1] == 10
    ring.add(1 << 20)
    ring.driver.notify(0)
    assert ring.used()[0][1] == 64 << 10, "a part, and the driver asks again"


def test_a_thread_of_its_own_serves_the_queues(bench):
    """The real worker: it may take the lock only after the vCPU's access is over, and a reset waits for it."""
    lock, came = threading.RLock(), threading.Event()
    bench.irqchip.write = lambda *access: came.set()
    services = Services(Dma(bench.space), lock=lock)
    (card,) = plug(["virtio-rng-pci"], {"pci.0": bench.device("pci").bus}, services)
    driver = Driver(bench)
    came.clear()
    ring = driver.start()
    with lock:
        (place,) = ring.add(4096)
        driver.notify(0)
        assert not came.wait(0.1)
        driver.status(0)
        assert ring.used() in ([], [(0, 4096)])
    assert not came.wait(0.1), "an interrupt that was late for the reset"
    ring = driver.start()
    with lock:
        ring.add(100)
        driver.notify(0)
    assert came.wait(5) and ring.used() == [(0, 100)]
    card.virtio.close()
    names = {thread.name for thread in threading.enumerate()}
    assert card.virtio.name not in names


def test_a_driver_acknowledges_first(plugged):
    driver = plugged("virtio-rng-pci")
    driver.status(ACKNOWLEDGE)
    assert driver.status() == ACKNOWLEDGE
    driver.start()
    assert driver.status() & DRIVER_OK
