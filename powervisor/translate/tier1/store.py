"""Compiled regions on disk, for the next run of the same guest code.

A row is found by the code at a region's head, and holds for memory that has the same words wherever the region has any.
SQLite keeps it whole under concurrent processes and kills; a digest tells rows that are damaged all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...isa.cores import Core
from ..image import cache_directory, image_key
from .shape import Region, packed, unpacked

FILE = "regions.sqlite"
HEAD_WORDS = 16
"""Instructions at the head that choose a row."""
MOST_BYTES = 96 << 20
"""Objects kept; the least recently used go first."""
WAIT = 0.5
"""Seconds to wait for another process's transaction."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS regions (
    head BLOB NOT NULL, region BLOB NOT NULL, object BLOB NOT NULL, digest BLOB NOT NULL, used REAL NOT NULL,
    PRIMARY KEY (head, region)
);
CREATE INDEX IF NOT EXISTS regions_used ON regions (used);
"""


def open_store(core: Core) -> RegionStore:
    """The cache of this version for a core, on this host."""
    images = cache_directory()
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    version = image_key(core, 0, []) + hashlib.sha256(sources).hexdigest()
    return RegionStore(images.parent if images is not None else None, version)


def digest(*parts: bytes) -> bytes:
    """A short hash."""
    result = hashlib.blake2b(digest_size=16)
    for part in parts:
        result.update(len(part).to_bytes(8, "little") + part)
    return result.digest()


class RegionStore:
    """The cache of one version on one host, used by one thread. Without a directory it holds nothing."""

    def __init__(self, directory: Path | None, version: str) -> None:
        self._version = version.encode()
        self._path = directory / FILE if directory is not None else None
        self._database: sqlite3.Connection | None = None
        self._written = 0
        self._open()

    def _open(self) -> None:
        if self._path is None:
            return
        try:
            self._connect()
        except sqlite3.DatabaseError:  # not a database, or one that is damaged: begin again
            self.close()
            try:
                self._path.unlink(missing_ok=True)
                self._connect()
            except (OSError, sqlite3.Error):
                self.close()

    def _connect(self) -> None:
        self._database = sqlite3.connect(self._path, timeout=WAIT, isolation_level=None)  # type: ignore[arg-type]
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection | None]:
        """The database; what goes wrong with it ends its use, and nothing else."""
        try:
            yield self._database
        except sqlite3.OperationalError:  # busy, or the disk is full: this region is not kept
            return
        except sqlite3.DatabaseError:
            self.close()

    def _head(self, core: str, mode: int, words: list[int]) -> bytes:
        head = b"".join(word.to_bytes(4, "big") for word in words)
        return digest(self._version, core.encode(), mode.to_bytes(4, "little"), head)

    def find(
        self, core: str, mode: int, words: list[int], matches: Callable[[Region], bool]
    ) -> tuple[Region, bytes] | None:
        """A region whose head has these words and which `matches` accepts, with its object."""
        with self._using() as database:
            if database is None:
                return None
            head = self._head(core, mode, words)
            rows = database.execute(
                "SELECT rowid, region, object, digest FROM regions WHERE head = ? ORDER BY used DESC LIMIT 8", (head,)
            ).fetchall()
            for row, data, code, check in rows:
                if digest(head, data, code) != check:
                    database.execute("DELETE FROM regions WHERE rowid = ?", (row,))
                elif matches(region := unpacked(data)):
                    database.execute("UPDATE regions SET used = ? WHERE rowid = ?", (time.time(), row))
                    return region, code
        return None

    def keep(self, region: Region, words: list[int], code: bytes) -> None:
        """Remember a region's object."""
        with self._using() as database:
            if database is None:
                return
            head, data = self._head(region.core, region.mode, words), packed(region)
            database.execute(
                "INSERT OR REPLACE INTO regions VALUES (?, ?, ?, ?, ?)",
                (head, data, code, digest(head, data, code), time.time()),
            )
            self._written += len(code)
            if self._written > MOST_BYTES // 16:
                self._written = 0
                self._prune(database)

    @staticmethod
    def _prune(database: sqlite3.Connection) -> None:
        """Drop the rows least recently used until the rest is small enough."""
        total = 0
        for used, size in database.execute(
            "SELECT used, length(object) FROM regions ORDER BY used DESC"
        ).fetchall():
            total += size
            if total > MOST_BYTES:
                database.execute("DELETE FROM regions WHERE used <= ? AND rowid >= 0", (used,))
                database.execute("VACUUM")
                return

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
