"""A snapshot file: a head, compressed chunks of several sections, and an index of them with everything else.

The head is of fixed size and has a checksum, as have the index and each chunk: whatever is cut off or altered is found.
Numbers are little-endian; the index is msgpack, compressed like the chunks with zstd.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import msgpack
import zstandard

from ..errors import UserError

Path = str | os.PathLike[str]
Progress = Callable[[str], None]
Pieces = Iterable[tuple[int, bytes]]
"""Offsets and bytes of what a section holds."""

MAGIC = b"PVSNAP\r\n"
VERSION = 1
CHUNK = 1 << 20
"""Bytes of a chunk before it is compressed, at most."""
_HEAD = struct.Struct("<8sIIQQII")
"""Magic, version, 0, where the index is, its length, its CRC, and the CRC of all of this."""
LEVEL = 1
WORKERS = min(4, os.cpu_count() or 1)
_TELL_EVERY = 1.0
"""Seconds between two words about a long work."""
MOST_INDEX = 1 << 30
_local = threading.local()


class _Chunk(NamedTuple):
    """Where a chunk's bytes belong in its section, their number, where they lie packed, and the CRC of that."""

    offset: int
    length: int
    at: int
    packed: int
    crc: int


def write(path: Path, header: Mapping[str, Any], sections: Mapping[str, Pieces], progress: Progress | None) -> None:
    """Write a file: plain values, and bytes by section, of which pieces longer than `CHUNK` are refused.

    It appears under its name when it is whole. Raises UserError.
    """
    where = os.path.realpath(path)
    if os.path.lexists(where) and not os.path.isfile(where):
        raise UserError(f"{where}: the snapshot would replace what is no regular file; name another file")
    temporary = f"{where}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        try:
            with open(temporary, "xb", opener=_private) as file:
                _write(file, header, sections, _teller(progress, f"{where}: writing"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, where)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise UserError(f"{where}: the snapshot cannot be written ({error.strerror}); name another file") from None


def _private(path: str, flags: int) -> int:
    """Guest memory has secrets."""
    return os.open(path, flags, 0o600)


def _write(
    file: BinaryIO, header: Mapping[str, Any], sections: Mapping[str, Pieces], tell: Callable[[int], None]
) -> None:
    at = file.write(bytes(_HEAD.size))
    chunks: dict[str, list[_Chunk]] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for name, pieces in sections.items():
            table = chunks[name] = []
            for offset, length, packed in in_order(pool, pack, pieces):
                table.append(_Chunk(offset, length, at, len(packed), zlib.crc32(packed)))
                at += file.write(packed)
                tell(length)
    values = msgpack.packb({"header": header, "chunks": {n: [tuple(c) for c in t] for n, t in chunks.items()}})
    index = zstandard.compress(values, LEVEL)
    file.write(index)
    head = _HEAD.pack(MAGIC, VERSION, 0, at, len(index), zlib.crc32(index), 0)[:-4]
    file.seek(0)
    file.write(head + struct.pack("<I", zlib.crc32(head)))


def pack(piece: tuple[int, bytes]) -> tuple[int, int, bytes]:
    """Offset and length of a piece, and its bytes compressed."""
    offset, data = piece
    if len(data) > CHUNK:
        raise ValueError(f"a piece of {len(data)} bytes")
    if not hasattr(_local, "packer"):
        _local.packer = zstandard.ZstdCompressor(level=LEVEL)
    return offset, len(data), _local.packer.compress(data)


def unpack(packed: bytes, length: int) -> bytes:
    """What was compressed, which had `length` bytes. Raises zstandard.ZstdError."""
    if not hasattr(_local, "unpacker"):
        _local.unpacker = zstandard.ZstdDecompressor()
    data: bytes = _local.unpacker.decompress(packed, max_output_size=length)
    return data


def in_order(pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Results in order, while only a few items are in memory."""
    waiting = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > 4 * WORKERS:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _teller(progress: Progress | None, what: str) -> Callable[[int], None]:
    """Counts bytes, and says how many now and then."""
    done, told = 0, time.monotonic()

    def tell(length: int) -> None:
        nonlocal done, told
        done += length
        if progress is not None and time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            progress(f"{what}, {done >> 20} MiB so far")

    return tell


@dataclass(frozen=True)
class SnapshotFile:
    """A file whose index was read: its header, and how many bytes its sections have, also packed."""

    path: str
    header: dict[str, Any]
    size: int
    _chunks: dict[str, list[_Chunk]]

    @property
    def sections(self) -> dict[str, int]:
        """Bytes of each section, unpacked."""
        return {name: sum(chunk.length for chunk in table) for name, table in self._chunks.items()}

    def read(self, section: str, store: Callable[[int, bytes], object], progress: Progress | None = None) -> None:
        """Have each piece of a section stored: offset and bytes, on several threads. Raises UserError for a damage."""
        tell = _teller(progress, f"{self.path}: reading")

        def take(chunk: _Chunk) -> int:
            packed = os.pread(descriptor, chunk.packed, chunk.at)
            if len(packed) != chunk.packed or zlib.crc32(packed) != chunk.crc:
                raise damaged(self.path, f"{section} at {chunk.offset:#x}")
            store(chunk.offset, unpack(packed, chunk.length))
            return chunk.length

        try:
            with open(self.path, "rb") as file, ThreadPoolExecutor(WORKERS) as pool:
                descriptor = file.fileno()
                for length in pool.map(take, self._chunks.get(section, ())):
                    tell(length)
        except OSError as error:
            raise _unreadable(self.path, error) from None


def damaged(path: Path, what: str) -> UserError:
    """What to say of a file that is not as it was written."""
    return UserError(f"{os.fspath(path)}: the snapshot is damaged ({what}); take another one")


def _unreadable(path: Path, error: OSError) -> UserError:
    why = f"the snapshot cannot be read ({error.strerror})"
    return UserError(f"{os.fspath(path)}: {why}; check its name and your rights to it")


def read(path: Path) -> SnapshotFile:
    """Read the index of a file. Raises UserError for what is no snapshot, or of a newer version, or damaged."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            at, length, crc = _check_head(path, file.read(_HEAD.size))
            if at + length != size:
                raise damaged(path, f"{size} bytes of {at + length}")
            file.seek(at)
            index = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from None
    if zlib.crc32(index) != crc:
        raise damaged(path, "its index")
    values = msgpack.unpackb(zstandard.decompress(index, max_output_size=MOST_INDEX), strict_map_key=False)
    chunks = {name: [_Chunk(*chunk) for chunk in table] for name, table in values["chunks"].items()}
    return SnapshotFile(os.fspath(path), values["header"], size, chunks)


def _check_head(path: Path, head: bytes) -> tuple[int, int, int]:
    """Where the index is, its length and CRC."""
    if head[: len(MAGIC)] != MAGIC[: len(head)] or not head:
        raise UserError(f"{os.fspath(path)}: no snapshot of Powervisor; name a file that was saved as one")
    if len(head) < _HEAD.size or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
        raise damaged(path, "its head")
    _, version, _, at, length, crc, _ = _HEAD.unpack(head)
    if version != VERSION:
        raise UserError(
            f"{os.fspath(path)}: a snapshot of format {version}, this Powervisor reads format {VERSION}; "
            f"restore it with the one that took it"
        )
    return at, length, crc
