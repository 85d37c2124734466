"""The platform bus: windows, interrupts and nodes for what is plugged into it."""

from dataclasses import dataclass

import pytest

from powervisor import Machine
from powervisor.boards.devicetree import flatten, parse
from powervisor.devices import models
from powervisor.devices.irq import IrqOutput
from powervisor.devices.platform import PlatformCard, PlatformOptions
from powervisor.devices.registers import Register, Word
from powervisor.devices.services import Services
from powervisor.errors import UserError
from powervisor.memory.space import BusError, Dma
from powervisor.properties import NUMBER, prop

BASE = 0xF_0000_0000


@dataclass(frozen=True)
class LampOptions(PlatformOptions):
    at: int | None = prop(None, "offset of its window", NUMBER)


class Lamp(PlatformCard):
    model, summary, options_type = "lamp", "for tests", LampOptions
    size = 0x1800
    brightness = Register(0x10, Word)

    def __init__(self, name, options, services):
        self.pins = [IrqOutput() for _ in range(3)]
        self.at = options.at
        super().__init__(name, options, services)

    def attach(self, bus):
        offset = bus.claim_window(self.name, self.size, self, self.at)
        node = bus.add_node(f"lamp@{offset:x}").set("reg", offset, self.size)
        node.set("interrupts", *bus.claim_interrupts(*self.pins))


@pytest.fixture(autouse=True)
def lamp(monkeypatch):
    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "lamp": Lamp})


@pytest.fixture
def plug(bench):
    def plug(*texts):
        bus = bench.device("platform")
        return models.plug(texts, {"platform": bus, "pci.0": bench.device("pci").bus}, Services(Dma(bench.space)))

    return plug


def nodes(tree):
    node = parse(flatten(tree), "test").find("/platform@f00000000")
    return {child.name: {name: b"".join(value) for name, value in child.properties.items()} for child in node.children}


def words(*numbers):
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def test_windows_are_aligned_and_answer_where_the_tree_says(bench, plug):
    first, second = plug("lamp", "lamp,id=second")
    assert nodes(bench.built.tree) == {
        "lamp@0": {"reg": words(0, 0x1800), "interrupts": words(5, 2, 6, 2, 7, 2)},
        "lamp@2000": {"reg": words(0x2000, 0x1800), "interrupts": words(8, 2, 9, 2, 10, 2)},
    }
    bench.space.write(BASE + 0x2010, 4, 77)
    assert (first.brightness.value, second.brightness.value) == (0, 77)
    assert [first.name, second.name] == ["lamp@0", "second"]
    with pytest.raises(BusError):
        bench.space.read(BASE + 0x1800, 4)


def test_pins_lead_to_the_sources_the_tree_names(bench, plug):
    first, second = plug("lamp", "lamp")
    first.pins[2].set(True)
    second.pins[0].set(True)
    assert {source for source, line in bench.irqchip.lines.items() if line.level} == {7, 8}


def test_a_window_may_have_its_place_and_others_go_around_it(plug):
    taken, free = plug("lamp,at=0x800", "lamp")
    assert free.name == "lamp@1" and taken.at == 0x800


def test_cards_are_reset_and_counted_with_the_board(bench, plug):
    (card,) = plug("lamp")
    assert card in bench.built.everything()
    bench.space.write(BASE + 0x10, 4, 5)
    for device in bench.built.everything():
        device.reset()
    assert card.brightness.value == 0 and bench.space.read(BASE + 0x10, 4) == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lamp"] * 4, "devices lamp: platform has 1 interrupts left, 3 are needed; leave a device out"),
        (["lamp,at=0x7ffffff"], "devices lamp: platform has no 6144 bytes left at 0x7ffffff; leave a device out"),
        (["lamp,at=0x800", "lamp,at=0"], "platform has no 6144 bytes left at 0x0"),
        (["lamp,bus=pci.0"], "lamp: no bus 'pci.0'; there is platform"),
        (["virtio-rng-pci,bus=platform"], "virtio-rng-pci: no bus 'platform'; there is pci.0"),
        (["lamp,id=a", "virtio-rng-pci,id=a"], "id=a is taken"),
        (["lamp,addr=3"], "unknown property 'addr'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(plug, texts, message):
    with pytest.raises(UserError, match=message) as error:
        plug(*texts)
    assert "\n" not in str(error.value)


def test_the_guests_tree_has_what_was_plugged_in():
    with Machine(devices=["lamp"]) as machine:
        tree = parse(machine.device_tree_blob, "test")
    assert [node.name for node in tree.find("/platform@f00000000").children] == ["lamp@0"]
