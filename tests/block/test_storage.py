"""Raw files and snapshot mode, against plain bytes; holes, sizes, errors of the host."""

import errno
import os
import random

import pytest

from powervisor.block import file as file_module
from powervisor.block.file import RawFile
from powervisor.block.overlay import CLUSTER, Changes, Overlay, nameless
from powervisor.buffers import part


def opened(path, **options):
    return RawFile(os.open(path, os.O_RDWR), **options)


def buffers(*sizes):
    return [memoryview(bytearray(size)) for size in sizes]


def joined(views):
    return b"".join(views)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(random.Random(1).randbytes(5 * CLUSTER + 1000))
    return path


def test_parts_of_buffers():
    views = [memoryview(b"abc"), memoryview(b""), memoryview(b"defgh")]
    for start in range(9):
        for length in range(10):
            assert joined(part(views, start, length)) == b"abcdefgh"[start : start + length]


def test_buffers_are_filled_and_stored_in_order(image):
    disk = opened(image)
    content = image.read_bytes()
    views = buffers(3, 0, 500, 9)
    disk.readv(views, 100)
    assert joined(views) == content[100:612]
    disk.writev([memoryview(b"ab"), memoryview(b"cde")], 50)
    assert image.read_bytes() == content[:50] + b"abcde" + content[55:]
    disk.readv([], 0)
    disk.writev([], 0)
    disk.close()


def test_transfers_that_the_host_cuts_short_go_on(image, monkeypatch):
    monkeypatch.setattr(
        file_module.os, "preadv", lambda fd, views, at, real=os.preadv: real(fd, part(views, 0, 7), at), raising=True
    )
    monkeypatch.setattr(
        file_module.os, "pwritev", lambda fd, views, at, real=os.pwritev: real(fd, part(views, 0, 7), at), raising=True
    )
    disk = opened(image)
    views = buffers(10, 30)
    disk.readv(views, 5)
    assert joined(views) == image.read_bytes()[5:45]
    disk.writev([memoryview(bytes(range(40)))], 5)
    assert image.read_bytes()[5:45] == bytes(range(40))
    disk.close()


def test_a_size_that_is_no_whole_number_of_sectors_is_rounded_up(image):
    disk = opened(image)
    assert disk.size == 5 * CLUSTER + 1024
    views = buffers(1024)
    views[0][:] = b"x" * 1024
    disk.readv(views, 5 * CLUSTER)
    assert joined(views) == image.read_bytes()[-1000:] + bytes(24)
    disk.close()


def test_discarded_ranges_become_holes_when_wanted(image):
    for unmap in (False, True):
        disk = opened(image, unmap=unmap)
        before = image.stat().st_blocks
        disk.discard(0, CLUSTER)
        assert (image.stat().st_blocks < before) == unmap
        disk.close()


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("unmap", [True, False])
def test_zeros(image, monkeypatch, able, unmap):
    if not able:
        monkeypatch.setattr(RawFile, "_fallocate", lambda self, *range: False)
    disk = opened(image, unmap=unmap)
    content = image.read_bytes()
    disk.write_zeroes(1000, 2 * CLUSTER, unmap)
    assert image.read_bytes() == content[:1000] + bytes(2 * CLUSTER) + content[1000 + 2 * CLUSTER :]
    disk.close()


def test_flushes(image, monkeypatch):
    flushed = []
    monkeypatch.setattr(file_module.os, "fdatasync", flushed.append)
    view = memoryview(b"x")
    disk = opened(image)
    disk.writev([view], 0)
    assert len(flushed) == 0
    disk.flush()
    assert len(flushed) == 1
    synchronous = opened(image, sync=True)
    synchronous.writev([view], 0)
    synchronous.write_zeroes(0, 512, False)
    assert len(flushed) == 3
    unsafe = opened(image, flushes=False)
    unsafe.flush()
    assert len(flushed) == 3
    for one in (disk, synchronous, unsafe):
        one.close()


def test_errors_of_the_host_come_through(image):
    disk = RawFile(os.open(image, os.O_RDONLY))
    for attempt in (lambda: disk.writev([memoryview(b"x")], 0), lambda: disk.write_zeroes(0, 512, False)):
        with pytest.raises(OSError) as error:
            attempt()
        assert error.value.errno == errno.EBADF
    disk.close()


