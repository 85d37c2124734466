"""docs/devices.md names every device and every property there is."""

from pathlib import Path

import pytest

from powervisor.block.drives import BlockdevOptions, DriveOptions
from powervisor.devices.models import MODELS, PORTS
from powervisor.net.netdevs import OBJECTS, TYPES
from powervisor.properties import properties

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text()


DEVICES = {**MODELS, **PORTS}


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_is_on_the_page_with_its_properties(name):
    assert f"| `{name}` |" in PAGE
    missing = [one.name for one in properties(DEVICES[name].options_type) if f"`{one.name}`" not in PAGE]
    assert not missing


@pytest.mark.parametrize("options", [DriveOptions, BlockdevOptions])
def test_every_property_of_storage_is_on_the_page(options):
    missing = [one.name for one in properties(options) if f"`{one.name}`" not in PAGE and f"`{one.name}=" not in PAGE]
    assert not missing


@pytest.mark.parametrize("name", TYPES)
def test_every_network_is_on_the_page_with_its_properties(name):
    assert f"| `{name}` |" in PAGE
    rest = PAGE[PAGE.index("## Networks") :]
    names = [one.name for one in properties(TYPES[name].options_type) if one.name != "id"]
    assert not [one for one in names if f"`{one}`" not in rest and f"`{one}=" not in rest]


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_is_on_the_page(name):
    assert f"-object {name}," in PAGE
    missing = [one.name for one in properties(OBJECTS[name][1]) if f"{one.name}=" not in PAGE]
    assert not [one for one in missing if f"`{one}`" not in PAGE]
