"""Programs of the package's own for guests: built when first used, within a second, and kept in the cache directory."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import powervisor

from . import catalogue

KEPT = 8
"""Files of the cache for each program: the newest; every version has its own."""
_unkept: dict[str, Path] = {}


def kept(program: str, key: str, build: Callable[[], bytes]) -> Path:
    """The file of a program's version: found in the cache, or built.

    Without a cache directory that can be written the file is a temporary one, removed when Python ends.
    """
    path = catalogue.cache() / f"{program}-{key}.elf"
    if path.is_file():
        return path
    if path.name in _unkept:
        return _unkept[path.name]
    data = build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _write(data, path)
        _prune(path.parent, program)
        return made
    except OSError:
        handle, name = tempfile.mkstemp(suffix=".elf", prefix=f"powervisor-{program}-")
        os.close(handle)
        _unkept[path.name] = Path(name)
        atexit.register(Path(name).unlink, missing_ok=True)
        return _write(data, Path(name))


def digest_of(rooms: Iterable[str]) -> str:
    """Hash of the sources in some directories of the package."""
    digest = hashlib.sha256()
    package = Path(powervisor.__file__).parent
    for room in rooms:
        for path in sorted((package / room).iterdir()):
            if path.suffix in (".py", ".s"):
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def _write(data: bytes, path: Path) -> Path:
    """Write a file that readers see whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
    return path


def _prune(folder: Path, program: str) -> None:
    with contextlib.suppress(OSError):  # another process prunes too
        for old in sorted(folder.glob(f"{program}-*.elf"), key=os.path.getmtime, reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)
