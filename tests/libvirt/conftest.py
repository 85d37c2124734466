"""One libvirtd for all tests, and machines that many share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.libvirt.daemons import POOL, Daemons
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


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Huge pages of the host for 256 MiB, of which libvirt makes the memory of ppc64, given back afterwards."""
    if os.getuid() != 0 or not POOL.exists():
        pytest.skip("only root reserves huge pages, where the kernel has them")
    before = POOL.read_text()
    POOL.write_text(str(int(before) + 128))
    try:
        if int(POOL.read_text()) < int(before) + 128:
            pytest.skip("the host has no 256 MiB in one piece for huge pages")
        yield
    finally:
        POOL.write_text(before)
