"""Cards in a slot of a board, served on the thread that notifies."""

import pytest

from powervisor.devices.models import plug
from tests.support.virtio_driver import Driver


@pytest.fixture
def plugged(bench, services):
    """Plug a device in, and drive it: `plugged("virtio-rng-pci,packed=on", legacy=True)`."""

    def plugged(text, *ports, **driving):
        buses = bench.built.devices["pci"].bus
        (card,) = plug([text, *ports], {"pci.0": buses}, services)
        slot = next(place for place, function in buses.functions.items() if function is card)[0]
        return Driver(bench, slot, **driving)

    yield plugged
    for device in bench.built.everything():
        device.close()
