"""Stream sockets between two machines, as QEMU has them: each frame after its length in four bytes, big-endian."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from powervisor.errors import UserError
from powervisor.net.netdev import MAX_FRAME, Frame, Netdev
from powervisor.properties import choice, prop

_MOST_BUFFERS = 1024
_LENGTH = 4
_LENGTH_WORD = struct.Struct(">I")
_MEMORY = 512 << 10
_SOCKET_BUFFER = 1 << 20
_CONNECT_SECONDS = 10
MOST_COMPLAINTS = 10
"""A peer that comes and goes fills nobody's log."""


class Address(NamedTuple):
    """Where a socket is; `path` for Unix sockets, else host and port."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def resolved(self, kind: socket.SocketKind, where: str, passive: bool = False) -> tuple[int, Any]:
        """Address family, and the address as bind(2) takes it. Raises UserError."""
        if self.path:
            if len(os.fsencode(self.path)) > 107:
                raise UserError(f"{where}: the path {self.path} is too long; write at most 107 bytes")
            return socket.AF_UNIX, self.path
        try:
            flags = socket.AI_PASSIVE if passive else 0
            found = socket.getaddrinfo(self.host or None, self.port, type=kind, flags=flags)
        except OSError as error:
            raise UserError(f"{where}: host {self.host} is not known ({error.strerror}); write its address") from None
        return found[0][0], found[0][4]


def parse_port(text: str) -> int:
    """A port number. Raises ValueError."""
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise ValueError("not a port; write a number from 1 to 65535")
    return int(text)


def host_and_port(text: str, where: str) -> Address:
    """HOST:PORT, where HOST may be left out. Raises UserError, beginning with `where`."""
    host, colon, port = text.rpartition(":")
    try:
        return Address(host.strip("[]"), parse_port(port if colon else ""))
    except ValueError:
        raise UserError(f"{where}: not an address; write HOST:PORT, for example 127.0.0.1:1234") from None


def listening(address: Address, where: str) -> socket.socket:
    """A socket that waits for a peer. Raises UserError."""
    family, name = address.resolved(socket.SOCK_STREAM, where, passive=True)
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_UNIX:
            remove_stale(address.path, socket.SOCK_STREAM)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(name)
        found.listen(1)
        found.setblocking(False)
    except OSError as error:
        found.close()
        raise UserError(f"{where}: cannot listen at {address} ({error.strerror}); choose another address") from None
    return found


def remove_stale(path: str, kind: socket.SocketKind) -> None:
    """Remove a socket that nobody has open any more, and nothing else. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):  # connect(2) refuses other files in the same words
            return
        with socket.socket(socket.AF_UNIX, kind) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def connected(address: Address, where: str) -> socket.socket:
    """A socket at its peer. Raises UserError."""
    family, name = address.resolved(socket.SOCK_STREAM, where)
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.settimeout(_CONNECT_SECONDS)
        found.connect(name)
    except OSError as error:
        found.close()
        why = error.strerror or "no answer"
        raise UserError(f"{where}: cannot connect to {address} ({why}); start first what listens there") from None
    return found