def test_after_a_failed_flush_none_succeeds(image, monkeypatch):
    def fail(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = opened(image)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(file_module.os, "fdatasync", fail)
        disk.flush()
    disk.writev([memoryview(b"x")], 0)
    with pytest.raises(OSError, match="No space left"):
        disk.flush()
    disk.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_snapshot_reads_as_if_written_and_leaves_the_image_alone(image, seed):
    rng = random.Random(seed)
    content = image.read_bytes()
    expected = bytearray(content + bytes(24))
    overlay = Overlay(opened(image, read_only=True), nameless(len(expected)))
    assert overlay.size == len(expected) and not overlay.read_only
    for _ in range(300):
        start = rng.randrange(len(expected)) & -512
        end = min(len(expected), start + rng.choice((512, 4096, CLUSTER, 3 * CLUSTER)))
        action = rng.random()
        if action < 0.4:
            data = rng.randbytes(end - start)
            overlay.writev([memoryview(data[:100]), memoryview(data[100:])], start)
            expected[start:end] = data
        elif action < 0.5:
            overlay.write_zeroes(start, end - start, rng.random() < 0.5)
            expected[start:end] = bytes(end - start)
        else:
            views = buffers(100, end - start - 100)
            overlay.readv(views, start)
            assert joined(views) == expected[start:end]
    overlay.flush()
    overlay.discard(0, 512)
    overlay.close()
    assert image.read_bytes() == content


@pytest.mark.parametrize("seed", range(4))
def test_moments_of_snapshot_mode_can_be_had_again(image, seed):
    rng = random.Random(seed)
    content = image.read_bytes()
    size = -(-len(content) // 512) * 512
    first = Overlay(opened(image, read_only=True), nameless(size))
    disks = [(first, bytearray(content.ljust(size, b"\0")))]
    moments = []
    for _ in range(300):
        disk, expected = rng.choice(disks)
        match rng.randrange(8):
            case 0:
                moments.append((disk.keep(), bytes(expected)))
            case 1 if moments:
                changes, expected[:] = rng.choice(moments)
                disk.restore(changes)
            case 2 if moments and len(disks) < 4:
                changes, kept = rng.choice(moments)
                other = Overlay(opened(image, read_only=True), nameless(size))
                other.restore(changes)
                disks.append((other, bytearray(kept)))
            case _:
                start = rng.randrange(size) & -512
                end = min(size, start + rng.choice((512, 4096, CLUSTER, 3 * CLUSTER)))
                if rng.random() < 0.2:
                    disk.write_zeroes(start, end - start, True)
                    expected[start:end] = bytes(end - start)
                else:
                    expected[start:end] = rng.randbytes(end - start)
                    disk.writev([memoryview(bytes(expected[start:end]))], start)
        views = buffers(size)
        disk.readv(views, 0)
        assert joined(views) == expected
    first.close()  # others may still need what it stored
    for changes, kept in moments:
        copy = Changes.empty(size)
        for offset, data in changes.pieces():
            copy.put(offset, data)
        other = Overlay(opened(image, read_only=True), nameless(size))
        other.restore(copy)
        views = buffers(size)
        other.readv(views, 0)
        assert joined(views) == kept
        other.close()
    assert image.read_bytes() == content


def test_a_refused_write_changes_nothing_of_an_overlay(image, monkeypatch):
    size = -(-len(image.read_bytes()) // 512) * 512
    overlay = Overlay(opened(image, read_only=True), nameless(size))
    overlay.writev([memoryview(b"a" * 1024)], 0)
    changes = overlay.keep()

    def full(buffers, offset):
        raise OSError(28, "full")

    with monkeypatch.context() as patched:
        patched.setattr(changes.store.file, "writev", full)
        with pytest.raises(OSError, match="full"):
            overlay.writev([memoryview(b"b" * 512)], 0)
    views = buffers(1024)
    overlay.readv(views, 0)
    assert joined(views) == b"a" * 1024
    overlay.writev([memoryview(b"c" * 512)], 0)
    overlay.readv(views, 0)
    assert joined(views) == b"c" * 512 + b"a" * 512
    overlay.close()
