"""The cpio and uImage writers, read back by rules written separately here."""

import gzip
import stat
import struct
import zlib

from powervisor.guests.archive import Cpio, uimage
from powervisor.guests.linux import initramfs


def read_cpio(data: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """name -> mode, contents, device numbers; in the order of the archive."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        assert data[at + 110 + name_size - 1] == 0
        at = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        assert name not in found
        found[name] = (mode, data[at : at + size], (fields[9], fields[10]))
        at = (at + size + 3) // 4 * 4


def test_every_kind_of_entry_is_read_back_and_parents_come_first():
    cpio = Cpio()
    cpio.file("usr/share/doc/odd", b"12345", 0o640)
    cpio.link("sbin/init", "../init")
    cpio.device("dev/console", 5, 1)
    cpio.directory("usr/share")
    found = read_cpio(cpio.data())
    paths = "usr usr/share usr/share/doc usr/share/doc/odd sbin sbin/init dev dev/console"
    assert list(found) == paths.split()
    assert found["usr/share/doc/odd"] == (stat.S_IFREG | 0o640, b"12345", (0, 0))
    assert found["sbin/init"][:2] == (stat.S_IFLNK | 0o777, b"../init")
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert found["usr"][0] == stat.S_IFDIR | 0o755


def test_archives_behind_each_other_keep_their_alignment():
    first, second = Cpio(), Cpio()
    first.file("a", b"x")
    second.file("b", b"yz")
    assert len(first.data()) % 4 == len(second.data()) % 4 == 0


def test_the_ram_disk_has_init_a_console_and_busybox_under_all_its_names():
    found = read_cpio(initramfs.pack(b"\x7fELF", ["/bin/sh", "/usr/bin/md5sum"]))
    assert found["init"][0] == stat.S_IFREG | 0o755
    assert found["init"][1].startswith(b"#!/bin/sh\n")
    assert found["bin/sh"][1] == b"/bin/busybox"
    assert found["usr/bin/md5sum"][1] == b"/bin/busybox"
    assert stat.S_ISCHR(found["dev/console"][0])
    assert found["etc/acpi/PWRF/00000080"][0] == stat.S_IFREG | 0o755  # acpid runs it for KEY_POWER
    assert {"proc", "sys", "dev", "tmp"} <= set(found)


def test_a_uimage_has_both_checksums_right():
    payload = gzip.compress(b"kernel" * 1000, mtime=0)
    image = uimage(payload, "Linux-6.1.0-with-a-name-longer-than-32-characters", load=0x400000, entry=0x400100)
    magic, header_crc, time, size, load, entry, data_crc = struct.unpack(">7I", image[:28])
    assert (magic, time, size, load, entry) == (0x27051956, 0, len(payload), 0x400000, 0x400100)
    assert header_crc == zlib.crc32(image[:4] + bytes(4) + image[8:64])
    assert data_crc == zlib.crc32(image[64:])
    assert list(image[28:32]) == [5, 7, 2, 1]  # Linux, PowerPC, kernel, gzip
    assert image[32:64] == b"Linux-6.1.0-with-a-name-longer-t"


def test_the_same_input_makes_the_same_bytes():
    assert initramfs.pack(b"b", ["/bin/sh"]) == initramfs.pack(b"b", ["/bin/sh"])
    assert uimage(b"x", "n") == uimage(b"x", "n")
