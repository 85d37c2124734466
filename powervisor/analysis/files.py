"""Files that results go to: opened before the machine starts, so that a wrong name costs nothing."""

from __future__ import annotations

import os
from typing import IO, Any

from ..errors import UserError

Path = str | os.PathLike[str]


def create(path: Path, where: str, binary: bool = False) -> IO[Any]:
    """A new file to write. Raises UserError, which begins with `where`."""
    try:
        return open(path, "wb") if binary else open(path, "w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{where} {os.fspath(path)}: cannot be written ({error.strerror})") from None


def finish(file: IO[Any], data: str | bytes, where: str) -> None:
    """Write all of a file and close it. Raises UserError."""
    try:
        with file:
            file.write(data)
    except OSError as error:
        raise UserError(f"{where} {file.name}: cannot be written ({error.strerror}); make room and run again") from None
