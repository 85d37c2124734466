"""Guest images made by hand, good and bad."""

import gzip
import struct
import zlib

import pytest

from powervisor.boards import registry
from powervisor.boards.cpus import CpuTopology

MIB = 1 << 20
BRANCH_SELF = bytes.fromhex("48000000")


def elf(
    segments=((0x1000, 0x1000, BRANCH_SELF * 4, 16),),
    entry=0x1000,
    bits=32,
    machine=None,
    order=">",
    kind=2,
    offset=None,
):
    """An ELF file; segments are (vaddr, paddr, data, memsz)."""
    wide = bits == 64
    head_size, phdr_size = (64, 56) if wide else (52, 32)
    machine = machine or (21 if wide else 20)
    ident = b"\x7fELF" + bytes((2 if wide else 1, 2 if order == ">" else 1, 1)) + bytes(9)
    fields = (kind, machine, 1, entry, head_size, 0, 0, head_size, phdr_size, len(segments), 0, 0, 0)
    head = ident + struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fields)
    at = head_size + phdr_size * len(segments)
    table, body = b"", b""
    for vaddr, paddr, data, memsz in segments:
        position = at + len(body)
        if wide:
            table += struct.pack(order + "IIQQQQQQ", 1, 7, position, vaddr, paddr, len(data), memsz, 8)
        else:
            table += struct.pack(order + "IIIIIIII", 1, position, vaddr, paddr, len(data), memsz, 7, 8)
        body += data
    return head + table + body


def uimage(payload=BRANCH_SELF * 64, load=0, entry=0, arch=7, kind=2, compression=0):
    """A legacy uImage; `payload` is compressed here when `compression` is 1."""
    if compression == 1:
        payload = gzip.compress(payload)
    head = [0x2705_1956, 0, 0, len(payload), load, entry, zlib.crc32(payload)]
    tail = bytes((5, arch, kind, compression)) + b"test".ljust(32, b"\0")
    head[1] = zlib.crc32(struct.pack(">7I", *head) + tail)
    return struct.pack(">7I", *head) + tail + payload


@pytest.fixture
def tree():
    """A fresh device tree of the board, for one CPU."""

    def make(ram_mib=512):
        board = registry.get("ppce500")
        return board.describe(CpuTopology("e5500", 1, 1, 64, 0x8024_0020, 0), ram_mib * MIB)

    return make


@pytest.fixture
def put(tmp_path):
    """Writes a file and answers its path as a string."""

    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write
