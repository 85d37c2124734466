"""An eTSEC on a board, served on the thread that rings its bell."""

import pytest

from powervisor.devices.models import plug
from powervisor.devices.services import Services
from powervisor.memory.space import Dma
from tests.support.etsec_driver import Driver
from tests.support.virtio_driver import Immediate
from tests.support.wire import Wire


@pytest.fixture
def plugged(bench, warnings):
    """Plug an eTSEC in, and drive it: `plugged(headers=True)`; `services` are those lent to it."""

    def plugged(headers=False, **services):
        lent = Services(Dma(bench.space), warn=warnings.append, **services)
        wire = lent.netdevs.by_name["n"] = Wire("n", headers=headers)
        plug(["eTSEC,netdev=n"], bench.buses(), lent)
        return Driver(bench, wire)

    yield plugged
    for device in bench.built.everything():
        device.close()


@pytest.fixture
def driver(plugged, request):
    """Its parameter tells whether frames have headers."""
    return plugged(getattr(request, "param", False), hire=Immediate)
