"""Guest RAM, the physical address space, and DMA."""

import errno
import os
from pathlib import Path

import pytest

from powervisor.errors import UserError
from powervisor.memory.ram import HUGE_PAGE, Ram, host_memory
from powervisor.memory.space import BusError, Dma, PhysicalSpace

MIB = 1 << 20


class Box:
    """A target that logs."""

    def __init__(self):
        self.log = []

    def read(self, offset, size, cpu):
        self.log.append(("r", offset, size, cpu))
        return 0x1122_3344 & (1 << 8 * size) - 1

    def write(self, offset, size, value, cpu):
        self.log.append(("w", offset, size, value, cpu))


class WideBox(Box):
    takes_doubleword = True

    def read(self, offset, size, cpu):
        return super().read(offset, size, cpu) if size < 8 else 0x8877_6655_4433_2211


@pytest.fixture
def ram():
    ram = Ram(64 * MIB)
    yield ram
    ram.close()


@pytest.fixture
def space(ram):
    return PhysicalSpace(ram)


def resident(ram):
    return os.stat(f"/proc/self/fd/{ram.fd}").st_blocks * 512


def test_ram_is_untouched_until_used_and_aligned(ram):
    assert resident(ram) == 0 and ram.address % HUGE_PAGE == 0
    ram[0x1000:0x1004] = b"\1\2\3\4"
    assert ram[0xFFF:0x1005] == b"\0\1\2\3\4\0"
    assert 0 < resident(ram) <= HUGE_PAGE


def test_ram_is_shared_by_its_file_descriptor(ram):
    ram[16:20] = b"mark"
    assert os.pread(ram.fd, 4, 16) == b"mark"


def test_clear_zeroes_exactly_and_returns_pages(ram):
    ram[0 : 8 * MIB] = b"\xff" * (8 * MIB)
    ram.clear(MIB + 3, 7 * MIB - 3)
    assert resident(ram) < 8 * MIB
    assert ram[MIB : MIB + 4] == b"\xff\xff\xff\0" and ram[7 * MIB - 4 : 7 * MIB] == b"\0\xff\xff\xff"
    assert not any(ram[MIB + 3 : 7 * MIB - 3])


@pytest.mark.parametrize("bounds", [(0, 64 * MIB + 1), (-1, 4), (10, 5), (64 * MIB, 64 * MIB + 4)])
def test_slices_outside_ram_are_refused(ram, bounds):
    with pytest.raises(IndexError):
        ram[slice(*bounds)]


def test_data_must_fill_its_slice(ram):
    with pytest.raises(IndexError, match="3 bytes do not fill"):
        ram[0:4] = b"abc"


def test_preallocated_ram_is_there():
    ram = Ram(8 * MIB, prealloc=True)
    assert resident(ram) >= 8 * MIB
    ram.close()


def test_preallocating_more_than_is_available_is_refused(monkeypatch):
    monkeypatch.setattr("powervisor.memory.ram.host_memory", lambda *names: (64 * MIB, 4 * MIB)[bool(names)])
    with pytest.raises(UserError, match="mem_prealloc: 8 MiB wanted and 4 MiB available"):
        Ram(8 * MIB, prealloc=True)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": host_memory() + (1 << 30)}, "the host has only"),
        ({"size": 64 * MIB, "mem_path": "/nonexistent"}, "mem_path /nonexistent: does not exist"),
        ({"size": 64 * MIB, "mem_path": "/etc/passwd"}, "is not a directory"),
        ({"size": 64 * MIB, "mem_path": "/proc"}, "mem_path /proc: not on a hugetlbfs"),
        ({"size": 0}, "positive"),
    ],
)
def test_ram_the_host_cannot_give_is_a_user_error(kwargs, message):
    with pytest.raises(UserError, match=message) as error:
        Ram(**kwargs)
    assert "\n" not in str(error.value)


def test_a_limit_on_files_that_ram_exceeds_is_a_user_error(monkeypatch):
    def too_large(fd, size):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", too_large)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match="no file of that size.*see ulimit -f"):
        Ram(4 * MIB)
    assert len(os.listdir("/proc/self/fd")) == before


