"""Snapshot files: what is written is read, and of one that is cut off or altered only one line is said."""

import os
import random

import pytest

from powervisor.errors import UserError
from powervisor.snapshots import file
from powervisor.snapshots.file import CHUNK, read, write

HEADER = {"name": "x", "numbers": [1, -2, 1 << 63], "bytes": b"\0\1", "nested": {"none": None, "true": True}}


def sections(seed=1):
    rng = random.Random(seed)
    return {
        "memory": [(n * CHUNK, rng.randbytes(1000) * 50 + bytes(5000)) for n in range(7)],
        "empty": [],
        "disk:a b": [(1 << 40, rng.randbytes(CHUNK))],
    }


def content(path):
    found = read(path)
    parts = {}
    for name in found.sections:
        parts[name] = {}
        found.read(name, parts[name].__setitem__)
    return found.header, {name: sorted(pieces.items()) for name, pieces in parts.items()}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "snapshot"
    write(path, HEADER, sections(), None)
    return path


def test_what_is_written_is_read(path):
    assert content(path) == (HEADER, sections())
    assert read(path).sections == {"memory": 7 * 55000, "empty": 0, "disk:a b": CHUNK}
    assert [p.name for p in path.parent.iterdir()] == ["snapshot"]


def refused(path):
    with pytest.raises(UserError) as told:
        content(path)
    line = str(told.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and "; " in line
    return line


def test_every_length_but_the_whole_is_refused(path):
    data = path.read_bytes()
    rng = random.Random(2)
    for length in {*range(60), *(rng.randrange(len(data)) for _ in range(60)), len(data) - 1}:
        path.write_bytes(data[:length])
        refused(path)
    path.write_bytes(data + b"\0")
    refused(path)


def test_every_flipped_bit_is_found(path):
    data = path.read_bytes()
    rng = random.Random(3)
    places = [*range(48), *range(len(data) - 40, len(data)), *(rng.randrange(len(data)) for _ in range(300))]
    for at in places:
        altered = bytearray(data)
        altered[at] ^= 1 << rng.randrange(8)
        path.write_bytes(altered)
        refused(path)


def test_noise_is_refused(path):
    rng = random.Random(4)
    for _ in range(50):
        path.write_bytes((file.MAGIC if rng.random() < 0.5 else b"") + rng.randbytes(rng.randrange(5000)))
        refused(path)


def test_a_newer_format_is_told_as_such(path, monkeypatch):
    monkeypatch.setattr(file, "VERSION", 2)
    write(path, HEADER, sections(), None)
    monkeypatch.undo()
    assert "format 2, this Powervisor reads format 1" in refused(path)


def test_what_is_no_file_is_refused(tmp_path):
    refused(tmp_path / "missing")
    refused(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(path, monkeypatch):
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written.*No space left"):
        write(path, {}, {}, None)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    with pytest.raises(UserError, match="cannot be written"):
        write(path.parent / "none" / "x", {}, {}, None)


def test_long_work_is_told_of(path, monkeypatch):
    monkeypatch.setattr(file, "_TELL_EVERY", -1)
    told = []
    write(path, HEADER, sections(), told.append)
    read(path).read("memory", lambda offset, data: None, told.append)
    assert any("writing" in line and "MiB" in line for line in told) and any("reading" in line for line in told)


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UserError, match="no regular file"):
        file.write(tmp_path / "pipe", {}, {}, None)
    file.write(tmp_path / "link", {}, {}, None)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").is_file()
