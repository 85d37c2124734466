"""Which files a machine booted, and whether they are still what they were: their symbols name its addresses then."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple


class Program(NamedTuple):
    """A file that was loaded, by what it was then."""

    path: str
    """Absolute."""
    size: int
    modified: int
    """Nanoseconds since 1970."""

    @property
    def unchanged(self) -> bool:
        """Whether the file is there as it was."""
        return programs([self.path]) == [self]


def programs(files: Iterable[str | os.PathLike[str] | None]) -> list[Program]:
    """Those that are there; `boot` tells of others."""
    found = []
    for file in files:
        if file is not None:
            with suppress(OSError):
                status = os.stat(file)
                found.append(Program(os.path.abspath(file), status.st_size, status.st_mtime_ns))
    return found
