"""What is saved of a device makes a new one of another machine the same."""

import random
from contextlib import ExitStack

import pytest

from powervisor.devices.models import MODELS, plug
from powervisor.devices.pci.card import PciCard
from powervisor.devices.services import Services
from powervisor.memory.ram import Ram
from powervisor.memory.space import Dma
from tests.devices.conftest import make_bench
from tests.support.furnished import Furniture
from tests.support.virtio_driver import Immediate


def furnished(stack, directory, model):
    """All devices of a board with a model plugged in."""
    directory.mkdir()
    ram = Ram(64 << 20)
    stack.callback(ram.close)
    bench = make_bench(ram)
    services = Services(Dma(bench.space), warn=lambda text: None, hire=Immediate)
    furniture = Furniture(services, directory)
    stack.callback(furniture.close)
    if model:
        plug([*furniture.words(model)], bench.buses(), services)
    devices = bench.built.everything()
    for device in devices:
        stack.callback(device.close)
    return bench, devices


def disturb(bench, devices, rng):
    """Random accesses to every window, configuration space and BAR."""
    for device in devices:
        for _ in range(300):
            size = rng.choice((1, 2, 4))
            value = rng.choice((0, 1, 0xFFFF_FFFF, rng.getrandbits(32))) & (1 << 8 * size) - 1
            if isinstance(device, PciCard):
                bar = rng.choice((*device.bars, None))
                if bar is None:
                    device.config_write(rng.randrange(0, 256, size), size, value)
                else:
                    length = min(rng.choice((0x40, 0x400, 1 << 20)), device.bars[bar].size)
                    device.bar_write(bar, rng.randrange(0, length, size), size, value)
            elif device.size:
                device.write(rng.randrange(0, min(device.size, 0x1000), size), size, value)
    bench.clock.advance(10_000_000)


def states(devices):
    found = []
    for device in devices:
        with device.still():
            found.append(device.save())
    return found


def restore(devices, saved):
    for device, values in zip(devices, saved, strict=True):
        with device.still():
            device.restore(values)


def pins(devices):
    return [{name: pin.level for name, pin in device.irqs().items()} for device in devices]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("model", ["", *MODELS])
def test_a_new_machine_is_made_the_same(tmp_path, model, seed):
    with ExitStack() as stack:
        bench, devices = furnished(stack, tmp_path / "a", model)
        disturb(bench, devices, random.Random(seed))
        saved, levels = states(devices), pins(devices)
        assert states(devices) == saved, "saving changes something"
        other, copies = furnished(stack, tmp_path / "b", model)
        other.clock.set(bench.clock.now_ns())
        for _ in range(2):
            restore(copies, saved)
            assert states(copies) == saved and pins(copies) == levels
