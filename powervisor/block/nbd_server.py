"""Where NBD servers are: QEMU's ways to write it, and the connection."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from powervisor.block.nbd import Export, NbdDisk, Refusal, check, negotiate
from powervisor.errors import UserError

PORT = 10809
_SECONDS = 10
_SILENCE_SECONDS = 30
"""After so long without a sign of the host at the other end, it has gone."""
_OLD = re.compile(
    r"nbd:(?:unix:(?P<path>[^:]+)|(?P<host>\[[^]]*\]|[^:]*):(?P<port>[0-9]+))(?::exportname=(?P<name>.*))?"
)
_EXAMPLE = "write for example nbd://127.0.0.1:10809/disk or nbd+unix:///disk?socket=/tmp/nbd"


@dataclass(frozen=True)
class NbdServer:
    """Where an export is; `path` for Unix sockets, else host and port."""

    host: str = ""
    port: int = PORT
    path: str = ""
    export: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"nbd+unix:///{quote(self.export)}?socket={quote(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nbd://{host}:{self.port}/{quote(self.export)}"


def parse_server(text: str, where: str) -> NbdServer | None:
    """The server that a file's name means; None for names of files. Raises UserError, beginning with `where`."""
    scheme = text.partition(":")[0]
    if scheme in ("nbds", "nbds+tcp", "nbds+unix"):
        raise UserError(f"{where}: NBD with TLS is not supported; use nbd:// through a tunnel")
    if scheme not in ("nbd", "nbd+tcp", "nbd+unix"):
        return None
    try:
        found = _from_url(text) if text.startswith(f"{scheme}://") else _from_old(text)
    except ValueError:
        found = None
    if found is None or not (found.path or found.host) or not 0 < found.port < 1 << 16:
        raise UserError(f"{where}: does not name an NBD server; {_EXAMPLE}")
    return found


def _from_url(text: str) -> NbdServer | None:
    url = urlsplit(text)
    query, name = parse_qs(url.query), unquote(url.path.removeprefix("/"))
    if url.scheme == "nbd+unix":
        sockets = query.pop("socket", [])
        return NbdServer(path=sockets[0], export=name) if len(sockets) == 1 and not query and not url.netloc else None
    return None if query else NbdServer(url.hostname or "", PORT if url.port is None else url.port, export=name)


def _from_old(text: str) -> NbdServer | None:
    found = _OLD.fullmatch(text)
    if found is None:
        return None
    name = found["name"] or ""
    if found["path"]:
        return NbdServer(path=found["path"], export=name)
    return NbdServer(found["host"].strip("[]"), int(found["port"]), export=name)


def open_disk(server: NbdServer, where: str, read_only: bool, sync: bool, flushes: bool, unmap: bool) -> NbdDisk:
    """The disk at `server`. Raises UserError, beginning with `where`."""
    found = _connected(server, where)
    try:
        export = agreed(found, server.export, read_only, sync)
        return NbdDisk(found, export, read_only, sync, flushes, unmap)
    except Refusal as refusal:
        found.close()
        raise UserError(f"{where}: the server cannot be used: {refusal}{_remedy(str(refusal))}") from None
    except OSError as error:
        found.close()
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or "no answer"
        raise UserError(f"{where}: the server cannot be used ({why}); see whether it is an NBD server") from None
    except BaseException:
        found.close()
        raise


def agreed(found: socket.socket, name: str, read_only: bool, sync: bool) -> Export:
    """What the server at the other end of `found` offers. Raises Refusal, or OSError."""
    export = negotiate(found, name)
    check(export, read_only, sync)
    return export


def _remedy(refusal: str) -> str:
    if "no such export" in refusal:
        return "; qemu-nbd --list tells which there are"
    return "" if ";" in refusal else "; use another server"


def _connected(server: NbdServer, where: str) -> socket.socket:
    found = None
    try:
        if server.path:
            if len(os.fsencode(server.path)) > 107:
                raise UserError(f"{where}: the path {server.path} is too long; write at most 107 bytes")
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(_SECONDS)
            found.connect(server.path)
        else:
            found = socket.create_connection((server.host, server.port), _SECONDS)
            _tune(found)
        return found
    except OSError as error:
        if found is not None:
            found.close()
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror
        raise UserError(f"{where}: cannot connect ({why}); start the server first") from None


def _tune(found: socket.socket) -> None:
    """Small requests at once; notice when the other host is gone."""
    with contextlib.suppress(OSError):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENCE_SECONDS // 3)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENCE_SECONDS // 3)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENCE_SECONDS)
