"""Topologies and small guest files."""

import struct
import zlib

import pytest

from powervisor.boards import registry
from powervisor.boards.cpus import CpuTopology

PVR = {"e500mc": 0x8023_0020, "e5500": 0x8024_0020, "e6500": 0x8040_0020}


@pytest.fixture
def board():
    return registry.get("ppce500")


@pytest.fixture
def topology(board):
    def make(core="e5500", cores=1, threads=1):
        return CpuTopology(core, cores, threads, 64, PVR[core], board.core(core).svr)

    return make


@pytest.fixture
def small_uimage(tmp_path):
    """A uImage that QEMU takes as a kernel."""
    payload = struct.pack(">I", 0x4800_0000) * 64
    head = [0x2705_1956, 0, 0, len(payload), 0, 0, zlib.crc32(payload)]
    tail = bytes((5, 7, 2, 0)) + b"test".ljust(32, b"\0")
    head[1] = zlib.crc32(struct.pack(">7I", *head) + tail)
    path = tmp_path / "uImage"
    path.write_bytes(struct.pack(">7I", *head) + tail + payload)
    return path
