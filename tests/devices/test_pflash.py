"""NOR flash as its drivers use it: array, identifier, query, status, programs, erasing, locks, errors, nonsense."""

import errno
import os
import random

import pytest

from powervisor.block.drives import open_drives
from powervisor.devices.models import plug
from powervisor.errors import UserError
from tests.support.flash_driver import (
    ARRAY,
    BASE,
    CLEAR,
    CONFIRM,
    ERASE_FAILED,
    IDENTIFIER,
    LOCKED,
    PROGRAM_FAILED,
    QUERY,
    READY,
    STATUS,
    Driver,
)
from tests.support.wire import Wire

SIZE, SECTOR = 1 << 20, 64 << 10


@pytest.fixture
def content():
    return random.Random(5).randbytes(SIZE)


@pytest.fixture
def image(tmp_path, content):
    path = tmp_path / "nor.img"
    path.write_bytes(content)
    return path


@pytest.fixture
def flash(bench, services, image):
    """Plug in a bank, with further words for its drive and the device, and drive it."""

    def flash(drive="", device=""):
        services.drives = open_drives([f"file={image},if=none,id=f,format=raw{drive}"])
        (card,) = plug([f"cfi.pflash01,drive=f{device}"], bench.buses(), services)
        return Driver(bench, card)

    return flash


both = pytest.mark.parametrize("width", [2, 4])


@both
def test_the_array_reads_as_the_image_lies(flash, content, width):
    driver = flash(device=f",width={width}")
    assert driver.array(0, 64) == content[:64]
    for size in (1, 2, 4, 8):
        assert driver.read(SIZE - 8, size) == int.from_bytes(content[SIZE - 8 : SIZE - 8 + size], "big")


@both
def test_the_query_describes_the_chips(flash, width):
    driver = flash(device=f",width={width}")
    driver.command(0x55 * width, QUERY)
    assert bytes(driver.query(n) for n in range(0x10, 0x13)) == b"QRY"
    assert driver.read(0x10 * width) == driver.every(ord("Q"))
    assert (driver.query(0x13), driver.query(0x14)) == (1, 0)
    assert 1 << driver.query(0x27) == SIZE // driver.chips
    assert (driver.query(0x2D) | driver.query(0x2E) << 8) + 1 == SIZE // SECTOR
    assert (driver.query(0x2F) | driver.query(0x30) << 8) * 256 == SECTOR // driver.chips
    extended = driver.query(0x15)
    assert bytes(driver.query(extended + n) for n in range(5)) == b"PRI10"
    assert driver.query(0x8000) == 0
    driver.command(0, IDENTIFIER)
    assert (driver.status(0), driver.status(width), driver.status(2 * width)) == (0x89, 0x18, 0)


@both
def test_erased_blocks_are_ones_and_programs_make_zeros(flash, image, content, width):
    driver = flash(device=f",width={width}")
    assert driver.erase(SECTOR + 100 * width) == READY
    assert driver.array(SECTOR - 4, 8) == content[SECTOR - 4 : SECTOR] + b"\xff" * 4
    data = random.Random(width).randbytes(600)
    assert driver.program(SECTOR + 200 * width, data) == READY
    assert driver.array(SECTOR + 200 * width, 600) == data
    assert driver.program(SECTOR + 200 * width, b"\x0f" * 600) == READY
    expected = content[:SECTOR] + b"\xff" * 200 * width + bytes(byte & 0x0F for byte in data)
    assert image.read_bytes() == expected.ljust(2 * SECTOR, b"\xff") + content[2 * SECTOR :]


@pytest.mark.parametrize("command", [0x40, 0x10])
def test_single_words_are_programmed(flash, image, command):
    driver = flash()
    driver.erase(0)
    driver.command(6, command)
    driver.write(6, 0x1234)
    assert driver.status() == READY
    assert driver.array(4, 6) == bytes.fromhex("ffff1234ffff")
    assert image.read_bytes()[4:10] == bytes.fromhex("ffff1234ffff")


def test_bytes_and_doubles_of_the_bus_are_programmed(flash):
    driver = flash()
    driver.erase(0)
    for offset, value in ((1, 0x11), (2, 0x22)):
        driver.command(0, 0x40)
        driver.space.write(BASE + offset, 1, value)
    driver.space.write(BASE + 8, 4, 0x0040_3344)  # a command and its data, in one store
    assert driver.array(0, 12) == bytes.fromhex("ff1122ffffffffffffff3344")


def test_a_buffer_has_its_bounds(flash, content):
    driver = flash()
    driver.command(0, 0xE8, 512)  # 513 words
    assert driver.status() == READY | ERASE_FAILED | PROGRAM_FAILED
    driver.command(0, CLEAR)
    assert driver.status() == READY
    driver.command(1020, 0xE8, 3)
    driver.write(1022, 0)
    driver.write(1024, 0)  # in the next buffer
    assert driver.status() == READY | ERASE_FAILED | PROGRAM_FAILED
    assert driver.array(1020, 8) == content[1020:1028]


def test_a_command_that_is_not_confirmed_does_nothing(flash, image, content):
    driver = flash()
    driver.command(0, 0x20, ARRAY)
    assert driver.status() == READY | ERASE_FAILED | PROGRAM_FAILED
    driver.command(0, CLEAR, 0xE8, 0)
    driver.write(0, 0)
    driver.command(0, ARRAY)
    assert driver.status() == READY | ERASE_FAILED | PROGRAM_FAILED
    assert image.read_bytes() == content


