"""What holds for each device of the board, whatever it is."""

import random

import pytest

from powervisor.boards import registry
from powervisor.devices.models import plug
from powervisor.devices.services import Services
from powervisor.memory.space import Dma
from tests.support.virtio_driver import Immediate
from tests.support.wire import Wire

NAMES = [part.name for part in registry.get("ppce500").parts if part.make and part.name != "mpic"] + ["pci-function"]
PLUGGED = {"eTSEC": "eTSEC,id=eTSEC,netdev=n"}
"""Devices that are not the board's, and how they are asked for. Those on PCI are in virtio/test_state.py."""
NAMES += PLUGGED


def find(bench, name):
    if name in PLUGGED:
        services = Services(Dma(bench.space), hire=Immediate)
        services.netdevs.by_name["n"] = Wire("n")
        plug([PLUGGED[name]], bench.buses(), services)
        (card,) = bench.device("platform").cards
        return (card.parts() or [card])[0]
    return next(device for device in bench.built.everything() if device.name == name)


def disturb(device, seed, accesses=2000):
    """Random accesses of every size, misaligned and past the window too; results must fit their size."""
    rng = random.Random(seed)
    for _ in range(accesses):
        size = rng.choice((1, 2, 4))
        offset = rng.choice((rng.randrange(0x40), rng.randrange(device.size + 1)))
        if rng.random() < 0.5:
            device.write(offset, size, rng.choice((0, 0xFFFF_FFFF, rng.getrandbits(32))) & (1 << 8 * size) - 1)
        else:
            assert 0 <= device.read(offset, size) < 1 << 8 * size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_state_saved_under_fuzz_restores_exactly(bench, name, seed):
    device = find(bench, name)
    fresh = device.save()
    disturb(device, seed)
    bench.clock.advance(50_000_000)
    saved = device.save()
    pins = {pin: output.level for pin, output in device.irqs().items()}
    device.reset()
    device.restore(saved)
    assert device.save() == saved
    assert {pin: output.level for pin, output in device.irqs().items()} == pins
    kept = {name for name, declared in device._state.items() if declared.keep}
    device.reset()
    assert {k: v for k, v in device.save().items() if k not in kept} == {
        k: v for k, v in fresh.items() if k not in kept
    }


@pytest.mark.parametrize("name", NAMES)
def test_saved_state_is_a_copy(bench, name):
    device = find(bench, name)
    saved = device.save()
    disturb(device, 7)
    device.restore(saved)
    assert device.save() == saved


@pytest.mark.parametrize("name", NAMES)
def test_unknown_parts_of_saved_state_are_refused(bench, name):
    device = find(bench, name)
    before = device.save()
    with pytest.raises(ValueError, match="warp_drive"):
        device.restore({**before, "warp_drive": 1})
    assert device.save() == before


def test_fuzzing_all_windows_never_raises(bench):
    rng = random.Random(1)
    windows = bench.space.windows
    for _ in range(30_000):
        window, size = rng.choice(windows), rng.choice((1, 2, 4, 8))
        pa = window.base + rng.randrange(window.size // size) * size
        if rng.random() < 0.5:
            bench.space.write(pa, size, rng.getrandbits(8 * size))
        else:
            assert 0 <= bench.space.read(pa, size) < 1 << 8 * size
    for device in bench.built.everything() + bench.built.silent:
        assert len(device.counters.unknown) <= device.counters.MAX_OFFSETS


def test_missing_names_in_saved_state_mean_reset_values(bench):
    gpio = bench.device("gpio")
    gpio.write(0x10, 4, 0xFFFF)
    gpio.restore({"registers": {"direction": [5]}})
    assert (gpio.direction.value, gpio.mask.value) == (5, 0)


def test_statistics_name_what_happened(bench):
    uart = bench.device("serial0")
    assert uart.statistics() == {}
    bench.write(0x4501, 2, 1)
    bench.read(0x4510, 1)
    assert uart.statistics() == {"reads": 1, "writes": 1, "irq raised": 1, "unknown 0x10": 1}


def test_accesses_without_register_are_counted_by_offset(bench):
    bench.read(0x8500)
    bench.write(0xE_0300, 1)
    bench.write(0xE_0300, 1)
    assert bench.device("guts").counters.unknown == {0x300 + i: 2 for i in range(4)}
    bench.read(0x2_F000)
    silent = next(s for s in bench.built.silent if s.base <= 0x2_F000 < s.base + s.length)
    assert silent.counters.unknown == {0x2_F000: 1}
