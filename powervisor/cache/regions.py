"""Compiled regions on disk: an SQLite database of rows that are found by digests of what they depend on, their heads.

SQLite keeps it whole under concurrent processes and kills. It is not synced to the disk, so that a power failure may
damage it: a digest in each row tells, and a file that is no database any more is begun again. Machines of every version
share the file and its bound. A rollback journal instead of a write-ahead log: that needs memory shared through a file,
which network file systems, read-only directories and truncated files do not give.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .place import root

FILE = "regions.sqlite"
SCHEMA = 3
"""Changes with the tables: a database with another one is begun again."""
HEAD = 16
"""Bytes of a head, and of every digest."""
MOST_FOUND = 16
"""Rows under a head that are looked at."""
MOST_BYTES = 96 << 20
"""Of the file; when it is full the rows least recently used go."""
MOST_ROW = MOST_BYTES // 64
"""A row of more bytes is not kept."""
SPARE_PAGES = 64
"""Of the file, for its trees."""
BATCH = 32
"""Rows dropped at a time: the lock is held for milliseconds."""
WAIT = 0.5
"""Seconds to wait for another process's transaction, after which a region is compiled or not kept."""
CLEAR_WAIT = 10
USED_EVERY = 3600
"""Seconds between notes that a row was used: finding rows seldom writes."""
ERRORS = (sqlite3.Error, UnicodeDecodeError, MemoryError)
"""What using a database may raise; those that are not SQLite's come from nonsense in a damaged one."""
SIDE_FILES = ("-journal", "-wal", "-shm")
_TABLES = (
    "DROP TABLE IF EXISTS regions",
    "DROP TABLE IF EXISTS heads",
    "CREATE TABLE regions (id INTEGER PRIMARY KEY, used INTEGER NOT NULL, core TEXT NOT NULL, heads BLOB NOT NULL, "
    "mark BLOB NOT NULL, digest BLOB NOT NULL UNIQUE, region BLOB NOT NULL, object BLOB NOT NULL)",  # long ones last
    "CREATE INDEX regions_used ON regions (used)",
    "CREATE TABLE heads (head BLOB NOT NULL, region INTEGER NOT NULL, PRIMARY KEY (head, region)) WITHOUT ROWID",
    "CREATE INDEX heads_region ON heads (region)",
    "CREATE TRIGGER regions_gone AFTER DELETE ON regions BEGIN DELETE FROM heads WHERE region = OLD.id; END",
    f"PRAGMA user_version = {SCHEMA}",
)


@dataclass(frozen=True)
class Row:
    """A region as bytes, the heads under which it is found, and a digest of both."""

    id: int
    heads: tuple[bytes, ...]
    region: bytes
    mark: bytes


def digest(*parts: bytes) -> bytes:
    """A short hash."""
    result = hashlib.blake2b(digest_size=HEAD)
    for part in parts:
        result.update(len(part).to_bytes(8, "little") + part)
    return result.digest()


def _apart(heads: bytes) -> tuple[bytes, ...]:
    return tuple(heads[n : n + HEAD] for n in range(0, len(heads), HEAD))


