"""-chardev: QEMU's words for a chardev with a name, to which devices and -serial refer."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from powervisor.console.chardev import BaseChardev, Log
from powervisor.errors import UserError
from powervisor.properties import build, choice, number, pairs, prop


@dataclass(frozen=True)
class NamedOptions:
    """What every chardev can be told."""

    id: str = prop("", "its name, for -device and -serial", required=True)
    logfile: str = prop("", "a file that gets what the guest sends as well")
    logappend: bool = prop(False, "on: the log is not emptied first")


@dataclass(frozen=True)
class StdioOptions(NamedOptions):
    """This terminal."""

    signal: str = prop("off", "keys such as Ctrl-C go to the guest", choice("off"))


@dataclass(frozen=True)
class FileOptions(NamedOptions):
    """A file."""

    path: str = prop("", "the file, emptied first", required=True)
    append: bool = prop(False, "on: it is not emptied first")


@dataclass(frozen=True)
class SocketOptions(NamedOptions):
    """A socket that is listened on."""

    path: str = prop("", "of a Unix socket: where it is")
    fd: int | None = prop(None, "a socket that listens already, inherited", number(0, 1 << 20))
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

    return File(options.path, option, options.append)


def check_socket(options: SocketOptions, where: str) -> None:
    """Raise UserError, beginning with `where`, unless it says one place to listen at."""
    if not options.server:
        raise UserError(f"{where}: connecting out is not supported; add server=on to listen there")
    if sum((bool(options.path), options.port is not None, options.fd is not None)) != 1:
        raise UserError(f"{where}: where is it to listen? give one of path=, port= and fd=")


def _socket(options: SocketOptions, option: str) -> BaseChardev:
    from powervisor.console.sockets import SocketServer, TcpServer, UnixServer, inherited

    where = f"{option} socket,id={options.id}"
    check_socket(options, where)
    if options.fd is not None:
        return SocketServer(inherited(options.fd, where), f"fd:{options.fd}", options.wait)
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
    if options.logfile:
        from powervisor.console.files import open_output

        try:
            chardev.log = Log(open_output(options.logfile, options.logappend, f"{option} {text}"))
        except UserError:
            chardev.close()
            raise
    return options.id, chardev
