"""QEMU's words for a serial line: stdio, pty, file:F, unix:F,server=on, tcp:HOST:PORT,server=on, null."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from powervisor.console.chardev import BaseChardev
from powervisor.errors import UserError

# What QEMU scripts write, and what it means here: there is no monitor to share the terminal with.
_SYNONYMS = {"mon:stdio": "stdio"}
_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Kind:
    """A way of writing a chardev; `make` gets what follows the name."""

    syntax: str
    summary: str
    make: Callable[[str, str], BaseChardev]


def _stdio(rest: str, option: str) -> BaseChardev:
    from powervisor.console.stdio import Stdio

    return Stdio()


def _null(rest: str, option: str) -> BaseChardev:
    from powervisor.console.files import Null

    return Null()


def _pty(rest: str, option: str) -> BaseChardev:
    from powervisor.console.files import Pty

    return Pty()


def _file(rest: str, option: str) -> BaseChardev:
    from powervisor.console.files import File

    return File(rest, option)


def _unix(rest: str, option: str) -> BaseChardev:
    from powervisor.console.sockets import UnixServer

    path, wait = listening(rest, f"{option} unix:{rest}")
    return UnixServer(path, wait, option)


def _tcp(rest: str, option: str) -> BaseChardev:
    from powervisor.console.sockets import TcpServer

    where = f"{option} tcp:{rest}"
    address, wait = listening(rest, where)
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise UserError(f"{where}: no port number; write for example tcp:127.0.0.1:4444,server=on")
    return TcpServer(host.strip("[]"), int(port), wait, option)


KINDS: dict[str, Kind] = {
    "stdio": Kind("stdio", "this terminal (or whatever standard input and output are)", _stdio),
    "pty": Kind("pty", "a new pseudo-terminal; its path is printed", _pty),
    "file": Kind("file:FILE", "output into a file", _file),
    "unix": Kind("unix:PATH,server=on[,wait=off]", "a Unix socket to connect to", _unix),
    "tcp": Kind("tcp:HOST:PORT,server=on[,wait=off]", "a TCP port to connect to", _tcp),
    "null": Kind("null", "nowhere", _null),
}


def open_chardev(spec: str, option: str = "-serial") -> BaseChardev:
    """The chardev that `spec` describes; `option` is named in messages. Raises UserError."""
    name, colon, rest = _SYNONYMS.get(spec, spec).partition(":")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=3, cutoff=0.5) or list(KINDS)
        raise UserError(f"{option} {spec}: no such kind; did you mean {', '.join(KINDS[n].syntax for n in near)}?")
    takes_more = ":" in kind.syntax
    if takes_more and not rest:
        raise UserError(f"{option} {spec}: incomplete; write {kind.syntax}")
    if not takes_more and colon:
        raise UserError(f"{option} {spec}: '{name}' takes nothing more; write {kind.syntax}")
    chardev = kind.make(rest, option)
    chardev.description = spec
    return chardev


def listening(rest: str, where: str) -> tuple[str, bool]:
    """The address and whether to wait for a client, from `ADDRESS,server=on,wait=off` or the older `server,nowait`."""
    address, *flags = rest.split(",")
    server, wait = False, True
    for flag in flags:
        key, equals, value = flag.partition("=")
        if key == "nowait" and not equals:
            key, value = "wait", "off"
        if key not in ("server", "wait") or (equals and value not in _SWITCH):
            raise UserError(f"{where}: '{flag}' is not understood; known are server=on and wait=off")
        switch = _SWITCH[value or "on"]
        server, wait = (switch, wait) if key == "server" else (server, switch)
    if not server:
        raise UserError(f"{where}: connecting out is not supported; add ,server=on to listen there")
    return address, wait
