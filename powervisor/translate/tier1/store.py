"""Compiled regions on disk, for the next run of the same guest code.

A row is found by the code at a region's head, and holds for memory that has the same words wherever the region has any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ...cache.place import directory
from ...cache.regions import RegionDatabase, Row, digest
from ...isa.cores import Core
from ..image import image_key
from .shape import Region, packed, unpacked

HEAD_WORDS = 16
"""Instructions at the head that choose a row."""


def open_store(core: Core, cache: bool = True) -> RegionStore:
    """The regions of this version for a core, on this host; none with `cache` off."""
    if not cache:
        return RegionStore(None, "")
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return RegionStore(directory(), image_key(core, 0, []) + hashlib.sha256(sources).hexdigest())


class RegionStore:
    """The regions of one version on one host, used by one thread. Without a directory it holds nothing."""

    def __init__(self, folder: Path | None, version: str) -> None:
        self._version = version.encode()
        self._database = RegionDatabase(folder)

    def _head(self, core: str, mode: int, words: list[int]) -> bytes:
        head = b"".join(word.to_bytes(4, "big") for word in words)
        return digest(self._version, core.encode(), mode.to_bytes(4, "little"), head)

    def find(self, core: str, mode: int, words: list[int]) -> Iterator[tuple[Region, Row]]:
        """Regions whose head has these words, with their objects."""
        for row in self._database.find(self._head(core, mode, words)):
            yield unpacked(row.region), row

    def used(self, row: Row) -> None:
        """A row that was found serves: it is worth keeping."""
        self._database.used(row)

    def keep(self, region: Region, words: list[int], code: bytes) -> None:
        """Remember a region's object."""
        self._database.keep(self._head(region.core, region.mode, words), region.core, packed(region), code)

    def drop(self, row: Row) -> None:
        """Forget a row that was found."""
        self._database.drop(row.id)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
