"""The QMP server: where clients come, and the threads that serve each."""

from __future__ import annotations

import array
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..console.chardev import sender
from . import commands
from .endpoints import Endpoint, SocketEndpoint
from .manager import Identity, Manager
from .requests import Requests
from .session import Session

if TYPE_CHECKING:
    from ..machine import Machine

MOST_CLIENTS = 16
"""At one endpoint."""
_MOST_FDS = 16
_READ = 65536
_LAST_WORDS = 1.0
"""Seconds that clients have to read the last events, all of them together."""
_ACCEPTED_AGAIN = 0.1
"""Seconds."""


class Transport(Protocol):
    """The bytes of one client."""

    def read(self) -> tuple[bytes, list[int]]:
        """What came, with file descriptors; b"" at the end."""

    def write(self, data: bytes) -> int:
        """Send some of it; answers how much. Raises OSError when the client has gone."""

    def shut(self) -> None:
        """Let `read` and `write` on other threads end."""

    def close(self) -> None:
        """Free it, when nobody uses it."""


class SocketTransport:
    """A connected socket."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._unix = client.family == socket.AF_UNIX
        if not self._unix:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self) -> tuple[bytes, list[int]]:
        """What came, with file descriptors of Unix sockets."""
        if not self._unix:
            return self._client.recv(_READ), []
        room = socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)
        data, messages, _, _ = self._client.recvmsg(_READ, room, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, content in messages:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) // fds.itemsize * fds.itemsize])
        return data, list(fds)

    def write(self, data: bytes) -> int:
        """Wait until some of it went."""
        return self._client.send(data, socket.MSG_NOSIGNAL)

    def shut(self) -> None:
        """Both directions."""
        try:
            self._client.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has gone already

    def close(self) -> None:
        """Close the socket."""
        self._client.close()


class FileTransport:
    """Two descriptors that stay open: standard input and output, or a pty."""

    def __init__(self, fd_in: int, fd_out: int) -> None:
        self._fd_in, self._send = fd_in, sender(fd_out)
        self._shut = False
        self._woken, self._wake = os.pipe()

    def read(self) -> tuple[bytes, list[int]]:
        """What was typed."""
        poll = select.poll()
        for fd in (self._fd_in, self._woken):
            poll.register(fd, select.POLLIN)
        if self._woken in dict(poll.poll()):
            return b"", []
        return os.read(self._fd_in, _READ), []

    def write(self, data: bytes) -> int:
        """Some of it, 0 where nobody reads for a while. Raises OSError after `shut`."""
        if self._shut:
            raise BrokenPipeError
        return self._send(data[: select.PIPE_BUF])

    def shut(self) -> None:
        """Once."""
        if not self._shut:
            self._shut = True
            os.write(self._wake, b"!")

    def close(self) -> None:
        """Only what is our own."""
        os.close(self._woken)
        os.close(self._wake)


class _Client:
    """A session with its threads."""

    def __init__(self, manager: Manager, transport: Transport, pretty: bool) -> None:
        self._transport = transport
        self.session = Session(manager, pretty)
        self.done = threading.Event()
        self._writer = threading.Thread(target=self._write, name="qmp-out", daemon=True)
        self.reader = threading.Thread(target=self._read, name="qmp", daemon=True)
        self._writer.start()
        self.reader.start()

    def shut(self) -> None:
        """Let it go."""
        self._transport.shut()

    def _read(self) -> None:
        requests, session = Requests(), self.session
        try:
            while session.wait_until_read():
                data, fds = self._transport.read()
                session.descriptors.came(fds)
                if not data:
                    session.wait_until_read(_LAST_WORDS, 0)  # it may say no more, and still listen
                    break
                for message in requests.take(data):
                    session.handle(message)
                    if not session.wait_until_read():
                        break
        except OSError:
            session.close()  # reset by the client: gone like any other
        finally:
            session.close()
            self._transport.shut()
            self._writer.join()
            session.descriptors.close()
            self._transport.close()
            self.done.set()

    def _write(self) -> None:
        try:
            while (text := self.session.next()) is not None:
                rest = memoryview(text)
                while rest:
                    rest = rest[self._transport.write(bytes(rest)) :]
                self.session.sent()
        except OSError:
            self.session.close()
        self._transport.shut()


class QmpServer:
    """Lets clients manage a machine at some endpoints until `close`; they are closed too.

    With `incoming` the machine, which is held, waits for migrate-incoming; without a machine see `Manager`.
    """

    def __init__(
        self,
        machine: Machine | None,
        endpoints: Sequence[Endpoint],
        identity: Identity | None = None,
        incoming: bool = False,
    ) -> None:
        assert commands.FAMILIES  # importing them has declared their commands
        self.manager = Manager(machine, identity, incoming)
        self._endpoints = list(endpoints)
        self._lock = threading.Lock()
        self._clients: list[_Client] = []
        self._came = threading.Event()
        self._closing = False
        self._woken, self._wake = os.pipe()
        self._listeners: list[threading.Thread] = []
        for endpoint in self._endpoints:
            if isinstance(endpoint, SocketEndpoint):
                thread = threading.Thread(target=self._listen, args=(endpoint,), name="qmp-listen", daemon=True)
                self._listeners.append(thread)
                thread.start()
            else:
                self._serve(FileTransport(endpoint.fd_in, endpoint.fd_out), endpoint.pretty)

    def ready(self) -> None:
        """Wait for a client, where an endpoint says so (wait=on)."""
        while any(isinstance(one, SocketEndpoint) and one.wait for one in self._endpoints):
            if self._came.wait(1):  # in steps, so that Ctrl-C is noticed
                return

    def close(self) -> None:
        """Tell clients the last events and let them go; may be called twice."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake, b"!")
        for thread in self._listeners:
            thread.join()
        with self._lock:
            clients = list(self._clients)
        deadline = time.monotonic() + _LAST_WORDS
        for client in clients:
            client.session.wait_until_read(max(deadline - time.monotonic(), 0), 0)
            client.shut()
        self.manager.close()
        deadline = time.monotonic() + _LAST_WORDS
        for client in clients:
            if client.reader is not threading.current_thread():
                client.done.wait(max(deadline - time.monotonic(), 0))
        for endpoint in self._endpoints:
            endpoint.close()
        os.close(self._woken)
        os.close(self._wake)

    def _listen(self, endpoint: SocketEndpoint) -> None:
        poll = select.poll()
        for fd in (endpoint.listener.fileno(), self._woken):
            poll.register(fd, select.POLLIN)
        while not self._closing:
            if self._woken in dict(poll.poll()):
                return
            try:
                client, _ = endpoint.listener.accept()
            except OSError:  # it gave up between knocking and our answer, or there are no more descriptors
                time.sleep(_ACCEPTED_AGAIN)
                continue
            with self._lock:
                self._clients = [one for one in self._clients if not one.done.is_set()]
                full = len(self._clients) >= MOST_CLIENTS
            if full:
                client.close()
            else:
                self._serve(SocketTransport(client), endpoint.pretty)

    def _serve(self, transport: Transport, pretty: bool) -> None:
        with self._lock:
            self._clients.append(_Client(self.manager, transport, pretty))
        self._came.set()