class RegionDatabase:
    """The file of a directory, used by one thread. Where it cannot be used it holds nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder is not None else None
        self._database: sqlite3.Connection | None = None
        self._inode = self._page = 0
        if self._path is not None:
            with self._using():
                self._connect(self._path)

    def _connect(self, path: Path) -> None:
        database = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
        try:
            with contextlib.suppress(OSError):
                self._inode = path.stat().st_ino
            database.text_factory = bytes  # what should be no text, in a damaged row
            with contextlib.suppress(sqlite3.OperationalError):  # somebody has it open: it stays in the other mode
                database.execute("PRAGMA journal_mode = TRUNCATE")
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            self._page = _number(database, "page_size")
            database.execute(f"PRAGMA max_page_count = {MOST_BYTES // self._page}")
            if _number(database, "user_version") != SCHEMA:
                _write_tables(database)
        except BaseException:
            database.close()
            raise
        self._database = database

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """What goes wrong with the database costs a region, or all of them when it is damaged, and nothing else."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except ERRORS as error:
            if _is_damage(error):
                self._begin_again()

    def _begin_again(self) -> None:
        """Another file in place of one that is damaged, unless somebody has put one there already."""
        self.close()
        path, self._path = self._path, None  # once
        if path is None:
            return
        try:
            if path.stat().st_ino == self._inode:
                _remove(path)
        except OSError:
            return
        with self._using():
            self._connect(path)

    def find(self, head: bytes) -> list[Row]:
        """The rows under a head, the one used last first; those that are seen to be damaged are dropped."""
        found: list[tuple[Any, ...]] = []
        if self._database is not None:
            with self._using():
                found = self._database.execute(
                    "SELECT id, regions.heads, regions.region, mark FROM heads JOIN regions ON id = heads.region "
                    "WHERE head = ? ORDER BY used DESC, id DESC LIMIT ?",
                    (head, MOST_FOUND),
                ).fetchall()
        rows = []
        for number, heads, region, mark in found:
            sound = isinstance(heads, bytes) and isinstance(region, bytes) and digest(heads, region) == mark
            if sound and head in (own := _apart(heads)):
                rows.append(Row(number, own, region, mark))
            else:
                self.drop(number)
        return rows

    def object_of(self, row: Row) -> bytes | None:
        """The object of a row that was found; None where it is gone, or the row is damaged and goes."""
        found: list[tuple[Any, ...]] = []
        if self._database is not None:
            with self._using():
                found = self._database.execute("SELECT object, digest FROM regions WHERE id = ?", (row.id,)).fetchall()
        for code, check in found:
            if isinstance(code, bytes) and code and digest(row.mark, code) == check:
                return code
            self.drop(row.id)
        return None

    def used(self, row: Row) -> None:
        """A row was of use."""
        now = int(time.time())
        self._execute("UPDATE regions SET used = ? WHERE id = ? AND used < ?", now, row.id, now - USED_EVERY)

    def drop(self, number: int) -> None:
        """Forget a row."""
        self._execute("DELETE FROM regions WHERE id = ?", number)

    def keep(self, heads: Sequence[bytes], core: str, region: bytes, code: bytes) -> None:
        """Add a row, to be found under each of its heads; where there is no room, those used least recently make it."""
        if (size := len(region) + len(code)) > MOST_ROW:
            return
        together = b"".join(heads)
        mark = digest(together, region)
        check = digest(mark, code)
        row = (int(time.time()), core, together, mark, check, region, code)
        self._prune(size)
        if self._database is None:
            return
        with self._using(), _transaction(self._database) as database:
            database.execute("DELETE FROM regions WHERE digest = ?", (check,))
            number = database.execute("INSERT INTO regions VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid
            database.executemany("INSERT INTO heads VALUES (?, ?)", [(head, number) for head in sorted(set(heads))])

    def _execute(self, statement: str, *values: object) -> None:
        if self._database is not None:
            with self._using():
                self._database.execute(statement, values)

    def _prune(self, size: int) -> None:
        """Make room for a row: when the file is nearly full, for an eighth of it."""
        if self._database is None:
            return
        with self._using():
            most = MOST_BYTES - size - SPARE_PAGES * self._page
            if self._bytes(self._database) <= most:
                return
            while self._bytes(self._database) > most - MOST_BYTES // 8:
                done = self._database.execute(
                    "DELETE FROM regions WHERE id IN (SELECT id FROM regions ORDER BY used LIMIT ?)", (BATCH,)
                )
                if done.rowcount < 1:
                    return

    def _bytes(self, database: sqlite3.Connection) -> int:
        """Bytes of the file that hold something: free pages are used again."""
        return (_number(database, "page_count") - _number(database, "freelist_count")) * self._page

    def close(self) -> None:
        """Close the file."""
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()


def _number(database: sqlite3.Connection, name: str) -> int:
    """The number that a PRAGMA tells."""
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _is_damage(error: Exception) -> bool:
    if not isinstance(error, sqlite3.Error):
        return True
    damage = sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR  # the last: of what tables there are
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in damage


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All changes, or none."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _write_tables(database: sqlite3.Connection, anyway: bool = False) -> None:
    """Make empty tables, unless another process did so while this one waited, or `anyway`."""
    with _transaction(database):
        if anyway or _number(database, "user_version") != SCHEMA:
            for statement in _TABLES:
                database.execute(statement)


def _remove(path: Path) -> None:
    """Remove a database, first what SQLite would take for changes of a new one."""
    for suffix in SIDE_FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Summary:
    """What a database holds: rows and their bytes by core (None: it cannot be read), and bytes of its files."""

    rows: dict[str, tuple[int, int]] | None
    size: int


def summary() -> Summary:
    """What is kept. Raises OSError."""
    path, size = root() / FILE, 0
    for suffix in ("", *SIDE_FILES):
        with contextlib.suppress(FileNotFoundError):
            size += os.stat(f"{path}{suffix}").st_size
    if not path.exists():
        return Summary({}, size)
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=WAIT)) as database:
            if _number(database, "user_version") != SCHEMA:
                return Summary({}, size)
            rows = database.execute(
                "SELECT core, count(*), sum(length(region) + length(object)) FROM regions GROUP BY core"
            )
            return Summary({str(core): (count, bytes_) for core, count, bytes_ in rows}, size)
    except ERRORS:
        return Summary(None, size)


def clear() -> tuple[int, int]:
    """Remove all regions; their number and bytes. Machines may run. Raises OSError.

    The file stays, empty: machines that have it open go on with it.
    """
    path = root() / FILE
    before = summary()
    if not path.exists():
        return 0, 0
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=CLEAR_WAIT, isolation_level=None)) as database:
            _write_tables(database, anyway=True)
            database.execute("VACUUM")
    except ERRORS as error:
        if not _is_damage(error):
            raise OSError(0, str(error), str(path)) from None
        _remove(path)
    return sum(count for count, _ in (before.rows or {}).values()), max(before.size - summary().size, 0)
