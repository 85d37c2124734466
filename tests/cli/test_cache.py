"""powervisor cache, and -no-cache."""

import os

import pytest

from powervisor.cache import images
from powervisor.cache.regions import FILE, RegionDatabase


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    return tmp_path


def fill(place) -> None:
    for core, key in (("e5500", "1"), ("e500mc", "2"), ("e500mc", "3")):
        images.write(images.path_of(core, key), images.whole(b"", bytes(1 << 20)))
    database = RegionDatabase(place)
    for n in range(7):
        database.keep([b"%16d" % n], "e6500", b"region", bytes(4096))
    database.close()
    (place / "guests").mkdir()
    (place / "guests" / "uImage").write_bytes(bytes(3 << 20))


def test_an_empty_cache(command, place):
    done = command("cache")
    assert done.status == 0 and not done.err
    assert done.out.splitlines()[0] == str(place)
    assert done.out.splitlines()[1].startswith("total 0 KiB (images: 24 at most; regions: 96.0 MiB at most")
    assert not list(place.iterdir())


def test_a_directory_that_is_not_there_is_not_made(command, place, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(place / "none"))
    assert command("cache").status == 0
    assert command("cache", "clear").status == 0
    assert not (place / "none").exists()


def test_what_is_there_is_shown(command, place):
    fill(place)
    rows = [line.split() for line in command("cache").out.splitlines()[1:]]
    assert rows[0][:7] == ["images", "e500mc", "2", "2.0", "MiB", "used", "0"]
    assert rows[1][:5] == ["images", "e5500", "1", "1.0", "MiB"]
    assert rows[2] == ["regions", "e6500", "7", "29", "KiB"]
    assert rows[3][:4] == ["guests", "1", "3.0", "MiB"]


def test_clear_leaves_guests(command, place):
    fill(place)
    done = command("cache", "clear")
    assert done.status == 0
    assert done.out.startswith("images: 3 removed, 3.0 MiB\nregions: 7 removed, ")
    assert (place / "guests" / "uImage").exists()
    assert [line.split()[0] for line in command("cache").out.splitlines()[1:]] == ["guests", "total"]


@pytest.mark.parametrize("kind, other", [("images", "regions"), ("regions", "images")])
def test_clear_of_one_kind(command, place, kind, other):
    fill(place)
    assert command("cache", "clear", kind).out.count("\n") == 1
    shown = {line.split()[0] for line in command("cache").out.splitlines()}
    assert other in shown and kind not in shown


def test_a_damaged_database_is_told_and_cleared(command, place):
    (place / FILE).write_bytes(b"no database" * 1000)
    assert "damaged" in command("cache").out
    assert command("cache", "clear").status == 0
    assert not (place / FILE).exists()


@pytest.mark.parametrize(
    "words, status",
    [(("clear", "guests"), 1), (("clear", "image"), 1), (("show", "images"), 1), (("erase",), 2), (("-json",), 2)],
)
def test_what_is_asked_wrongly_is_told_in_a_line(command, place, words, status):
    done = command("cache", *words)
    assert done.status == status
    assert done.err.count("\n") == 1 and done.err.startswith("powervisor cache: ")


def test_what_cannot_be_cleared_is_told_in_a_line(command, place):
    (place / FILE).mkdir()
    done = command("cache", "clear", "regions")
    assert done.status == 1
    assert done.err.count("\n") == 1 and os.fspath(place / FILE) in done.err


@pytest.mark.parametrize("option", ["-no-cache", "--no-cache"])
def test_no_cache_reaches_the_machine(command, machine, option):
    assert command("run", option, "-serial", "null").status == 0
    assert machine.last.arguments["cache"] is False
    assert command("run", "-serial", "null").status == 0
    assert "cache" not in machine.last.arguments
