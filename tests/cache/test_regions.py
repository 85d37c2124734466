"""The regions' database under everything that happens to files: it may forget, but never fails or errs."""

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from powervisor.cache import regions
from powervisor.cache.regions import FILE, RegionDatabase

NEW = b"the head of one "
TREE = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from pathlib import Path
from powervisor.cache.regions import RegionDatabase
database = RegionDatabase(Path(sys.argv[1]))
print("ready", flush=True)
for n in range(int(sys.argv[3]), int(sys.argv[4])):
    database.keep([b"%16d" % n, b"%16d" % -n], sys.argv[2], b"region%d" % n, b"object%d" % n * 500)
"""


def head(n: int) -> bytes:
    return b"%16d" % n


def heads(n: int) -> list[bytes]:
    """A row is found by each of these."""
    return [head(n), head(-n)]


def code(n: int) -> bytes:
    return b"object%d" % n * 500


def fill(folder: Path, count: int) -> None:
    with opened(folder) as database:
        for n in range(count):
            database.keep(heads(n), "e500mc", b"region%d" % n, code(n))


@contextlib.contextmanager
def opened(folder: Path):
    database = RegionDatabase(folder)
    try:
        yield database
    finally:
        database.close()


def found(folder: Path, numbers: range) -> int:
    """How many rows there are; each must be the right one."""
    count = 0
    with opened(folder) as database:
        for n in numbers:
            for row in database.find(head(n if n % 2 else -n)):
                assert row.region == b"region%d" % n
                if (object_ := database.object_of(row)) is not None:
                    assert object_ == code(n)
                    count += 1
    return count


def unpaired(folder: Path) -> int:
    """Heads of rows that are not there, and rows that are not found by one of theirs."""
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        lost = database.execute("SELECT count(*) FROM heads WHERE region NOT IN (SELECT id FROM regions)").fetchone()[0]
        known = set(database.execute("SELECT head, region FROM heads"))
        for number, together in database.execute("SELECT id, heads FROM regions"):
            lost += any((together[n : n + 16], number) not in known for n in range(0, len(together), 16))
    return int(lost)


def works(folder: Path) -> bool:
    """A row can be kept and is found by another connection."""
    with opened(folder) as database:
        database.keep([NEW], "e5500", b"region", b"object")
    with opened(folder) as database:
        return [(row.region, database.object_of(row)) for row in database.find(NEW)] == [(b"region", b"object")]


def writer(folder: Path, first: int, last: int) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", WRITER, str(folder), "e500mc", str(first), str(last)]
    return subprocess.Popen(words, cwd=TREE, stdout=subprocess.PIPE)


def test_rows_are_found_again(tmp_path):
    fill(tmp_path, 20)
    assert found(tmp_path, range(25)) == 20
    assert not list(tmp_path.glob("*-journal")) or (tmp_path / f"{FILE}-journal").stat().st_size == 0


def test_a_row_kept_twice_is_one_row(tmp_path):
    fill(tmp_path, 3)
    fill(tmp_path, 3)
    assert found(tmp_path, range(3)) == 3
    assert unpaired(tmp_path) == 0


@pytest.mark.parametrize("folder", [None, "missing", "file/below"])
def test_without_a_usable_directory_nothing_is_kept(tmp_path, folder):
    (tmp_path / "file").touch()
    with contextlib.closing(RegionDatabase(tmp_path / folder if folder else None)) as database:
        database.keep([NEW], "e500mc", b"b", b"c")
        assert not list(database.find(NEW))


def damaged_versions(whole: bytes):
    yield "a column's name", whole.replace(b"mark BLOB", b"mbrk BLOB")
    yield "empty", b""
    yield "text", b"this is no database\n" * 400
    yield "first page only", whole[:4096]
    yield "half", whole[: len(whole) // 2]
    yield "odd length", whole[:-1234]
    yield "no header", bytes(100) + whole[100:]
    yield "no schema", whole[:100] + bytes(3996) + whole[4096:]
    yield "zeros at the end", whole[: len(whole) // 3] + bytes(len(whole) - len(whole) // 3)


def test_damaged_files_are_begun_again(tmp_path):
    fill(tmp_path, 40)
    whole = (tmp_path / FILE).read_bytes()
    for name, data in damaged_versions(whole):
        (tmp_path / FILE).write_bytes(data)
        assert found(tmp_path, range(40)) < 40, name
        assert works(tmp_path) or works(tmp_path), name  # the first use may be the one that notices


def test_flipped_bytes_never_make_a_wrong_row(tmp_path):
    fill(tmp_path, 40)
    whole = (tmp_path / FILE).read_bytes()
    chance = random.Random(1)
    lost = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 8, 100))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / FILE).write_bytes(data)
        lost += found(tmp_path, range(40)) < 40
        with opened(tmp_path) as database:
            database.keep([NEW], "e5500", b"region", b"object")
    assert lost > 20


def test_values_of_another_type_are_dropped(tmp_path):
    fill(tmp_path, 4)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("UPDATE regions SET object = 7 WHERE id = 1")
        database.execute("UPDATE regions SET region = 'text' WHERE id = 2")
        database.execute("UPDATE regions SET digest = 'x' WHERE id = 3")
        database.commit()
    assert found(tmp_path, range(4)) == 1
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        assert database.execute("SELECT count(*) FROM regions").fetchone() == (1,)


def test_a_row_moved_under_another_head_is_dropped(tmp_path):
    fill(tmp_path, 3)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("UPDATE heads SET head = ? WHERE region = 2 AND head = ?", (head(9), head(1)))
        database.execute("UPDATE regions SET heads = ? WHERE id = 3", (head(8) + head(-2),))
        database.commit()
    with opened(tmp_path) as database:
        assert not database.find(head(9))
        assert not database.find(head(2))
    assert found(tmp_path, range(3)) == 1
    assert unpaired(tmp_path) == 0


def test_a_row_that_goes_takes_its_heads_along(tmp_path):
    fill(tmp_path, 4)
    with opened(tmp_path) as database:
        for row in database.find(head(3)):
            database.drop(row.id)
        assert not database.find(head(-3))
    assert unpaired(tmp_path) == 0


def test_a_row_that_goes_while_it_is_looked_at_has_no_object(tmp_path):
    fill(tmp_path, 2)
    with opened(tmp_path) as database, opened(tmp_path) as other:
        (row,) = database.find(head(1))
        other.drop(row.id)
        assert database.object_of(row) is None


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_of_another_version_is_begun_again(tmp_path, journal):
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE regions (head BLOB, object BLOB)")
        database.execute("INSERT INTO regions VALUES (x'00', zeroblob(100000))")
        database.commit()
        assert works(tmp_path)  # while another process has it open
    assert works(tmp_path)


def test_log_and_memory_files_left_behind_do_no_harm(tmp_path):
    fill(tmp_path, 5)
    for suffix in regions.SIDE_FILES:
        Path(f"{tmp_path / FILE}{suffix}").write_bytes(os.urandom(5000))
    found(tmp_path, range(5))
    assert works(tmp_path)


def test_a_database_removed_meanwhile(tmp_path):
    with opened(tmp_path) as database:
        database.keep(heads(0), "e500mc", b"region0", code(0))
        (tmp_path / FILE).unlink()
        fill(tmp_path, 3)
        for n in range(3, 9):
            database.keep(heads(n), "e500mc", b"region%d" % n, code(n))
    assert found(tmp_path, range(9)) == 3


def test_a_damaged_file_that_another_process_replaced_is_left_alone(tmp_path):
    fill(tmp_path, 40)
    with opened(tmp_path) as database:
        with open(tmp_path / FILE, "r+b") as file:  # what this connection has open
            file.write(b"\xff" * 40000)
        (tmp_path / FILE).unlink()
        fill(tmp_path, 3)
        for n in range(3):
            list(database.find(head(n)))
    assert found(tmp_path, range(3)) == 3


def test_a_read_only_database_is_read(tmp_path):
    """In another process, which as root gives its rights away first."""
    fill(tmp_path, 5)
    (tmp_path / FILE).chmod(0o444)
    tmp_path.chmod(0o555)
    for folder in (path for path in tmp_path.parents if path.name.startswith(("pytest-", "popen-"))):
        folder.chmod(folder.stat().st_mode | 0o011)
    program = f"""
