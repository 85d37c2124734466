"""Saving, resetting and restoring plugged devices, as tests/devices/test_every_device.py does for the board's."""

import random

import pytest

from powervisor.devices.models import MODELS
from powervisor.devices.pci.card import PciCard
from tests.support.furnished import Furniture
from tests.support.virtio_driver import DRIVER_OK

CARDS = [name for name, model in MODELS.items() if issubclass(model, PciCard)]


@pytest.fixture
def card(plugged, services, tmp_path, request, bench):
    """A device of each model, with its BARs placed."""
    furniture = Furniture(services, tmp_path)
    driver = plugged(*furniture.words(request.param))
    yield driver, bench.built.devices["pci"].bus.functions[driver.slot, 0]
    furniture.close()


def devices(card):
    return [card, *card.parts()]


def saved(card):
    return [device.save() for device in devices(card)]


def disturb(card, seed):
    """Random accesses to configuration space and every BAR."""
    rng = random.Random(seed)
    for _ in range(2000):
        size = rng.choice((1, 2, 4))
        value = rng.choice((0, 1, 0xFFFF_FFFF, rng.getrandbits(32))) & (1 << 8 * size) - 1
        bar = rng.choice((*card.bars, None))
        if bar is None:
            card.config_write(rng.randrange(0, 256, size), size, value)
        else:
            length = rng.choice((0x40, card.bars[bar].size))
            card.bar_write(bar, rng.randrange(0, min(length, card.bars[bar].size), size), size, value)


@pytest.mark.parametrize("card", CARDS, indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_state_saved_under_fuzz_restores_exactly(card, seed):
    _, card = card
    for device in devices(card):
        device.reset()
    fresh = saved(card)
    disturb(card, seed)
    state, level = saved(card), card.irq.level
    for device in devices(card):
        device.reset()
    assert saved(card) == fresh
    for device, values in zip(devices(card), state, strict=True):
        device.restore(values)
    assert saved(card) == state and card.irq.level == level


@pytest.mark.parametrize("card", CARDS, indirect=True)
def test_unknown_parts_of_saved_state_are_refused(card):
    _, card = card
    for device in devices(card):
        with pytest.raises(ValueError, match="warp_drive"):
            device.restore({**device.save(), "warp_drive": 1})


@pytest.mark.parametrize("card", [name for name in MODELS if name.startswith("virtio")], indirect=True)
def test_unknown_parts_of_saved_queues_are_refused(card):
    _, card = card
    state = card.virtio.save()
    for queues in ([{"warp_drive": 1}], [{}] * 99):
        with pytest.raises(ValueError, match="queue"):
            card.virtio.restore({**state, "queues": queues})
    assert card.virtio.save() == state


@pytest.mark.parametrize("card", ["virtio-rng-pci"], indirect=True)
def test_an_interrupt_that_is_owed_comes_after_a_restore(card):
    driver, card = card
    ring = driver.start()
    notified = card.virtio.transport
    card.virtio.transport = type("Deaf", (), {"memory": notified.memory, "queue_interrupt": lambda *_: None})()
    ring.add(16)
    driver.notify(0)
    card.virtio.transport = notified
    assert len(ring.used()) == 1 and driver.messages == []
    state = saved(card)
    state[1]["queues"][0]["owes_interrupt"] = True  # as when saved before the worker had the lock
    for device, values in zip(devices(card), state, strict=True):
        device.restore(values)
    assert driver.status() & DRIVER_OK and driver.messages == [1]