def test_mem_path_without_free_huge_pages_is_a_user_error(monkeypatch, tmp_path):
    free = 3

    class Fs:
        f_bsize, f_bavail, f_blocks = HUGE_PAGE, free, 100

    monkeypatch.setattr(os, "statvfs", lambda path: Fs)
    monkeypatch.setattr("powervisor.memory.ram._is_hugetlbfs", lambda path: True)
    with pytest.raises(UserError, match="3 free pages of 2 MiB, 32 needed"):
        Ram(64 * MIB, mem_path=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mem_path_leaves_no_file_behind(monkeypatch, tmp_path):
    monkeypatch.setattr("powervisor.memory.ram._is_hugetlbfs", lambda path: True)
    ram = Ram(4 * MIB, mem_path=tmp_path)
    ram[0:1] = b"x"
    assert list(tmp_path.iterdir()) == []
    ram.close()


def test_accesses_reach_the_window_they_hit(space):
    boxes = [Box() for _ in range(3)]
    for i, box in enumerate(boxes):
        space.map(0x1_0000_0000 + 0x1000 * i, 0x800, box, f"box{i}")
    assert space.read(0x1_0000_1004, 4, cpu=3) == 0x1122_3344
    space.write(0x1_0000_27FF, 1, 9)
    assert [box.log for box in boxes] == [[], [("r", 4, 4, 3)], [("w", 0x7FF, 1, 9, 0)]]


@pytest.mark.parametrize("pa", [0x1_0000_0800, 0xFFFF_FFFF, 0x1_0000_07FE, 64 * MIB, 64 * MIB - 2, 1 << 63])
def test_nothing_there_is_a_bus_error(space, pa):
    space.map(0x1_0000_0000, 0x800, Box(), "box")
    for access in (lambda: space.read(pa, 4), lambda: space.write(pa, 4, 0)):
        with pytest.raises(BusError) as error:
            access()
        assert (error.value.pa, error.value.size) == (pa, 4)


def test_doublewords_are_split_unless_taken(space):
    box, wide = Box(), WideBox()
    space.map(0x1_0000_0000, 0x100, box, "box")
    space.map(0x1_0000_0100, 0x100, wide, "wide")
    space.write(0x1_0000_0010, 8, 0x0102_0304_0506_0708)
    assert box.log == [("w", 0x10, 4, 0x0102_0304, 0), ("w", 0x14, 4, 0x0506_0708, 0)]
    assert space.read(0x1_0000_0000, 8) == 0x1122_3344_1122_3344
    assert space.read(0x1_0000_0100, 8) == 0x8877_6655_4433_2211


def test_overlapping_windows_are_refused(space):
    space.map(0x1_0000_0000, 0x1000, Box(), "first")
    for base, size in ((0x1_0000_0FFF, 2), (0xFFFF_FFFF, 2), (0x1_0000_0100, 1), (0xFFFF_0000, 0x10_0000)):
        with pytest.raises(ValueError, match="overlaps first"):
            space.map(base, size, Box(), "second")
    with pytest.raises(ValueError, match="overlaps RAM"):
        space.map(0, 4, Box(), "low")


def test_unmapped_windows_are_gone(space):
    window = space.map(0x1_0000_0000, 0x1000, Box(), "box")
    space.map(0x1_0000_1000, 0x1000, Box(), "other")
    space.unmap(window)
    with pytest.raises(BusError):
        space.read(0x1_0000_0000, 4)
    assert space.read(0x1_0000_1000, 4) == 0x1122_3344


def test_writes_to_ram_are_announced(space):
    seen = []
    space.on_write(lambda pa, n: seen.append((pa, n)))
    space.write(0x100, 4, 0xDEAD_BEEF)
    space.write_bytes(0x200, b"abc")
    space.clear(0x100, 4)
    assert seen == [(0x100, 4), (0x200, 3), (0x100, 4)]
    assert space.read(0x200, 4) == 0x6162_6300 and space.read(0x100, 4) == 0


def test_bytes_into_windows_go_in_aligned_accesses(space):
    box = Box()
    space.map(0x1_0000_0000, 0x100, box, "box")
    space.write_bytes(0x1_0000_0001, bytes(range(1, 9)))
    assert [entry[1:4] for entry in box.log] == [(1, 1, 1), (2, 2, 0x0203), (4, 4, 0x0405_0607), (8, 1, 8)]


def test_dma_goes_through_each_stage_piece_by_piece(space):
    pieces = []

    def iommu(address, length, write):
        pieces.append((address, length, write))
        return address ^ 0x1000, min(length, 0x1000 - address % 0x1000)

    dma = Dma(space, iommu).behind(lambda address, length, write: (address - 0x10_0000, length))
    dma.write(0x10_0FFE, b"wxyz")
    assert space.read_bytes(0x1FFE, 2) == b"wx" and space.read_bytes(0, 2) == b"yz"
    assert dma.read(0x10_0FFE, 4) == b"wxyz"
    assert pieces == [(0xFFE, 4, True), (0x1000, 2, True), (0xFFE, 4, False), (0x1000, 2, False)]


def test_dma_views_are_guest_ram_itself_and_never_more(space):
    dma = Dma(space, lambda address, length, write: (address, min(length, 0x100)))
    (view,) = dma.views(0x1F80, 0x1000, True)
    assert len(view) == 0x1000, "pieces that follow each other are one"
    view[0x7F:0x81] = b"ab"
    assert space.read_bytes(0x1FFF, 2) == b"ab"
    assert dma.views(0x1000, 0, False) == []
    space.map(0x1_0000_0000, 0x1000, Box(), "box")
    for address, length in ((64 * MIB - 1, 2), (64 * MIB, 1), (0x1_0000_0000, 4), (1 << 64, 4)):
        with pytest.raises(BusError):
            dma.views(address, length, False)


def test_refused_dma_changes_nothing(space):
    def windowed(address, length, write):
        if address >= 0x2000:
            raise BusError(address, length, write)
        return address, 0x2000 - address if address + length > 0x2000 else length

    with pytest.raises(BusError):
        Dma(space, windowed).write(0x1FFE, b"wxyz")
    assert space.read_bytes(0x1FFE, 4) == bytes(4)


def locked() -> int:
    """KiB of this process that the host keeps in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmLck:")[2].split()[0])


def test_ram_can_be_locked_in_the_hosts_memory():
    before = locked()
    ram = Ram(4 * MIB)
    try:
        ram.lock()
        assert locked() == before + 4096
    except UserError as error:  # an ordinary user's limit
        assert "raise the limit (ulimit -l)" in str(error)
    ram.close()
    assert locked() == before
