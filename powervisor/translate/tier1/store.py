"""Compiled regions on disk, for the next run of the same guest code.

A region is found by the code at any of its entries, and holds for memory that has the same words wherever it has any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...cache.place import directory
from ...cache.regions import RegionDatabase, Row, digest
from ...isa.cores import Core
from ..image import image_key
from .memory import PAGE_SIZE
from .shape import Region, packed, unpacked

HEAD_WORDS = 16
"""Instructions at an entry that lead to a region, fewer at the end of a page: the next one need not be mapped."""


def open_store(core: Core, cache: bool = True) -> RegionStore:
    """The regions of this version for a core, on this host; none with `cache` off."""
    if not cache:
        return RegionStore(None, "")
    try:
        sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    except OSError:  # they are being replaced: nobody could tell by what a region was made
        return RegionStore(None, "")
    return RegionStore(directory(), image_key(core, 0, []) + hashlib.sha256(sources).hexdigest())


@dataclass(frozen=True)
class Kept:
    """A region that was found, and where its home page is: a distance in pages from that of the instruction."""

    region: Region
    home: int
    row: Row


class RegionStore:
    """The regions of one version on one host, used by one thread. Without a directory it holds nothing."""

    def __init__(self, folder: Path | None, version: str) -> None:
        self._version = version.encode()
        self._database = RegionDatabase(folder)

    def _head(self, core: str, mode: int, word: Callable[[int], int | None], at: int) -> bytes:
        last = min(at + 4 * HEAD_WORDS, (at // PAGE_SIZE + 1) * PAGE_SIZE)
        words = b"".join((word(place) or 0).to_bytes(4, "big") for place in range(at, last, 4))
        return digest(self._version, core.encode(), mode.to_bytes(4, "little"), words)

    def find(self, core: str, mode: int, word: Callable[[int], int | None], at: int) -> list[Kept]:
        """Regions that memory, in which `at` is, may have an entry of at `at`. The best come first: those that were
        made for it, then those with more code."""
        head = self._head(core, mode, word, at)
        kept = []
        for row in self._database.find(head):
            region = unpacked(row.region)
            for entry, own in zip(region.entries, row.heads, strict=False):
                if own == head and (at - entry) % PAGE_SIZE == 0:
                    kept.append(Kept(region, (at - entry) // PAGE_SIZE, row))
        return sorted(kept, key=lambda one: (one.region.entries[0] + one.home * PAGE_SIZE != at, -one.region.size))

    def object(self, kept: Kept) -> bytes | None:
        """The object of a region that was found, unless it is gone."""
        code = self._database.object_of(kept.row)
        if code is not None:
            self._database.used(kept.row)
        return code

    def keep(self, region: Region, word: Callable[[int], int | None], code: bytes) -> None:
        """Remember a region's object; `word(address)` is the instruction there, by the region's addresses."""
        heads = [self._head(region.core, region.mode, word, entry) for entry in region.entries]
        self._database.keep(heads, region.core, packed(region), code)

    def drop(self, kept: Kept) -> None:
        """Forget a region that was found."""
        self._database.drop(kept.row.id)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
