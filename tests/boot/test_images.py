"""ELF and uImage files, good and bad."""

import gzip
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powervisor.boot import elf as elf_loader
from powervisor.boot import uimage as uimage_loader
from powervisor.boot.image import gunzip, read_file
from powervisor.errors import UserError
from tests.boot.conftest import BRANCH_SELF, MIB, elf, uimage

RAM = 64 * MIB


def load_elf(data, bits=64, ram=RAM):
    return elf_loader.load(data, "-kernel k", ram, bits)


def load_uimage(data, ram=RAM):
    return uimage_loader.load(data, "-kernel k", ram, 32)


@pytest.mark.parametrize("bits", [32, 64])
def test_segments_go_to_their_physical_addresses(bits):
    base = 0xC000_0000 if bits == 32 else 0xC000_0000_0000_0000
    image = load_elf(elf([(base, 0, b"text", 4), (base + 0x100, 0x100, b"data", 0x200)], entry=base + 2, bits=bits))
    assert [(s.pa, s.data, s.size) for s in image.segments] == [(0, b"text", 4), (0x100, b"data", 0x200)]
    assert (image.entry, image.base, image.end, image.bits) == (2, 0, 0x300, bits)


@pytest.mark.parametrize(("bits", "base"), [(32, 0xC000_0000), (64, 0xC000_0000_0000_0000)])
def test_virtual_load_addresses_of_kernels_are_moved_down(bits, base):
    image = load_elf(elf([(base + 0x100, base + 0x100, b"text", 4)], entry=base + 0x100, bits=bits))
    assert (image.entry, image.base) == (0x100, 0x100)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (elf(machine=62, order="<", bits=64), "x86-64, not PowerPC"),
        (elf(machine=3, order="<"), "for x86, not PowerPC"),
        (elf(order="<"), "little-endian"),
        (elf(kind=1), "object file that is not linked"),
        (elf(kind=4), "core dump"),
        (elf()[:40], "truncated ELF file"),
        (elf()[:60], "truncated ELF file, program headers end at 84"),
        (elf()[:-1], "truncated ELF file, 100 bytes expected and 99 found"),
        (elf(segments=()), "nothing to load"),
        (elf([(0x1000, 0x1000, b"12345678", 4)]), "more bytes"),
        (elf([(0, RAM - 2, b"1234", 4)], entry=0), "beyond RAM of 64 MiB"),
        (elf([(0, 0, b"1234", 1 << 31)], entry=0), r"0x0..0x80000000 \(2147483648 bytes\)"),
        (elf(entry=0x2000_0000), "entry point 0x20000000"),
    ],
)
def test_unusable_elf_files_say_why(data, message):
    with pytest.raises(UserError, match=f"^-kernel k: .*{message}"):
        load_elf(data)


@pytest.mark.skipif(not shutil.which("powerpc64-linux-gnu-gcc"), reason="powerpc64-linux-gnu-gcc is not installed")
def test_real_64_bit_programs_are_entered_at_their_code(tmp_path):
    """This tool chain's e_entry is a function descriptor: code address and TOC pointer."""
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text("int x = 1; void _start(void) { for (;;) x++; }")
    flags = ["-O1", "-mcpu=e5500", "-mabi=elfv1", "-nostdlib", "-static", "-Wl,-Ttext=0x100000,--build-id=none"]
    subprocess.run(["powerpc64-linux-gnu-gcc", *flags, "-o", program, source], check=True)
    image = load_elf(program.read_bytes())
    code = next(s.data[image.entry - s.pa :][:4] for s in image.segments if s.pa <= image.entry < s.end)
    assert image.entry == 0x10_0000 and image.toc != 0 and code != bytes(4)


def test_64_bit_images_need_a_64_bit_core():
    with pytest.raises(UserError, match="64-bit image.*choose cpu e5500 or e6500"):
        load_elf(elf(bits=64), bits=32)
    assert load_elf(elf(bits=32), bits=32).bits == 32


@given(st.integers(0, 99), st.integers(0, 255), st.sampled_from([32, 64]))
def test_damaged_elf_headers_never_raise_anything_else(at, byte, bits):
    data = bytearray(elf(bits=bits))
    data[min(at, len(data) - 1)] = byte
    if data[:4] != elf_loader.MAGIC:
        return
    try:
        image = load_elf(bytes(data))
    except UserError:
        return
    assert image.end <= RAM and image.entry < RAM


@pytest.mark.parametrize("compression", [0, 1])
def test_uimage_payload_goes_to_its_load_address(compression):
    image = load_uimage(uimage(BRANCH_SELF * 64, load=0x8000, entry=0x8004, compression=compression))
    assert (image.entry, image.base, image.segments[0].data) == (0x8004, 0x8000, BRANCH_SELF * 64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (uimage()[:30], "truncated uImage"),
        (uimage()[:-1], "truncated uImage, 255 of 256 bytes of data found"),
        (uimage()[:-1] + b"\1", "data checksum"),
        (uimage()[:20] + b"\1" + uimage()[21:], "header checksum"),
        (uimage(arch=2), "another architecture"),
        (uimage(kind=3), "a ramdisk, not a program"),
        (uimage(compression=3), "compressed with lzma"),
        (uimage(b""), "empty"),
        (uimage(load=RAM - 8), "beyond RAM of 64 MiB"),
        (uimage(entry=0x7000_0000), "entry point 0x70000000 is beyond RAM"),
        (uimage(bytes(RAM + 1), compression=1), "more than 64 MiB when decompressed"),
    ],
)
def test_unusable_uimages_say_why(data, message):
    with pytest.raises(UserError, match=f"^-kernel k: .*{message}"):
        load_uimage(data)


def test_bad_gzip_data_says_why():
    good = gzip.compress(b"x" * 10_000)
    assert gunzip(good, 20_000, "f") == b"x" * 10_000
    with pytest.raises(UserError, match="truncated gzip"):
        gunzip(good[:-9], 20_000, "f")
    with pytest.raises(UserError, match="corrupt gzip"):
        gunzip(good[:-8] + b"\0\0\0\0" + good[-4:], 20_000, "f")


def test_unreadable_files_name_the_option(tmp_path):
    with pytest.raises(UserError, match="initrd .*nope: No such file"):
        read_file("-initrd", tmp_path / "nope")
    with pytest.raises(UserError, match="Is a directory"):
        read_file("-initrd", tmp_path)
    with pytest.raises(UserError, match="not a file that can be read to its end"):
        read_file("-initrd", "/dev/zero")