import os, sys
from pathlib import Path
from powervisor.cache.regions import RegionDatabase
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
database = RegionDatabase(Path({str(tmp_path)!r}))
database.keep([b"%16d" % 9], "e500mc", b"a", b"b")
rows = [row for n in range(5) for row in database.find(b"%16d" % n) if database.object_of(row)]
for row in rows:
    database.used(row)
print(len(rows), len(database.find(b"%16d" % 9)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=TREE, capture_output=True, text=True, timeout=60)
    assert done.stdout == "5 0\n", done.stderr


def test_a_full_disk_costs_rows_only(tmp_path):
    fill(tmp_path, 5)
    size = (tmp_path / FILE).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with opened(tmp_path) as database:
            for n in range(5, 60):
                database.keep(heads(n), "e500mc", b"region%d" % n, code(n))
            assert [database.object_of(row) for row in database.find(head(2))] == [code(2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 5 <= found(tmp_path, range(60)) < 60
    assert works(tmp_path)


def test_several_processes_write_at_once(tmp_path):
    processes = [writer(tmp_path, 100 * n, 100 * n + 100) for n in range(3)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert found(tmp_path, range(300)) >= 290  # one that waited too long may go unkept
    assert unpaired(tmp_path) == 0


def test_a_kill_at_any_moment_harms_nothing(tmp_path):
    fill(tmp_path, 10)
    chance = random.Random(2)
    for turn in range(8):
        process = writer(tmp_path, 1000 * turn + 1000, 1000 * turn + 2000)
        assert process.stdout is not None
        with process.stdout as output:
            output.readline()
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert found(tmp_path, range(10)) == 10
    assert found(tmp_path, range(10, 9000)) > 0
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert unpaired(tmp_path) == 0


def test_a_process_that_holds_the_lock_is_not_waited_for_long(tmp_path):
    fill(tmp_path, 3)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        with opened(tmp_path) as database:
            other.execute("BEGIN EXCLUSIVE")
            begin = time.monotonic()
            assert not list(database.find(head(1)))
            database.keep([NEW], "e500mc", b"a", b"b")
            assert time.monotonic() - begin < 4 * regions.WAIT
            other.execute("COMMIT")
            assert list(database.find(head(1)))


def test_the_file_is_bounded_and_the_rows_used_last_stay(tmp_path, monkeypatch):
    most = 2 << 20
    monkeypatch.setattr(regions, "MOST_BYTES", most)
    now = 1_000_000_000
    monkeypatch.setattr(regions.time, "time", lambda: now)
    with opened(tmp_path) as database:
        for n in range(1000):
            now += regions.USED_EVERY + 1
            database.keep(heads(n), "e500mc", b"region%d" % n, code(n))
            for row in database.find(head(0)):
                database.used(row)
        assert (tmp_path / FILE).stat().st_size <= most
        kept = [n for n in range(1000) if list(database.find(head(n)))]
    assert unpaired(tmp_path) == 0
    assert kept[0] == 0
    assert kept[1:] == list(range(1000 - len(kept) + 1, 1000))
    assert sum(len(code(n)) for n in kept) > most * 3 // 4


def test_many_short_processes_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "MOST_BYTES", 1 << 20)
    for n in range(400):
        with opened(tmp_path) as database:
            database.keep(heads(n), "e500mc", b"region%d" % n, code(n))
    assert (tmp_path / FILE).stat().st_size <= 1 << 20
    assert found(tmp_path, range(399, 400)) == 1


def test_what_is_too_large_is_not_kept(tmp_path):
    with opened(tmp_path) as database:
        database.keep([NEW], "e500mc", b"b", bytes(regions.MOST_ROW))
        assert not list(database.find(NEW))


def test_clearing_while_others_use_it(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    fill(tmp_path, 40)
    with opened(tmp_path) as database:
        count, size = regions.clear()
        assert count == 40 and size > sum(len(code(n)) for n in range(40))
        assert not list(database.find(head(1)))
        database.keep(heads(1), "e500mc", b"region1", code(1))
        assert list(database.find(head(1)))
    assert regions.summary().rows == {"e500mc": (1, len(b"region1" + code(1)))}


def test_clearing_what_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path))
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    assert regions.summary().rows is None
    regions.clear()
    assert regions.summary() == regions.Summary({}, 0)
    assert regions.clear() == (0, 0)
