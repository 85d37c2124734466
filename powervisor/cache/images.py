"""Files of the cache that are read whole: a head with a digest, then the contents. Their names are their keys."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .place import directory, root, shared

FOLDER, SUFFIX = "images", ".image"
MAGIC = b"pvimage2"
HEAD = struct.Struct("<8sQQ32s")
"""Magic, sizes of both parts, digest of everything but itself."""
KEPT = 24
"""Images kept: three cores, a few revisions, a few machines in one process; each below 2 MiB."""
ABANDONED = 600
"""Seconds after which a temporary file belongs to a process that was killed."""


@dataclass(frozen=True)
class Entry:
    """An image on disk: for which core, its bytes, when it was last used (seconds since 1970)."""

    path: Path
    core: str
    size: int
    used: float


def path_of(core: str, key: str) -> Path | None:
    """The file for a key: our own, or everybody's where only that is there; None where there is no cache."""
    name = f"{core}-{key}{SUFFIX}"
    own, everybodys = directory(FOLDER), shared(FOLDER)
    if everybodys is not None and (own is None or not (own / name).exists()) and (everybodys / name).exists():
        return everybodys / name
    return own / name if own is not None else None


def read(path: Path) -> tuple[bytes, bytes] | None:
    """Both parts of a file; None when there is none or it is damaged."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD.size)
            if len(head) != HEAD.size:
                return None
            magic, first, second, digest = HEAD.unpack(head)
            if magic != MAGIC or os.fstat(file.fileno()).st_size != HEAD.size + first + second:
                return None
            rest = file.read()
    except OSError:
        return None
    if len(rest) != first + second or _digest(first, second, rest) != digest:
        return None
    with suppress(OSError):
        os.utime(path)
    return rest[:first], rest[first:]


def _digest(first: int, second: int, rest: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<QQ", first, second) + rest).digest()


def whole(first: bytes, second: bytes) -> bytes:
    """What a file holds for two parts."""
    rest = first + second
    return HEAD.pack(MAGIC, len(first), len(second), _digest(len(first), len(second), rest)) + rest


def write(path: Path, contents: bytes) -> None:
    """Keep a file if possible: a temporary one renamed, so that readers see all of it or nothing."""
    temporary = path.with_name(f"{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        try:
            temporary.write_bytes(contents)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _prune(path.parent)
    except OSError:
        return  # the disk is full, or the directory is not ours: the next start builds again


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time makes a file: the others wait, and find it made. Where no lock can be had all go on."""
    lock = path.with_name(f"{path.name}.lock")
    with ExitStack() as stack:
        with suppress(OSError):
            file = None
            while file is None or not _is_at(lock, file.fileno()):  # whoever had it before has removed it
                file = stack.enter_context(open(lock, "w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            stack.callback(lock.unlink, missing_ok=True)
        yield


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _prune(folder: Path) -> None:
    """Keep the images used last: every change of the sources leaves some behind."""
    for old in sorted(_entries(folder), key=lambda entry: entry.used, reverse=True)[KEPT:]:
        old.path.unlink(missing_ok=True)
    for path in _remains(folder):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - ABANDONED:
                path.unlink()


def _remains(folder: Path) -> list[Path]:
    """What those leave that are killed; and what those have who are at work."""
    return [*folder.glob("*.tmp"), *folder.glob("*.lock")]


def _entries(folder: Path) -> Iterator[Entry]:
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):  # another process has removed it
            status = path.stat()
            yield Entry(path, path.name.partition("-")[0], status.st_size, status.st_mtime)


def entries() -> list[Entry]:
    """The images there are. Raises OSError."""
    return list(_entries(root() / FOLDER))


def clear() -> tuple[int, int]:
    """Remove all images; their number and bytes. Machines have theirs in memory. Raises OSError."""
    found = entries()
    for path in [*(entry.path for entry in found), *_remains(root() / FOLDER)]:
        path.unlink(missing_ok=True)
    return len(found), sum(entry.size for entry in found)
