"""Recordings of what came to a deterministic machine from outside: enough to have it do the same again.

A file begins with MAGIC; then come records, each appended when it happened: a head with length and checksums, and
msgpack. The first says of what machine it is, the last how it ended. A file whose writer was killed ends anywhere.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from typing import Any, NamedTuple

import msgpack

from ..errors import PowervisorError, UserError, argument
from .cables import Host
from .inputs import Input
from .timing import Position, Timing

Path = str | os.PathLike[str]

MAGIC = b"PVREC\r\n\x1a"
VERSION = 1
_HEAD = struct.Struct("<III")
"""Bytes of the record, their CRC, and the CRC of these two."""
_PIECE = 1 << 20


class Identity(NamedTuple):
    """What a machine is at power-on; one that is alike does the same with the same input."""

    options: dict[str, Any]
    timing: Timing
    hash: str
    """Of registers and memory, with what was loaded."""
    networks: dict[str, Host]
    """What the guest saw of them, by name."""


class End(NamedTuple):
    """Where and how a recorded machine ended."""

    position: Position
    executed: list[int]
    hash: str
    outcome: str


class Writer:
    """Writes a recording. Raises UserError when that cannot be."""

    def __init__(self, path: Path) -> None:
        """What there is stays until the machine is switched on; only recordings are written over."""
        self._where = f"{argument('record')} {os.fspath(path)}"
        try:
            if os.path.isfile(path) and os.path.getsize(path):
                with open(path, "rb") as file:
                    if file.read(len(MAGIC)) != MAGIC:
                        raise UserError(f"{self._where}: is something else than a recording; name another file")
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(f"{self._where}: cannot be written ({error.strerror}); name another file") from None

    def begin(self, identity: Identity) -> None:
        """The machine is switched on."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.ftruncate(self._fd, 0)
        self._write(MAGIC)
        self._record({"version": VERSION, **identity._asdict(), "timing": asdict(identity.timing)})

    def input(self, input_: Input) -> None:
        """Something was taken in."""
        self._record(["in", *input_])

    def end(self, end: End) -> None:
        """The machine has ended."""
        self._record(["end", *end])

    def close(self) -> None:
        """Nothing is written any more."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _record(self, record: Any) -> None:
        data = msgpack.packb(record)
        sums = struct.pack("<II", len(data), zlib.crc32(data))
        self._write(sums + struct.pack("<I", zlib.crc32(sums)) + data)

    def _write(self, data: bytes) -> None:
        try:
            while data and self._fd >= 0:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self.close()  # told once
            raise UserError(f"{self._where}: cannot be written ({error.strerror}); make room there") from None


@dataclass(frozen=True)
class Recording:
    """What a file holds; `end` is None where its writer did not come to it, and `note` says so."""

    where: str
    identity: Identity
    end: End | None
    note: str
    file: FileIO
    """Where it is, which is read as its input is wanted."""

    def inputs(self) -> Iterator[Input]:
        """What came in, in order. Raises UserError when the file is not any more what it was."""
        records = _records(self.file)
        try:
            next(records, None)
            for kind, *values in records:
                if kind != "end":
                    yield _input(*values)
        except (*_DAMAGES, OSError):
            raise UserError(f"{self.where}: was changed while it was read; use a copy") from None

    def refuse_overwriting(self, path: Path) -> None:
        """Raise UserError where a recording is to be written over this one."""
        if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(self.file.fileno())):
            raise UserError(f"{argument('record')} {os.fspath(path)}: is what is replayed; name another file")

    def close(self) -> None:
        """Nothing is read any more."""
        self.file.close()

    def check(self, identity: Identity) -> None:
        """Raise UserError unless the machine is one like that of the recording."""
        recorded, given = self.identity.options, identity.options
        for name in [*recorded, *(name for name in given if name not in recorded)]:
            if (here := given.get(name)) != (there := recorded.get(name)):
                raise UserError(f"{self.where}: the recording is of a machine with {name} {there}, not {here}")
        if identity.hash != self.identity.hash:
            raise UserError(
                f"{self.where}: the recording began with other memory or registers; give the same kernel, initrd and "
                "options, and the same version of Powervisor"
            )

    def check_end(self, executed: list[int], hash_: str) -> None:
        """Raise PowervisorError unless the machine has come to what the recorded one had come to."""
        assert self.end is not None
        if (executed, hash_) != (self.end.executed, self.end.hash):
            raise PowervisorError(
                f"{self.where}: the machine is not what it was at the end of the recording: {sum(executed)} "
                f"instructions executed, {sum(self.end.executed)} recorded; please report it"
            )


def load(path: Path) -> Recording:
    """Read a recording; one that was cut off has what came before. `close` it. Raises UserError."""
    where = f"{argument('replay')} {os.fspath(path)}"
    try:
        file = _opened(path)
    except (OSError, ValueError) as error:
        raise _unreadable(where, error) from None
    try:
        if os.pread(file.fileno(), len(MAGIC), 0) != MAGIC:
            raise UserError(f"{where}: is no recording; name a file that -record wrote")
        return _parsed(where, file)
    except BaseException as error:
        file.close()
        if isinstance(error, _Newer):
            raise UserError(f"{where}: was written by a newer version; this one reads up to {VERSION}") from None
        if isinstance(error, _DAMAGES):
            raise UserError(f"{where}: is damaged; record again, or use a copy") from None
        if isinstance(error, OSError):
            raise _unreadable(where, error) from None
        raise


def _unreadable(where: str, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else error
    return UserError(f"{where}: cannot be read ({reason}); name a file that -record wrote")


def _opened(path: Path) -> FileIO:
    """The file, or a copy of what comes out of a pipe. Raises OSError."""
    file = FileIO(path)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    with file:
        copy = FileIO(os.memfd_create("recording", os.MFD_CLOEXEC), "r+")
        size = 0
        while piece := file.read(_PIECE if size >= len(MAGIC) else len(MAGIC) - size):
            size += copy.write(piece)
            if size == len(MAGIC) and os.pread(copy.fileno(), size, 0) != MAGIC:
                break  # whatever else comes out of it
        return copy


class _Newer(ValueError):
    pass


_DAMAGES = (ValueError, TypeError, KeyError, struct.error, msgpack.UnpackException)
"""What reading a file raises that is not as it was written."""


def _parsed(where: str, file: FileIO) -> Recording:
    records = _records(file)
    first = next(records, None)
    if not isinstance(first, dict):
        raise ValueError
    if first["version"] > VERSION:
        raise _Newer
    networks = {str(name): _host(*host) for name, host in dict(first.get("networks", {})).items()}
    identity = Identity(dict(first["options"]), Timing(**first["timing"]), str(first["hash"]), networks)
    timing = asdict(identity.timing)
    if not _numbers(timing.values()) or min(timing["ns"], timing["quantum"]) < 1:
        raise ValueError
    end, note = None, f"{where}: was not finished: what came in after its last entry is missing"
    for kind, *values in records:
        if kind == "end":
            (position, executed, hash_, outcome), note = values, ""
            end = End(Position(*position), list(executed), str(hash_), str(outcome))
            if not _numbers((*position, *executed)):
                raise ValueError
        else:
            _input(*values)
    return Recording(where, identity, end, note, file)


def _input(round_: int, source: str, data: bytes, executed: list[int]) -> Input:
    if not _numbers((round_, *executed)) or not isinstance(source, str) or not isinstance(data, bytes):
        raise ValueError
    return Input(round_, source, data, executed)


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int) for value in values)


def _host(mtu: int, link_up: bool) -> Host:
    if not isinstance(mtu, int) or not 0 <= mtu < 1 << 16 or not isinstance(link_up, bool):
        raise ValueError
    return Host(mtu, link_up)


def _records(file: FileIO) -> Iterator[Any]:
    """Each record that is whole. Raises ValueError for one that was altered."""
    fd = file.fileno()
    at, size = len(MAGIC), os.fstat(fd).st_size
    while at + _HEAD.size <= size:
        head = os.pread(fd, _HEAD.size, at)
        length, crc, head_crc = _HEAD.unpack(head)
        if zlib.crc32(head[:-4]) != head_crc:
            raise ValueError
        at += _HEAD.size
        if length > size - at:
            return
        content = os.pread(fd, length, at)
        if zlib.crc32(content) != crc:
            raise ValueError
        at += length
        yield msgpack.unpackb(content)
