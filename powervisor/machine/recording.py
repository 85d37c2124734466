"""Recordings of what came to a deterministic machine from outside: enough to have it do the same again.

A file begins with MAGIC; then come records, each appended when it happened: a head with length and checksums, and
msgpack. The first says of what machine it is, the last how it ended. A file whose writer was killed ends anywhere.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from ..errors import PowervisorError, UserError, argument
from .cables import Host
from .inputs import Input
from .timing import Position

Path = str | os.PathLike[str]

MAGIC = b"PVREC\r\n\x1a"
VERSION = 1
_HEAD = struct.Struct("<III")
"""Bytes of the record, their CRC, and the CRC of these two."""


class Identity(NamedTuple):
    """What a machine is at power-on; one that is alike does the same with the same input."""

    options: dict[str, Any]
    timing: dict[str, Any]
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
        self._where = f"{argument('record')} {os.fspath(path)}"
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(f"{self._where}: cannot be written ({error.strerror}); name another file") from None
        self._write(MAGIC)

    def begin(self, identity: Identity) -> None:
        """The machine is switched on."""
        self._record({"version": VERSION, **identity._asdict()})

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
            raise UserError(f"{self._where}: cannot be written ({error.strerror}); make room there") from None


@dataclass(frozen=True)
class Recording:
    """What a file holds; `end` is None where its writer did not come to it, and `note` says so."""

    where: str
    identity: Identity
    inputs: list[Input]
    end: End | None
    note: str

    def check(self, identity: Identity) -> None:
        """Raise UserError unless the machine is one like that of the recording."""
        for name, there in self.identity.options.items():
            if (here := identity.options.get(name)) != there:
                raise UserError(f"{self.where}: the recording is of a machine with {name} {there}, not {here}")
        here, there = ("networks " + ", ".join(one.networks) or "no network" for one in (identity, self.identity))
        if here != there:
            raise UserError(f"{self.where}: the recording is of a machine with {there}, not {here}")
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
    """Read a recording; one that was cut off has what came before. Raises UserError."""
    where = f"{argument('replay')} {os.fspath(path)}"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); name a file that -record wrote") from None
    if not data.startswith(MAGIC):
        raise UserError(f"{where}: is no recording; name a file that -record wrote")
    try:
        return _parsed(where, data)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        if isinstance(error, _Newer):
            raise UserError(f"{where}: was written by a newer version; this one reads up to {VERSION}") from None
        raise UserError(f"{where}: is damaged; record again, or use a copy") from None


class _Newer(ValueError):
    pass


def _parsed(where: str, data: bytes) -> Recording:
    records = _records(data)
    first = next(records, None)
    if not isinstance(first, dict):
        raise ValueError
    if first["version"] > VERSION:
        raise _Newer
    networks = {str(name): _host(*host) for name, host in dict(first.get("networks", {})).items()}
    identity = Identity(dict(first["options"]), dict(first["timing"]), str(first["hash"]), networks)
    inputs: list[Input] = []
    end, note = None, f"{where}: was not finished: what came in after its last entry is missing"
    for kind, *values in records:
        if kind == "end":
            (position, executed, hash_, outcome), note = values, ""
            end = End(Position(*position), list(executed), str(hash_), str(outcome))
        else:
            round_, source, content, executed = values
            inputs.append(Input(int(round_), str(source), bytes(content), list(executed)))
    return Recording(where, identity, inputs, end, note)


def _host(mtu: int, link_up: bool) -> Host:
    if not 0 <= mtu < 1 << 16 or not isinstance(link_up, bool):
        raise ValueError
    return Host(mtu, link_up)


def _records(data: bytes) -> Iterator[Any]:
    """Each record that is whole. Raises ValueError for one that was altered."""
    at = len(MAGIC)
    while at + _HEAD.size <= len(data):
        length, crc, head_crc = _HEAD.unpack_from(data, at)
        if zlib.crc32(data[at : at + _HEAD.size - 4]) != head_crc:
            raise ValueError
        at += _HEAD.size
        content = data[at : at + length]
        if len(content) < length:
            return
        if zlib.crc32(content) != crc:
            raise ValueError
        at += length
        yield msgpack.unpackb(content)
