"""Images on disk: whole or not there, bounded in number."""

import errno
import os
import struct
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from powervisor.cache import images, place
from powervisor.isa import cores
from powervisor.native.codespace import CodeSpace
from powervisor.translate import builder, image, stencil_process


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path / "deep" / "cache"))
    path = images.path_of("e5500", "key")
    assert path is not None
    return path.parent


def keep(folder, key: str, age: float = 0) -> None:
    path = folder / f"e5500-{key}{images.SUFFIX}"
    images.write(path, images.whole(b"names", b"code" * 1000))
    if age and path.exists():
        os.utime(path, (time.time() - age,) * 2)


def test_an_image_is_read_as_it_was_written(folder):
    keep(folder, "key")
    assert images.read(folder / "e5500-key.image") == (b"names", b"code" * 1000)
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert [(entry.core, entry.path.name) for entry in images.entries()] == [("e5500", "e5500-key.image")]


def test_damage_anywhere_makes_an_image_unread(folder):
    path = folder / "e5500-key.image"
    keep(folder, "key")
    whole = path.read_bytes()
    for length in (0, 5, images.HEAD.size - 1, images.HEAD.size, images.HEAD.size + 3, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert images.read(path) is None
    path.write_bytes(whole + b"more")
    assert images.read(path) is None
    for at in (0, 8, 9, 15, 16, 23, 24, 55, 56, 60, 61, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert images.read(path) is None, at
    sizes = struct.pack("<QQ", 7, len(whole) - images.HEAD.size - 7)  # another border between the parts
    path.write_bytes(whole[:8] + sizes + whole[24:])
    assert images.read(path) is None


def test_what_is_no_file_is_unread(folder):
    assert images.read(folder / "none.image") is None
    assert images.read(folder) is None


def test_the_images_used_last_are_kept(folder):
    for n in range(images.KEPT):
        keep(folder, f"{n}", age=1000 - n)
    assert images.read(folder / "e5500-0.image") is not None  # used now
    keep(folder, "new")
    names = {entry.path.name for entry in images.entries()}
    assert len(names) == images.KEPT
    assert {"e5500-0.image", "e5500-new.image"} <= names and "e5500-1.image" not in names


def test_what_a_killed_process_left_is_removed(folder):
    abandoned, current = folder / "e5500-a.image.0123.tmp", folder / "e5500-b.image.4567.tmp"
    abandoned.touch()
    current.touch()
    os.utime(abandoned, (time.time() - 2 * images.ABANDONED,) * 2)
    keep(folder, "key")
    assert not abandoned.exists() and current.exists()


def test_what_cannot_be_written_is_not_kept(folder):
    keep(folder / "missing", "key")
    assert not images.entries()
    (folder / "e5500-key.image").mkdir()
    keep(folder, "key")
    assert not list(folder.glob("*.tmp"))


def test_clearing_removes_images_and_remains(folder):
    keep(folder, "a")
    keep(folder, "b")
    (folder / "e5500-c.image.89.tmp").touch()
    count, size = images.clear()
    assert count == 2 and size == 2 * len(images.whole(b"names", b"code" * 1000))
    assert not list(folder.iterdir())
    assert images.clear() == (0, 0)


def test_one_process_at_a_time_makes_an_image(folder):
    path = folder / "e5500-key.image"
    order = []

    def second() -> None:
        with images.alone(path):
            order.append(images.read(path))

    with images.alone(path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
        keep(folder, "key")
    thread.join()
    assert order == ["first", (b"names", b"code" * 1000)]
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_of_many_that_want_an_image_none_meets_another(folder):
    path, inside, most = folder / "e5500-key.image", [], []

    def build() -> None:
        with images.alone(path):
            inside.append(None)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=build) for _ in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # some wait when the first one goes, others come later
    for thread in threads:
        thread.join()
    assert most == [1] * 6 and not list(folder.iterdir())


def test_where_no_lock_can_be_had_all_go_on(folder):
    with images.alone(folder / "missing" / "e5500-key.image"), images.alone(folder / "missing" / "e5500-key.image"):
        assert not images.entries()


def test_a_builder_takes_what_another_has_built(folder, tmp_path, monkeypatch):
    keep(folder, "key")
    shared = tmp_path / "shared"
    shared.touch()
    begin = time.monotonic()
    monkeypatch.setattr(os, "nice", lambda by: 0)  # of this process
    builder.main("e5500", "0x10000000", str(shared), str(folder / "e5500-key.image"))
    assert images.read(shared) == (b"names", b"code" * 1000)
    assert time.monotonic() - begin < 1


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A system's cache with an image for everybody, and a user whose home is empty."""
    monkeypatch.setattr(place, "SYSTEM", tmp_path / "system")
    monkeypatch.delenv("POWERVISOR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "system" / images.FOLDER
    folder.mkdir(parents=True)
    keep(folder, "key")
    return tmp_path


def test_an_image_for_everybody_is_read_where_there_is_no_own(prepared):
    everybodys = prepared / "system" / "images" / "e5500-key.image"
    assert images.path_of("e5500", "key") == everybodys and images.read(everybodys) is not None
    assert images.path_of("e5500", "other") == prepared / "home" / "powervisor" / "images" / "e5500-other.image"
    keep(prepared / "home" / "powervisor" / "images", "key")
    assert images.path_of("e5500", "key") == prepared / "home" / "powervisor" / "images" / "e5500-key.image"


@pytest.mark.parametrize("folder", ["system", "system/images"])
def test_an_image_that_others_could_have_written_is_not_taken(prepared, folder):
    (prepared / folder).chmod(0o777)
    assert images.path_of("e5500", "key") == prepared / "home" / "powervisor" / "images" / "e5500-key.image"


def test_without_a_lasting_home_a_prepared_directory_is_the_cache(prepared):
    mine = prepared / "system" / str(os.getuid())
    assert place.root() == prepared / "home" / "powervisor"
    mine.mkdir()
    assert place.root() == mine
    mine.chmod(0o777)  # somebody else's code could be in it
    assert place.root() == prepared / "home" / "powervisor"
    mine.chmod(0o700)
    (prepared / "home" / "powervisor").mkdir(parents=True)
    assert place.root() == prepared / "home" / "powervisor"


def test_an_image_is_found_again_whatever_lies_in_low_memory():
    def base() -> int:
        """Where a machine's code goes, on which its image depends."""
        space = CodeSpace(256 << 20)
        try:
            return space.base
        finally:
            space.close()

    before = base()
    heap = CodeSpace(64 << 20, 0x1000_0000)  # as that of programs that are not position-independent
    try:
        assert base() == before
    finally:
        heap.close()


def no_process(*command, **options):
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_without_another_process_an_image_is_built_here(folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", no_process)
    store = image.Store(cores.get("e5500"), [])
    monkeypatch.setattr(store, "build", lambda space: "built here")
    monkeypatch.setattr(stencil_process, "compile_stencils", lambda *which: (b"compiled", b"here"))
    building = image.Building(store, SimpleNamespace(base=0x1000_0000))
    assert building.result() == "built here"
    building.abandon()
    assert stencil_process.StencilProcess("e5500", True, True).result() == (b"compiled", b"here")


@pytest.mark.parametrize("writable", [True, False])
def test_an_image_that_cannot_be_kept_is_given_up_with_its_machine(folder, monkeypatch, writable):
    started, popen = [], subprocess.Popen

    def start(command, **options):
        started.append(popen(["sleep", "60"], **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    building = image.Building(image.Store(cores.get("e5500"), []), SimpleNamespace(base=0x1000_0000))
    building.abandon()
    if writable:
        assert started[0].poll() is None
        started[0].kill()
    building.wait()
    assert started[0].returncode == (-9 if writable else -15)
