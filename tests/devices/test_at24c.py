"""EEPROMs on the I2C bus: addresses, pages, write protection, their drives, and what cannot be."""

import errno
import os

import pytest

from powervisor.block.drives import open_drives
from powervisor.devices.models import plug
from powervisor.errors import UserError
from tests.support.i2c_master import Rom


@pytest.fixture
def chip(bench, services):
    """Plug one in; `chip("rom-size=256")`."""

    def chip(words, address=0x50):
        (card,) = plug([f"at24c-eeprom,address={address},{words}"], bench.buses(), services)
        return card

    return chip


@pytest.fixture
def file(tmp_path, services):
    """An image as drive d."""

    def file(size, words="", content=b""):
        path = tmp_path / "rom"
        path.write_bytes(content.ljust(size, b"\x5a"))
        services.drives = open_drives([f"file={path},if=none,id=d,format=raw{words}"])
        return path

    return file


def test_a_new_chip_is_erased_and_keeps_what_is_written(bench, chip):
    card = chip("rom-size=256")
    rom = Rom(bench)
    assert rom.read(0, 4) == b"\xff" * 4
    rom.write(0x10, b"eeprom!!")
    assert rom.read(0x0E, 12) == b"\xff\xffeeprom!!\xff\xff"
    card.reset()
    assert rom.read(0x10, 8) == b"eeprom!!"


@pytest.mark.parametrize(
    ("size", "page"), [(128, 8), (256, 8), (512, 16), (2048, 16), (4096, 32), (16384, 64), (65536, 128)]
)
def test_a_write_rolls_over_at_the_end_of_its_page(bench, chip, size, page):
    chip(f"rom-size={size}")
    rom = Rom(bench, wide=size > 2048)
    rom.write(page - 2, b"abcd")
    assert rom.read(page - 2, 2) == b"ab" and rom.read(0, 3) == b"cd\xff"
    rom.write(0, bytes(range(page)) + b"!")
    assert rom.read(0, page) == b"!" + bytes(range(1, page))
    assert rom.read(page, 1) == b"\xff"


def test_reads_go_round_the_whole_chip(bench, chip):
    chip("rom-size=4096")
    rom = Rom(bench, wide=True)
    rom.write(4095, b"z")
    rom.write(0, b"a")
    assert rom.read(4095, 3) == b"za\xff"
    assert rom.address(0x50, True)  # goes on where the last one ended
    assert rom.receive(1) == b"\xff"
    rom.stop()


def test_chips_with_one_address_byte_have_an_address_for_each_block(bench, chip):
    chip("rom-size=1024", address=0x54)
    for block in range(4):
        Rom(bench, target=0x54 + block).write(0, bytes([block]))
    for block in range(4):
        assert Rom(bench, target=0x54 + block).read(0, 1) == bytes([block])
    assert Rom(bench, target=0x54).read(255, 2) == b"\xff\x01"
    assert not Rom(bench, target=0x53).address(0x53, False)


def test_without_a_stop_nothing_is_written(bench, chip):
    chip("rom-size=256")
    rom = Rom(bench)
    rom.address(0x50, False)
    rom.send(b"\x00lost")
    assert rom.read(0, 4) == b"\xff" * 4


def test_what_is_written_is_on_the_drive(bench, chip, file):
    path = file(256, content=b"before")
    chip("rom-size=256,drive=d")
    rom = Rom(bench)
    assert rom.read(0, 7) == b"beforeZ"
    rom.write(8, b"after")
    assert path.read_bytes() == b"beforeZZafter".ljust(256, b"Z")


def test_a_drive_of_large_pieces_keeps_what_lies_around(bench, chip, file, services):
    path = file(1024)
    services.drives.by_name["d"].backend.granularity = 512
    chip("rom-size=1024,drive=d")
    Rom(bench).write(8, b"after")
    assert path.read_bytes() == (b"Z" * 8 + b"after").ljust(1024, b"Z")


def test_a_snapshot_leaves_the_image_alone(bench, chip, file):
    path = file(256, ",snapshot=on")
    chip("rom-size=256,drive=d")
    rom = Rom(bench)
    rom.write(8, b"after")
    assert rom.read(8, 5) == b"after"
    assert path.read_bytes() == b"Z" * 256


@pytest.mark.parametrize(("words", "drive"), [(",readonly=on", ""), ("", ",readonly=on")])
def test_a_protected_chip_does_not_acknowledge_data(bench, chip, file, words, drive):
    path = file(256, drive)
    card = chip("rom-size=256,drive=d" + words)
    rom = Rom(bench)
    rom.address(0x50, False)
    rom.send(b"\x00")
    rom.write8(0x3010, 0x11)
    assert not rom.wait()
    rom.stop()
    assert rom.read(0, 1) == b"Z" and path.read_bytes() == b"Z" * 256
    assert card.read_only


def test_errors_of_the_host_reach_the_guest_and_once_the_user(bench, chip, file, services, warnings):
    path = file(256)
    card = chip("rom-size=256,drive=d")

    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    services.drives.by_name["d"].backend.writev = fails
    rom = Rom(bench)
    rom.write(0, b"x")
    for _ in range(3):
        rom.address(0x50, False)
        rom.send(b"\x00")
        rom.write8(0x3010, 0x11)
        assert not rom.wait()
        rom.stop()
    assert len(warnings) == 1 and warnings[0].startswith(
        f"{card.name}: drives file={path}: write failed (No space left"
    )


def test_the_guest_finds_it_in_the_tree(bench, chip):
    chip("rom-size=8192,readonly=on", address=0x51)
    node = bench.built.tree.find("/soc@fe0000000/i2c@3000/eeprom@51")
    assert node.properties["compatible"] == ("atmel,24c64",)
    assert node.properties["reg"] == (0x51,) and node.properties["pagesize"] == (32,)
    assert "read-only" in node.properties


def test_saved_contents_come_back_and_go_to_the_drive(bench, chip, file):
    path = file(256)
    card = chip("rom-size=256,drive=d")
    rom = Rom(bench)
    rom.write(0, b"one")
    saved = card.save()
    rom.write(0, b"two")
    card.restore(saved)
    assert rom.read(0, 3) == b"one" and path.read_bytes()[:3] == b"one"
    with pytest.raises(ValueError, match="256 bytes"):
        card.restore({"contents": b"x"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rom-size=256", "address= is missing"),
        ("address=0x50", "rom-size= is missing"),
        ("address=0x50,rom-size=100", "rom-size=100: no such chip; write a power of two from 128 to 64K"),
        ("address=0x50,rom-size=128K", "rom-size=131072: no such chip"),
        ("address=0x80,rom-size=256", "address=0x80 is not within 8..119"),
        ("address=0x51,rom-size=512", "address=0x51: 512 bytes take 2 addresses; write address=0x50"),
        ("address=0x68,rom-size=256", "I2C address 0x68 is taken"),
        ("address=0x50,rom-size=256,drive=x", "drive=x: no such drive"),
        ("address=0x50,rom-size=1024,drive=d", "needs an image of 1024 bytes"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(bench, services, file, words, message):
    file(256)
    with pytest.raises(UserError, match=message) as error:
        plug([f"at24c-eeprom,{words}"], bench.buses(), services)
    assert "\n" not in str(error.value)
