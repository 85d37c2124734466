"""Datagram sockets between machines, as QEMU has them: one frame, one datagram."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from powervisor.errors import UserError
from powervisor.net.netdev import Datagrams, Frame
from powervisor.net.sockets import chosen_address, remove_stale
from powervisor.properties import choice, prop

_SOCKET_BUFFER = 1 << 20


@dataclass(frozen=True)
class DgramOptions:
    """-netdev dgram."""

    id: str = prop("", "its name, for -device", required=True)
    local_type: str = prop("", "kind of our address", choice("inet", "unix"), name="local.type", required=True)
    local_host: str = prop("", "of inet: host", name="local.host")
    local_port: str = prop("", "of inet: port", name="local.port")
    local_path: str = prop("", "of unix: path of the socket", name="local.path")
    remote_type: str = prop("", "kind of the peer's address", choice("inet", "unix"), name="remote.type", required=True)
    remote_host: str = prop("", "of inet: host", name="remote.host")
    remote_port: str = prop("", "of inet: port", name="remote.port")
    remote_path: str = prop("", "of unix: path of the socket", name="remote.path")


class DgramNetdev(Datagrams):
    """-netdev dgram. Nobody knows whether the other side is there, so the link is up."""

    kind = "dgram"
    summary = "another machine, over UDP or Unix datagrams"
    options_type = DgramOptions
    writable_tells = False

    def __init__(self, options: DgramOptions, where: str, warn: Callable[[str], None]) -> None:
        if options.local_type != options.remote_type:
            raise UserError(f"{where}: local.type and remote.type differ; give both the same")
        ours = options.local_host, options.local_port, options.local_path
        theirs = options.remote_host, options.remote_port, options.remote_path
        local = chosen_address("local", options.local_type, ours, where)
        remote = chosen_address("remote", options.remote_type, theirs, where)
        family, name = local.resolved(socket.SOCK_DGRAM, where, passive=not local.host)
        other, self._remote = remote.resolved(socket.SOCK_DGRAM, where)
        if family != other:
            raise UserError(
                f"{where}: {local} and {remote} are not of one family; write both as IPv4 or IPv6 addresses"
            )
        super().__init__(options.id, where, warn)
        self._path = local.path
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if self._path:
                remove_stale(self._path, socket.SOCK_DGRAM)
            self._socket.bind(name)
        except OSError as error:
            self._socket.close()
            self._path = ""
            raise UserError(f"{where}: cannot be at {local} ({error.strerror}); choose another address") from None
        with contextlib.suppress(OSError):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)

    def descriptor(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def _get(self, into: memoryview) -> int:
        return self._socket.recv_into(into)

    def _put(self, frame: Frame) -> None:
        self._socket.sendmsg(frame, (), 0, self._remote)

    def _close(self) -> None:
        self._socket.close()
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
