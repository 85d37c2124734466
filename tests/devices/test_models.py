"""Devices by name: plugging, places on the bus, help, and what cannot be."""

import pytest

from powervisor.devices import models
from powervisor.devices.services import Services
from powervisor.errors import UserError
from powervisor.memory.space import Dma


@pytest.fixture
def plug(bench):
    def plug(*texts):
        bus = bench.device("pci").bus
        models.plug(texts, {"pci.0": bus}, Services(Dma(bench.space)))
        return {place: function.name for place, function in bus.functions.items() if place[0]}

    yield plug
    for device in bench.built.everything():
        device.close()


def test_devices_take_the_first_free_slots(plug):
    assert plug("virtio-rng-pci", "virtio-rng-pci,id=second") == {(1, 0): "virtio-rng-pci@1", (2, 0): "second"}


def test_places_that_were_chosen_are_kept_for_them(plug):
    texts = (
        "virtio-rng-pci,id=free",
        "virtio-rng-pci,addr=0x1,id=first",
        "virtio-rng-pci,addr=1f.7",
        "virtio-rng-pci,addr=1f",
    )
    assert plug(*texts) == {
        (1, 0): "first", (0x1F, 0): "virtio-rng-pci@1f", (0x1F, 7): "virtio-rng-pci@1f.7", (2, 0): "free"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["virtio-rgn-pci"], "devices virtio-rgn-pci: no device of that name; there is virtio-rng-pci"),
        (["virtio-rng-pci,adr=3"], "unknown property 'adr'; did you mean addr"),
        (["virtio-rng-pci,addr=0"], "addr=0 is no slot; write 1 to 1f"),
        (["virtio-rng-pci,addr=20"], "addr=20 is no slot"),
        (["virtio-rng-pci,addr=3.8"], "addr=3.8 is no slot"),
        (["virtio-rng-pci,addr=x"], "addr=x is no slot"),
        (["virtio-rng-pci,addr=3.1"], "addr=3.1 needs a device at addr=3 first"),
        (["virtio-rng-pci,addr=3,id=a", "virtio-rng-pci,addr=3"], "addr=3 is taken by a"),
        (["virtio-rng-pci,id=a", "virtio-rng-pci,id=a"], "id=a is taken"),
        (["virtio-rng-pci,bus=pci.1"], "no bus 'pci.1'; there is pci.0"),
        (["virtio-rng-pci"] * 32, "all slots of pci.0 are taken"),
        (["virtio-rng-pci,vectors=4000"], "vectors=4000 is not within 0..2048"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(plug, texts, message):
    with pytest.raises(UserError, match=message) as error:
        plug(*texts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_device_and_every_property_says_what_it_is(name):
    first, *rows = models.help_text(name).splitlines()
    assert first.startswith(f"{name}: ") and first.removeprefix(f"{name}: ") == dict(models.summaries())[name]
    assert len(rows) >= 3 and all(len(row.split("  ")[-1]) > 5 for row in rows)
