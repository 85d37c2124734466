"""Every device under attack: nothing is raised or touched outside, little is told, and after a reset it works.

SEED=N in the environment begins elsewhere: `SEED=7 pytest tests/devices/virtio/test_hostile_guests.py`.
"""

import os
import random
import struct

import pytest

from powervisor.devices.models import MODELS, plug
from tests.support import esdhc_driver, etsec_driver, flash_driver
from tests.support.etsec_driver import FRAMES
from tests.support.furnished import DISK, Furniture
from tests.support.hostile import E1000_RINGS, Hostile
from tests.support.i2c_master import Rom
from tests.support.ninep_client import text
from tests.support.virtio_driver import NEEDS_RESET, RINGS, Driver

SECRET = random.Random(11).randbytes(32)
MOST_LINES = 12
SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture
def given(tmp_path):
    """A directory for what the machine is given, with something of the host's beside it."""
    given = tmp_path / "given"
    given.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    return given


def beside(directory):
    """All files of a directory but what was given, with what is in them."""
    return {
        path.relative_to(directory): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.is_file() and path.read_bytes(),
        )
        for path in directory.rglob("*")
        if "given" not in path.relative_to(directory).parts[:1]
    }


@pytest.fixture
def attacked(services, given, bench):
    """A device, furnished, and its attacker."""
    furniture = Furniture(services, given)
    (furniture.share / "out").symlink_to(given.parent)
    (furniture.share / "directory").mkdir()

    def attacked(model, seed):
        (card,) = plug(furniture.words(model), bench.buses(), services)
        return Hostile(bench, card, furniture, seed)

    yield attacked
    for device in bench.built.everything():
        device.close()
    furniture.close()


def works(hostile, bench):
    """What the device is for, after a reset by its driver."""
    model, furniture = hostile.card.model, hostile.furniture
    furniture.wire.full = False
    if furniture.wire.nic:
        furniture.wire.nic.sendable()
    for line in furniture.lines.values():
        line.free, line.connected = 1 << 20, True
    if hostile.slot is None:
        works_off_pci(hostile, bench)
        return
    driver = Driver(bench, hostile.slot)
    if model == "e1000":
        driver.guest.inbound(0xDE0, 0, 0, 26)
        write = lambda offset, value: hostile.card.bar_write(0, offset, 4, value)  # noqa: E731
        write(0, 1 << 26)
        furniture.wire.pull(True)
        frame = bytes(range(60))
        bench.space.ram[RINGS : RINGS + 16] = struct.pack("<QII", RINGS + 0x1000, len(frame) | 0xB << 24, 0)
        bench.space.ram[RINGS + 0x1000 : RINGS + 0x1000 + len(frame)] = frame
        for offset, value in ((0, RINGS), (4, 0), (8, 128), (16, 0), (24, 0)):
            write(E1000_RINGS[1] + offset, value)
        write(0, 0x40)
        write(0x400, 0x1000A)
        write(E1000_RINGS[1] + 24, 1)
        assert furniture.wire.take() == [frame]
        return
    driver.status(0)
    assert driver.status() == 0
    rings = driver.start(0, queues=len(hostile.virtio.queues))
    ring = rings[0] if isinstance(rings, list) else rings
    if model == "virtio-blk-pci":
        assert ring.do(struct.pack("<IIQ", 1, 0, 3), b"w" * 512, 1)[0] == b"\0"
        assert ring.do(struct.pack("<IIQ", 0, 0, 3), 513)[0] == b"w" * 512 + b"\0"
    elif model == "virtio-9p-pci":
        message = struct.pack("<IBHI", 21, 100, 7, 8192) + text("9P2000.L")
        assert ring.do(message, 100)[0][:11] == struct.pack("<IBHI", 21, 101, 7, 8192)
    elif model == "virtio-net-pci":
        furniture.wire.pull(True)
        rings[1].do(bytes(12) + b"f" * 60)
        assert furniture.wire.take() == [b"f" * 60]
    elif model == "virtio-serial-pci":
        rings[1].do(b"typed")
        assert furniture.lines["c"].sent == b"typed"
    elif model == "virtio-balloon-pci":
        at = 33 << 20
        bench.space.ram[at : at + 4] = b"here"
        ring.do(struct.pack("<I", at >> 12))
        assert bench.space.ram[at : at + 4] == bytes(4)
    else:
        assert ring.do(16)[1] == 16
    assert not driver.status() & NEEDS_RESET


def works_off_pci(hostile, bench):
    """The same after the board's reset: their own, where they have one, leaves what drivers do not write."""
    model, furniture = hostile.card.model, hostile.furniture
    for device in bench.built.everything():
        device.reset()
    if model == "eTSEC":
        furniture.wire.pull(True)
        assert etsec_driver.Driver(bench, furniture.wire).start().send(FRAMES[1]) == [FRAMES[1]]
    elif model == "sd-card":
        driver = esdhc_driver.Driver(bench)
        driver.table((esdhc_driver.BUFFER, 512))
        done = driver.blocks(17, 0, 1, esdhc_driver.DMA | esdhc_driver.READ)
        assert done == esdhc_driver.CC | esdhc_driver.TC | esdhc_driver.DINT
    elif model == "cfi.pflash01":
        flash = flash_driver.Driver(bench, hostile.card)
        assert flash.erase(0) == flash_driver.READY
        assert flash.array(0, 8) == b"\xff" * 8
    else:
        rom = Rom(bench, wide=True)
        rom.write(0, b"eeprom")
        assert rom.read(0, 6) == b"eeprom"


def survive(hostile, bench, warnings, given, steps):
    before, descriptors = beside(given.parent), len(os.listdir("/proc/self/fd"))
    hostile.attack(steps)
    assert len(warnings) <= MOST_LINES and not any("\n" in line for line in warnings), warnings
    works(hostile, bench)
    assert beside(given.parent) == before
    assert sorted(path.name for path in given.iterdir()) == ["disk", "share"]
    assert hostile.furniture.disk.stat().st_size == DISK
    assert SECRET not in bench.space.ram[0 : len(bench.space.ram)]
    assert len(os.listdir("/proc/self/fd")) <= descriptors, "files that were opened were closed"
    assert hostile.card.name and min(hostile.done.values()) > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_hostile_guest_harms_nobody(attacked, bench, warnings, given, model):
    survive(attacked(model, SEED), bench, warnings, given, 300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED, SEED + 10))
@pytest.mark.parametrize("model", MODELS)
def test_a_hostile_guest_harms_nobody_for_long(attacked, bench, warnings, given, model, seed):
    survive(attacked(model, seed), bench, warnings, given, 1500)