class Stream(Netdev):
    """Base of backends with one peer at a time at the other end of a stream."""

    peer = "the peer"
    """What the other end is, for messages."""
    joined_bytes = 256 << 10
    """The most that one system call sends of several frames."""

    def __init__(
        self,
        name: str,
        where: str,
        warn: Callable[[str], None],
        peer: socket.socket | None,
        server: socket.socket | None,
    ) -> None:
        super().__init__(name, where, warn)
        self._server = server
        self._peer: socket.socket | None = None
        self._memory = memoryview(bytearray(_MEMORY))
        self._begin = self._end = 0
        self._path = ""  # of the server's socket, which goes with it
        self._complaints = 0
        self.link_up = peer is not None
        if peer is not None:
            self._use(peer)

    def _use(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        with contextlib.suppress(OSError):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                peer.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
            if peer.family != socket.AF_UNIX:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin = self._end = 0
        self._peer = peer

    def descriptor(self) -> int:
        """The peer's socket, or the one where it will come."""
        found = self._peer or self._server
        return found.fileno() if found else -1

    def wrapped(self, frame: Frame) -> Frame:
        """With its length before it."""
        return (sum(map(len, frame)).to_bytes(_LENGTH, "big"), *frame)

    def _transmit(self, frames: list[Frame]) -> list[Frame]:
        pieces: list[bytes | memoryview] = []
        size = 0
        for n, frame in enumerate(frames):
            length = sum(map(len, frame))
            if pieces and (size + length > self.joined_bytes or len(pieces) + len(frame) > _MOST_BUFFERS):
                if rest := self._write(pieces):
                    return [*rest, *frames[n:]]
                pieces, size = [], 0
            pieces += frame
            size += length
        return self._write(pieces)

    def _write(self, pieces: list[bytes | memoryview]) -> list[Frame]:
        """Send all of the pieces, or answer what is left of them."""
        at = 0
        while at < len(pieces) and self._peer:
            try:
                sent = self._peer.sendmsg(pieces[at : at + _MOST_BUFFERS])
            except BlockingIOError:
                return [pieces[at:]]
            except OSError:
                return []  # the thread finds out
            while at < len(pieces) and sent >= len(pieces[at]):
                sent -= len(pieces[at])
                at += 1
            if sent:
                pieces[at] = memoryview(pieces[at])[sent:]
        return []

    def _receive(self) -> list[memoryview]:
        if self._peer is None:
            self._accept()
            return []
        self._make_room()
        try:
            count = self._peer.recv_into(self._memory[self._end :])
        except BlockingIOError:
            return []
        except OSError as error:
            self._leave(f"lost {self.peer} ({error.strerror})")
            return []
        if not count:
            self._leave(f"{self.peer} has gone")
            return []
        self._end += count
        return self._frames()

    def _make_room(self) -> None:
        rest = self._end - self._begin
        if self._begin:
            self._memory[:rest] = bytes(self._memory[self._begin : self._end])
        self._begin, self._end = 0, rest

    def _frames(self) -> list[memoryview]:
        frames = []
        while (start := self._begin + _LENGTH) <= self._end:
            (length,) = _LENGTH_WORD.unpack_from(self._memory, self._begin)
            if length > MAX_FRAME:
                self._leave(f"{self.peer} sent a frame of {length} bytes and was let go")
                break
            if start + length > self._end:
                break
            frames.append(self._memory[start : start + length])
            self._begin = start + length
        return frames

    def _accept(self) -> None:
        if self._server is None:
            return
        try:
            peer, _ = self._server.accept()
        except OSError:
            return
        self._use(peer)
        self._set_link(True)

    def _leave(self, why: str) -> None:
        """The peer is no more; the link is down until another comes, if one can."""
        with self._sending:
            if self._peer:
                self._peer.close()
            self._peer = None
            self._unsent = []
        self._complaints += 1
        if self._complaints <= MOST_COMPLAINTS:
            then = "until another connects" if self._server else "from now on"
            self.warn(f"{self.where}: {why}; the link is down {then}")
        self._set_link(False)

    def _close(self) -> None:
        for one in (self._peer, self._server):
            if one:
                one.close()
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


@dataclass(frozen=True)
class SocketOptions:
    """-netdev socket."""

    id: str = prop("", "its name, for -device", required=True)
    listen: str = prop("", "[HOST]:PORT, where another machine connects")
    connect: str = prop("", "HOST:PORT, where another machine listens")


class SocketNetdev(Stream):
    """-netdev socket."""

    kind = "socket"
    summary = "another machine, over TCP"
    options_type = SocketOptions

    def __init__(self, options: SocketOptions, where: str, warn: Callable[[str], None]) -> None:
        if bool(options.listen) == bool(options.connect):
            raise UserError(f"{where}: needs one of listen=:PORT and connect=HOST:PORT; give one of them")
        if options.listen:
            address = host_and_port(options.listen, f"{where}: listen={options.listen}")
            super().__init__(options.id, where, warn, None, listening(address, where))
        else:
            address = host_and_port(options.connect, f"{where}: connect={options.connect}")
            super().__init__(options.id, where, warn, connected(address, where), None)


@dataclass(frozen=True)
class StreamOptions:
    """-netdev stream."""

    id: str = prop("", "its name, for -device", required=True)
    server: bool = prop(False, "wait for another machine to connect; else connect to it")
    addr_type: str = prop("", "kind of address", choice("inet", "unix"), name="addr.type", required=True)
    addr_host: str = prop("", "of inet: host", name="addr.host")
    addr_port: str = prop("", "of inet: port", name="addr.port")
    addr_path: str = prop("", "of unix: path of the socket", name="addr.path")


class StreamNetdev(Stream):
    """-netdev stream."""

    kind = "stream"
    summary = "another machine, over TCP or a Unix socket"
    options_type = StreamOptions

    def __init__(self, options: StreamOptions, where: str, warn: Callable[[str], None]) -> None:
        given = options.addr_host, options.addr_port, options.addr_path
        address = chosen_address("addr", options.addr_type, given, where)
        if options.server:
            super().__init__(options.id, where, warn, None, listening(address, where))
            self._path = address.path
        else:
            super().__init__(options.id, where, warn, connected(address, where), None)


def chosen_address(name: str, kind: str, given: tuple[str, str, str], where: str) -> Address:
    """The address of NAME.type, with its host, port and path. Raises UserError."""
    host, port, path = given
    if kind == "unix":
        if not path or host or port:
            raise UserError(f"{where}: {name}.type=unix takes {name}.path=PATH and nothing else")
        return Address(path=path)
    if path or not port:
        raise UserError(f"{where}: {name}.type=inet takes {name}.host=HOST and {name}.port=PORT")
    try:
        return Address(host, parse_port(port))
    except ValueError as error:
        raise UserError(f"{where}: {name}.port={port} is {error}") from None