def test_locked_blocks_stay_as_they_are(flash, image, content):
    driver = flash()
    driver.command(SECTOR, 0x60, 0x01)
    assert driver.status() == READY
    driver.command(SECTOR, IDENTIFIER)
    assert (driver.read(SECTOR + 4), driver.read(4)) == (1, 0)
    assert driver.erase(SECTOR) == READY | ERASE_FAILED | LOCKED
    driver.command(0, CLEAR)
    assert driver.program(SECTOR, b"\0\0") == READY | PROGRAM_FAILED | LOCKED
    driver.command(0, CLEAR)
    assert image.read_bytes() == content
    driver.command(SECTOR, 0x60, 0xD0)
    assert driver.erase(SECTOR) == READY
    driver.command(0, 0x60, 0x2F)
    driver.command(0, 0x60, 0xD0)  # locked down: until the next reset
    assert driver.erase(0) & LOCKED
    driver.card.reset()
    assert driver.erase(0) == READY


@pytest.mark.parametrize("words", [",readonly=on"])
def test_a_read_only_drive_refuses_writes(flash, image, content, words):
    driver = flash(words)
    assert driver.erase(0) == READY | ERASE_FAILED | LOCKED
    driver.command(0, CLEAR)
    assert driver.program(0, b"\0\0") == READY | PROGRAM_FAILED | LOCKED
    assert driver.array(0, 8) == content[:8] and image.read_bytes() == content


def test_a_snapshot_leaves_the_image_alone(flash, image, content):
    driver = flash(",snapshot=on")
    assert driver.erase(0) == READY
    assert driver.array(0, 2) == b"\xff\xff" and image.read_bytes() == content


def test_errors_of_the_host_reach_the_guest_and_once_the_user(flash, services, warnings, content):
    driver = flash()

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    services.drives.by_name["f"].backend.writev = fails
    assert driver.erase(0) == READY | ERASE_FAILED
    driver.command(0, CLEAR)
    assert driver.program(0, b"\0\0") == READY | PROGRAM_FAILED
    assert driver.array(0, 8) == content[:8]
    assert len(warnings) == 1
    assert "erase failed (No space left on device), and the guest got an I/O error" in warnings[0]


def test_writes_are_stable_when_the_guest_reads_again(flash, services):
    driver = flash()
    flushed = []
    services.drives.by_name["f"].backend.flush = lambda: flushed.append(1)
    driver.erase(0)
    driver.program(0, b"12")
    assert not flushed
    driver.command(0, ARRAY)
    driver.command(0, STATUS, ARRAY)
    assert flushed == [1]
    driver.erase(0)
    driver.card.close()
    assert flushed == [1, 1]


class Held:
    """A bell whose work is done when the test says so."""

    def __init__(self, name, work):
        self.work = work

    def ring(self):
        pass

    def close(self):
        pass


def test_while_it_is_busy_it_only_tells_its_status(flash, services, image):
    services.hire = Held
    driver = flash()
    driver.command(0, 0x20, CONFIRM)
    assert driver.status() == 0
    driver.command(0, ARRAY)
    driver.card.reset()  # does not stop what was begun
    saved = driver.card.save()
    assert image.read_bytes()[:4] != b"\xff" * 4
    driver.card._bell.work()
    assert image.read_bytes()[:SECTOR] == b"\xff" * SECTOR
    driver.command(0, STATUS)
    assert driver.status() == READY
    driver.card.restore(saved)
    driver.card._bell.work()
    assert driver.array(0, 2) == b"\xff\xff"


def test_the_guest_finds_it_in_the_tree(flash, bench):
    flash()
    node = bench.built.tree.find("/platform@f00000000/nor@0")
    assert node.properties["compatible"] == ("cfi-flash",)
    assert (node.properties["reg"], node.properties["bank-width"]) == ((0, SIZE), (2,))


def test_it_is_at_the_beginning_of_the_bus_whatever_is_plugged_in_before(bench, services, image):
    services.drives = open_drives([f"file={image},if=pflash,format=raw"])
    services.netdevs.by_name["n"] = Wire("n")
    plug(["eTSEC,netdev=n", *services.drives.devices], bench.buses(), services)
    assert bench.built.tree.find("/platform@f00000000/nor@0")


@pytest.mark.parametrize(
    ("size", "words", "message"),
    [
        (
            SIZE + 512,
            "",
            r"1049088 bytes cannot be; make it a power of two from 65536 \(truncate -s 2097152 FILE\)",
        ),
        (4096, "", r"flash of 4096 bytes cannot be; .* \(truncate -s 65536 FILE\)"),
        (256 << 20, "", "platform has no 268435456 bytes left"),
        (SIZE, ",width=1", "width=1 is not one of 2, 4"),
        (SIZE, ",sector-length=1000", "sector-length=1000 cannot be; write a power of two from 4K to 8M"),
        (SIZE, ",bus=pci.0", "no bus 'pci.0'; there is platform"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(bench, services, tmp_path, size, words, message):
    with (tmp_path / "odd").open("wb") as file:
        file.truncate(size)
    services.drives = open_drives([f"file={tmp_path / 'odd'},if=none,id=f,format=raw"])
    with pytest.raises(UserError, match=message) as error:
        plug([f"cfi.pflash01,drive=f{words}"], bench.buses(), services)
    assert "\n" not in str(error.value)
