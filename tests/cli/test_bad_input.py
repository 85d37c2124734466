"""What a user can get wrong about images, memory and CPUs: one line each, naming the option and the remedy."""

import gzip
import os
import re
import struct

import pytest

from powervisor.guests.archive import uimage

from .test_disasm import elf


def corrupt(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


UIMAGE = uimage(gzip.compress(b"kernel" * 5000, mtime=0), "Linux-test")
PPC64 = (
    struct.pack(">16sHHIQQQIHHHHHH", b"\x7fELF\x02\x02\x01", 2, 21, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack(">IIQQQQQQ", 1, 5, 120, 0, 0, 4, 4, 4)
    + b"\x60\0\0\0"
)
FILES = {
    "truncated.elf": elf(b"\x60\0\0\0" * 64)[:70],
    "little.elf": elf(b"\x60\0\0\0", data=1),
    "x86.elf": elf(b"\x60\0\0\0", machine=3),
    "x86-64.elf": b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 62, 1) + bytes(40),
    "header.uImage": corrupt(UIMAGE, 20),
    "data.uImage": corrupt(UIMAGE, 100),
    "short.uImage": UIMAGE[:-10],
    "gzip.uImage": uimage(corrupt(gzip.compress(b"kernel" * 5000, mtime=0), 30), "Linux-test"),
    "good.uImage": UIMAGE,
    "ppc64.elf": PPC64,
    "elf64.uImage": uimage(gzip.compress(PPC64, mtime=0), "VxWorks"),
    "text": b"this is no kernel\n" * 10,
    "empty": b"",
    "big": bytes(65 << 20),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("images")
    for name, data in FILES.items():
        (directory / name).write_bytes(data)
    (directory / "directory").mkdir()
    before = os.getcwd()
    os.chdir(directory)
    yield directory
    os.chdir(before)


GOOD = ("good.uImage", "ppc64.elf", "elf64.uImage", "text", "big")
KERNEL = ["-kernel", "good.uImage"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-kernel", "missing"], "-kernel missing: No such file"),
        (["-kernel", "directory"], "-kernel directory: "),
        *((["-kernel", name], f"-kernel {name}: ") for name in FILES if name not in GOOD),
        (["-kernel", "text"], "-kernel text: "),
        (["-kernel", "ppc64.elf", "-cpu", "e500mc"], "-kernel ppc64.elf: a 64-bit image, .*choose -cpu e5500"),
        (["-kernel", "elf64.uImage", "-cpu", "e500mc"], "-kernel elf64.uImage: a 64-bit image, .*choose -cpu e5500"),
        (["-bios", "ppc64.elf", "-cpu", "e500mc"], "-bios ppc64.elf: a 64-bit image"),
        (["-bios", "x86.elf"], "-bios x86.elf: "),
        (["-bios", "missing"], "-bios missing: "),
        ([*KERNEL, "-initrd", "big", "-m", "64M"], "-initrd big: .*give a larger -m than 64M"),
        ([*KERNEL, "-initrd", "missing"], "-initrd missing: "),
        ([*KERNEL, "-dtb", "text"], "-dtb text: "),
        ([*KERNEL, "-dtb", "empty"], "-dtb empty: "),
        ([*KERNEL, "-m", "100"], "-m 100 MiB: .*multiples of 64 MiB"),
        ([*KERNEL, "-m", "32G"], "-m 32 GiB: .*up to 16 GiB"),
        ([*KERNEL, "-smp", "33"], "-smp 33: .*1 to 32"),
        ([*KERNEL, "-cpu", "e500mc", "-smp", "2,threads=2"], "-smp threads=2: e500mc has one thread"),
        ([*KERNEL, "-mem-path", "missing"], "-mem-path missing: does not exist"),
        ([*KERNEL, "-mem-path", "directory"], "-mem-path directory: not on a hugetlbfs; give a directory of one"),
        ([*KERNEL, "-mem-path", "text"], "-mem-path text: is not a directory"),
        ([*KERNEL, "-drive", "file=missing"], "-drive file=missing: cannot be opened .*; make one with truncate"),
        ([*KERNEL, "-drive", "file=directory"], "-drive file=directory: is neither a file nor a block device"),
        ([*KERNEL, "-drive", "file=text,if=none,id=d"], "no device uses it; add -device virtio-blk-pci,drive=d"),
        ([*KERNEL, "-device", "virtio-blk-pci,drive=d"], "drive=d: no such drive; there is none; add -drive file=FILE"),
        ([*KERNEL, "-device", "virtio-rng-pci,addr=3.1"], "-device virtio-rng-pci: addr=3.1 needs a device at addr=3"),
        (["-device", "loader,file=missing"], "-device loader missing: No such file"),
        (["-device", "loader,file=text"], "loader,file=text.*addr"),
        (["-device", "loader,file=text,addr=0x40000000"], "loader,file=text"),
        (["-device", "loader,file=text,addr=-8,cpu-num=0"], "loader,file=text: needs 0x-8.*beyond RAM"),
    ],
)
def test_bad_input_is_one_clear_line(command, files, words, says):
    done = command("run", "-serial", "null", *words)
    assert done.status in (1, 2), done.err
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert re.search(says, done.err), done.err
    assert len(done.err) < 300
