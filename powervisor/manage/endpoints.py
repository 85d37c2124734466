"""Where the QMP server is to be found: sockets that it listens on, the terminal, a pty."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import termios
import time
import tty
from dataclasses import dataclass

from ..console.named import NamedOptions, SocketOptions, StdioOptions, check_socket, parse_named
from ..console.sockets import inherited, listen_tcp, listen_unix
from ..console.spec import listening
from ..errors import UserError
from ..properties import choice, parse, prop

_LOOPBACK = "127.0.0.1"
_BACKLOG = 16
_LAST_WORDS = 1.0
"""Seconds that whoever reads a pty has for what came last."""
_LOOKS = 5
_KINDS = "unix:PATH,server=on,wait=off, tcp:HOST:PORT,server=on,wait=off, stdio, pty or chardev:ID"


@dataclass
class SocketEndpoint:
    """A listening socket; `path` is removed at the end. With `wait` the machine starts when somebody has come."""

    listener: socket.socket
    announcement: str
    wait: bool = False
    path: str = ""
    pretty: bool = False
    is_terminal = False

    def close(self) -> None:
        """Listen no more."""
        self.listener.close()
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


@dataclass
class FileEndpoint:
    """Two descriptors, or both sides of a pty, which it closes."""

    fd_in: int = 0
    fd_out: int = 1
    announcement: str = ""
    pty: tuple[int, ...] = ()
    pretty: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether it takes standard input and output."""
        return not self.pty

    def close(self) -> None:
        """Close a pty, when what was sent last has been read from it: the end of the master would take that away."""
        if self.pty:
            deadline, looks = time.monotonic() + _LAST_WORDS, 0
            while looks < _LOOKS and time.monotonic() < deadline:  # the kernel passes on later what was written
                looks = 0 if _unread(self.pty[0]) else looks + 1
                time.sleep(0.01)
        for fd in self.pty:
            os.close(fd)
        self.pty = ()


Endpoint = SocketEndpoint | FileEndpoint


@dataclass(frozen=True)
class MonOptions:
    """-mon."""

    chardev: str = prop("", "the id of a -chardev", required=True)
    id: str = prop("", "its name in messages")
    mode: str = prop("control", "control: QMP", choice("control"))
    pretty: bool = prop(False, "answers with line ends and indents, for people")


def open_endpoint(spec: str, option: str = "-qmp", pretty: bool = False) -> Endpoint:
    """What `-qmp SPEC` asks for. Raises UserError."""
    kind, _, rest = spec.partition(":")
    if spec == "stdio":
        return FileEndpoint(pretty=pretty)
    if spec == "pty":
        return _pty(pretty)
    if kind == "unix" and rest:
        path, wait = listening(rest, f"{option} {spec}")
        return _unix(path, wait, option, pretty)
    if kind == "tcp" and rest:
        address, wait = listening(rest, f"{option} {spec}")
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():
            return _tcp(host.strip("[]"), int(port), wait, option, pretty)
    raise UserError(f"{option} {spec}: QMP cannot be there; write {_KINDS}")


def named_endpoint(text: str, pretty: bool = False) -> Endpoint:
    """The endpoint that `-chardev TEXT` is for -mon. Raises UserError."""
    option = "-chardev"
    kind, options = parse_named(text, option)
    where = f"{option} {text}"
    if isinstance(options, StdioOptions):
        return FileEndpoint(pretty=pretty)
    if isinstance(options, SocketOptions):
        check_socket(options, where)
        if options.fd is not None:
            return SocketEndpoint(inherited(options.fd, where), f"fd:{options.fd}", options.wait, pretty=pretty)
        if options.port is None:
            return _unix(options.path, options.wait, option, pretty)
        return _tcp(options.host, options.port, options.wait, option, pretty)
    if kind.options is NamedOptions and text.startswith("pty"):
        return _pty(pretty)
    raise UserError(f"{where}: QMP cannot be there; use a socket, stdio or pty")


def parse_mon(text: str) -> MonOptions:
    """What `-mon TEXT` asks for. Raises UserError."""
    return parse(MonOptions, text, f"-mon {text}", first="chardev")


def _unix(path: str, wait: bool, option: str, pretty: bool) -> SocketEndpoint:
    listener = listen_unix(path, option, backlog=_BACKLOG)
    return SocketEndpoint(listener, f"unix:{path}", wait, path, pretty)


def _tcp(host: str, port: int, wait: bool, option: str, pretty: bool) -> SocketEndpoint:
    """Without a host, for this machine only: whoever reaches QMP has the machine, and files of ours."""
    listener = listen_tcp(host or _LOOPBACK, port, option, backlog=_BACKLOG)
    name = listener.getsockname()
    return SocketEndpoint(listener, f"tcp:{name[0]}:{name[1]}", wait, pretty=pretty)


def _unread(slave: int) -> int:
    """Bytes that wait at the slave's side."""
    count = array.array("i", [0])
    fcntl.ioctl(slave, termios.FIONREAD, count)
    return count[0]


def _pty(pretty: bool) -> FileEndpoint:
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    return FileEndpoint(master, master, os.ttyname(slave), (slave, master), pretty)
