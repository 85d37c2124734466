"""-chardev: QEMU's words for a chardev with a name, to which devices and -serial refer."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from powervisor.console.chardev import BaseChardev
from powervisor.errors import UserError
from powervisor.properties import build, choice, number, pairs, prop


@dataclass(frozen=True)
class NamedOptions:
    """What every chardev can be told."""

    id: str = prop("", "its name, for -device and -serial", required=True)


@dataclass(frozen=True)
class StdioOptions(NamedOptions):
    """This terminal."""

    signal: str = prop("off", "keys such as Ctrl-C go to the guest", choice("off"))


@dataclass(frozen=True)
class FileOptions(NamedOptions):
    """A file."""

    path: str = prop("", "the file, emptied first", required=True)


@dataclass(frozen=True)
class SocketOptions(NamedOptions):
    """A socket that is listened on."""

    path: str = prop("", "of a Unix socket: where it is")
    host: str = prop("", "of TCP: an address of this machine; default all")
    port: int | None = prop(None, "of TCP: its number; 0 for a free one", number(0, 65535))
    server: bool = prop(False, "on: listen there")
    wait: bool = prop(True, "start the machine when somebody has connected")


def _null(options: NamedOptions, option: str) -> BaseChardev:
    from powervisor.console.files import Null

    return Null()


def _pty(options: NamedOptions, option: str) -> BaseChardev:
    from powervisor.console.files import Pty

    return Pty()


def _stdio(options: StdioOptions, option: str) -> BaseChardev:
    from powervisor.console.stdio import Stdio

    return Stdio()


def _file(options: FileOptions, option: str) -> BaseChardev:
    from powervisor.console.files import File

    return File(options.path, option)


def _socket(options: SocketOptions, option: str) -> BaseChardev:
    from powervisor.console.sockets import TcpServer, UnixServer

    where = f"{option} socket,id={options.id}"
    if not options.server:
        raise UserError(f"{where}: connecting out is not supported; add server=on to listen there")
    if bool(options.path) == (options.port is not None):
        raise UserError(f"{where}: where is it to listen? give either path= or port=")
    if options.port is None:
        return UnixServer(options.path, options.wait, option)
    return TcpServer(options.host, options.port, options.wait, option)


class Kind(NamedTuple):
    """A backend: its properties, and what makes it of them."""

    options: type[NamedOptions]
    make: Callable[[Any, str], BaseChardev]


KINDS: Mapping[str, Kind] = {
    "stdio": Kind(StdioOptions, _stdio),
    "pty": Kind(NamedOptions, _pty),
    "file": Kind(FileOptions, _file),
    "socket": Kind(SocketOptions, _socket),
    "null": Kind(NamedOptions, _null),
}
_OLDER = {"nowait": ("wait", "off")}
"""Words of older scripts."""


def parse_named(text: str, option: str = "-chardev") -> tuple[Kind, Any]:
    """What `KIND,id=NAME,...` asks for. Raises UserError."""
    name, _, rest = text.partition(",")
    if name not in KINDS:
        near = ", ".join(difflib.get_close_matches(name, KINDS, 3, 0.5) or KINDS)
        raise UserError(f"{option} {text}: no such kind; there is {near}")
    given = dict(_OLDER.get(key, (key, value)) for key, value in pairs(rest, f"{option} {text}").items())
    return KINDS[name], build(KINDS[name].options, given, f"{option} {text}")


def open_named(text: str, option: str = "-chardev") -> tuple[str, BaseChardev]:
    """The name and the chardev of `KIND,id=NAME,...`. Raises UserError."""
    kind, options = parse_named(text, option)
    chardev = kind.make(options, option)
    chardev.description = text
    return options.id, chardev
