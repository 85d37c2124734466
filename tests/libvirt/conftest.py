"""One libvirtd for all tests, and machines that many share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.libvirt.daemons import Daemons
from tests.libvirt.domains import NETWORK, RANDOM, disk
from tests.libvirt.guests import Guest, linux

MEBIBYTE = 1 << 20
CORES = ["e500mc", pytest.param("e5500", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def daemons() -> Iterator[Daemons]:
    """The system's libvirtd for root, else the session's."""
    made = Daemons()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session", params=CORES)
def guest(daemons: Daemons, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """Linux at its shell: two vCPUs, a disk, a network, a balloon, random numbers. Leave it running, at the prompt."""
    image = daemons.directory / f"{request.param}.img"
    with image.open("wb") as file:
        file.truncate(16 * MEBIBYTE)
    made = Guest(daemons, linux(daemons, request.param, devices=[disk(image), NETWORK, RANDOM], append="ip=dhcp"))
    try:
        made.boot()
        yield made
    finally:
        made.close()


@pytest.fixture
def guests(daemons: Daemons) -> Iterator[object]:
    """`guests(definition)`: a domain that is gone after the test."""
    made: list[Guest] = []

    def make(definition: object) -> Guest:
        made.append(Guest(daemons, definition))  # type: ignore[arg-type]
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()
