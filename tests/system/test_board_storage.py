"""SD cards, flash and EEPROMs of the board under unmodified Linux, through the command line."""

from __future__ import annotations

import random
import re
import subprocess
from hashlib import md5

import pytest

from tests.system.booting import boot, check_linux, needs
from tests.system.test_devices import needs_e2fsprogs, shell, stored

MEGABYTE = 1 << 20
CARD = "until [ -b /dev/mmcblk0 ]; do sleep 0.1; done"
"""The driver looks for a card while /init runs already."""


def script(*commands: str) -> str:
    """As `shell`; the console has said all of it before the kernel's own last words."""
    return shell(*commands, "sleep 0.3")


@needs_e2fsprogs
@pytest.mark.parametrize(
    ("size", "cpus", "words"),
    [
        (64 * MEGABYTE, 2, ""),
        pytest.param(2560 * MEGABYTE, 4, "", marks=pytest.mark.slow),  # SDHC
        pytest.param(64 * MEGABYTE, 1, ",snapshot=on", marks=pytest.mark.slow),
    ],
)
def test_linux_keeps_files_on_an_sd_card(tmp_path, size, cpus, words):
    needs("k32", "CONFIG_MMC_SDHCI_OF_ESDHC", "CONFIG_MMC_BLOCK")
    image = tmp_path / "card.img"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", "-N", "512", image], check=True)
    before = md5(image.read_bytes()).digest() if words else b""
    commands = (
        CARD,
        "mkdir /mnt",
        "mount -t ext2 /dev/mmcblk0 /mnt",
        "dd if=/dev/urandom of=/mnt/file bs=1M count=10 2>/dev/null",
        "md5sum /mnt/file",
        "umount /mnt",
        "mount -t ext2 /dev/mmcblk0 /mnt",
        "md5sum /mnt/file",
        "rm /mnt/lost+found -r",
        "umount /mnt",
        "echo SECTORS $(cat /sys/block/mmcblk0/size)",
        "grep mmc /proc/interrupts",
    )
    done = boot("k32", "-smp", str(cpus), "-drive", f"file={image},if=sd,format=raw{words}", append=script(*commands))
    check_linux(done, cpus)
    sums = re.findall(r"([0-9a-f]{32})  /mnt/file", done.output)
    assert len(sums) == 2 and sums[0] == sums[1], done.output[-2000:]
    assert f"SECTORS {size // 512}\r" in done.output
    assert re.search(r"72: .*OpenPIC +72 Level +mmc0", done.output)
    assert re.search(rf"new high speed SD{'HC' if size > 2 << 30 else ''} card", done.output)
    assert not re.search(r"mmc0: (error|.*timeout|ADMA)|I/O error", done.output)
    if words:
        assert md5(image.read_bytes()).digest() == before
    else:
        assert md5(stored(image, "file")).hexdigest() == sums[0]


@pytest.mark.slow
def test_linux_finds_a_read_only_card_and_an_empty_slot(tmp_path):
    needs("k32", "CONFIG_MMC_SDHCI_OF_ESDHC", "CONFIG_MMC_BLOCK")
    image = tmp_path / "card.img"
    image.write_bytes(b"card" * MEGABYTE)
    drive = "-drive", f"file={image},if=sd,format=raw,readonly=on"
    done = boot("k32", *drive, append=script(CARD, "echo RO $(cat /sys/block/mmcblk0/ro)", "head -c 4 /dev/mmcblk0"))
    check_linux(done, 2)
    assert "RO 1\r" in done.output and "card" in done.output
    done = boot("k32", append=script("sleep 3", "grep mmc /proc/interrupts"))
    check_linux(done, 2)
    assert "mmc0: SDHCI controller" in done.output and "mmc0: error" not in done.output


def test_linux_reads_erases_and_writes_flash(tmp_path):
    needs("k32", "CONFIG_MTD_CFI_INTELEXT", "CONFIG_MTD_PHYSMAP_OF", "CONFIG_MTD_BLOCK")
    image = tmp_path / "nor.img"
    content = random.Random(1).randbytes(4 * MEGABYTE)
    image.write_bytes(content)
    commands = (
        "cat /proc/mtd",
        "md5sum /dev/mtd0",
        "dd if=/dev/urandom of=/tmp/f bs=1k count=100 2>/dev/null",  # one sector and a part of the next
        "md5sum /tmp/f",
        "dd if=/tmp/f of=/dev/mtdblock0 bs=1k seek=128 2>/dev/null",
        "sync",
        "dd if=/dev/mtd0 bs=1k skip=128 count=100 2>/dev/null | md5sum",
    )
    done = boot("k32", "-drive", f"file={image},if=pflash,format=raw", append=script(*commands))
    check_linux(done, 2)
    assert re.search(r'mtd0: 00400000 00010000 "f00000000\.nor"', done.output), done.output[-2000:]
    whole, wanted, found = re.findall(r"([0-9a-f]{32})  (?:/dev/mtd0|/tmp/f|-)", done.output)
    assert whole == md5(content).hexdigest() and wanted == found
    after, place = image.read_bytes(), slice(128 << 10, 228 << 10)
    assert md5(after[place]).hexdigest() == wanted
    assert after[: place.start] == content[: place.start] and after[place.stop :] == content[place.stop :]


@pytest.mark.slow
def test_linux_cannot_write_flash_on_a_read_only_drive(tmp_path):
    needs("k32", "CONFIG_MTD_CFI_INTELEXT", "CONFIG_MTD_PHYSMAP_OF", "CONFIG_MTD_BLOCK")
    image = tmp_path / "nor.img"
    content = random.Random(2).randbytes(MEGABYTE)
    image.write_bytes(content)
    write = "dd if=/dev/zero of=/dev/mtdblock0 bs=64k count=1; sync; echo TRIED; md5sum /dev/mtd0"
    done = boot("k32", "-drive", f"file={image},if=pflash,format=raw,readonly=on", append=script(write))
    assert done.status == 0 and "TRIED" in done.output
    assert f"{md5(content).hexdigest()}  /dev/mtd0" in done.output
    assert image.read_bytes() == content


def test_linux_reads_and_writes_eeproms(tmp_path):
    needs("k32", "CONFIG_EEPROM_AT24")
    image = tmp_path / "rom"
    image.write_bytes(bytes(range(256)) * 16)
    words = (
        "-drive",
        f"file={image},if=none,id=r,format=raw",
        "-device",
        "at24c-eeprom,address=0x50,rom-size=4096,drive=r",
    )
    more = "-device", "at24c-eeprom,address=0x54,rom-size=1024"
    bus = "/sys/bus/i2c/devices"
    commands = (
        f"md5sum {bus}/0-0050/eeprom",
        f"yes written | head -c 100 | dd of={bus}/0-0050/eeprom bs=100 seek=7 2>/dev/null",
        f"md5sum {bus}/0-0050/eeprom",
        f"yes block | head -c 1024 >{bus}/0-0054/eeprom",
        f"md5sum {bus}/0-0054/eeprom",
    )
    done = boot("k32", *words, *more, append=script(*commands))
    check_linux(done, 2)
    sums = re.findall(r"([0-9a-f]{32})  /sys", done.output)
    expected = bytearray(bytes(range(256)) * 16)
    before = md5(expected).hexdigest()
    expected[700:800] = (b"written\n" * 13)[:100]
    assert sums == [before, md5(expected).hexdigest(), md5((b"block\n" * 171)[:1024]).hexdigest()], done.output[-2000:]
    assert image.read_bytes() == expected
