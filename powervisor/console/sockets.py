"""Serial lines on a listening socket: one client at a time, the next may come when it has left."""

import errno
import os
import select
import socket
import stat
import threading

from powervisor.console.chardev import BaseChardev, Outlet, sender
from powervisor.errors import UserError


class SocketServer(BaseChardev):
    """Accepts a client, carries bytes both ways until it leaves; output without a client is kept (see `CAPACITY`)."""

    def __init__(self, listener: socket.socket, announcement: str, wait: bool) -> None:
        super().__init__()
        self.announcement = announcement
        self._listener = listener
        self._wait = wait
        self._client: socket.socket | None = None
        self._connected = threading.Event()
        # The receiving side sees the client leave.
        self._outlet = Outlet(None, on_broken=lambda error: None, on_room=self._has_room)
        listener.listen(1)

    @property
    def dropped(self) -> int:
        return self._outlet.dropped

    @property
    def connected(self) -> bool:
        return self._client is not None

    def room(self) -> int:
        return self._outlet.room()

    def ready(self) -> None:
        """With wait=on: until the first client is there."""
        if self._wait and self._thread is None:
            self._accept()
        while self._wait and not self._connected.wait(1):
            pass  # in steps, so that Ctrl-C is noticed

    def _write(self, data: bytes) -> None:
        self._outlet.write(data)

    def close(self) -> None:
        self._outlet.close()
        super().close()
        self._drop_client()
        self._listener.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # keys and echoes are single bytes
        self._client = client
        self._connected.set()
        self._outlet.attach(sender(client.fileno()))
        if self.on_connected is not None:
            self.on_connected(True)

    def _drop_client(self) -> None:
        self._outlet.detach()
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _receive(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        while True:
            if self._client is None:
                if self._wake_read in dict(poll.poll()):
                    return
                try:
                    self._accept()
                except OSError:
                    continue  # the client gave up between knocking and our answer
            assert self._client is not None
            if not self._pump(self._client.fileno()):
                return
            self._drop_client()
            if self.on_connected is not None:
                self.on_connected(False)


class UnixServer(SocketServer):
    """A socket in the file system; a stale one is replaced, one in use is refused."""

    def __init__(self, path: str, wait: bool, option: str) -> None:
        self._path = path
        super().__init__(listen_unix(path, option), f"unix:{path}", wait)

    def close(self) -> None:
        super().close()
        path, self._path = self._path, ""
        if path and os.path.exists(path):
            os.unlink(path)


class TcpServer(SocketServer):
    """A TCP port; an empty host means every address of this machine, port 0 a free one (it is announced)."""

    def __init__(self, host: str, port: int, wait: bool, option: str) -> None:
        listener = listen_tcp(host, port, option)
        name = listener.getsockname()
        super().__init__(listener, f"tcp:{name[0]}:{name[1]}", wait)


def listen_unix(path: str, option: str, backlog: int = 1) -> socket.socket:
    """A socket that listens in the file system, for our own user; a stale one is replaced. Raises UserError."""
    where = f"{option} unix:{path}"
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path, where)
        os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with it: there is no moment without
        listener.bind(path)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        reason = "the path is too long for a socket" if error.errno is None else error.strerror
        raise UserError(
            f"{where}: cannot listen there ({reason}); choose a short path in a directory of yours"
        ) from None
    except UserError:
        listener.close()
        raise
    return listener


def inherited(fd: int, where: str) -> socket.socket:
    """A listening socket that the starting program has handed over. Raises UserError, which begins with `where`."""
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise UserError(
            f"{where}: fd={fd} is no socket ({error.strerror}); open it before, and let it be inherited"
        ) from None
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise UserError(f"{where}: fd={fd} is a socket that does not listen; call listen() on it before")
    listener.setblocking(True)
    listener.set_inheritable(False)
    return listener


def listen_tcp(host: str, port: int, option: str, backlog: int = 1) -> socket.socket:
    """A socket that listens on a port; an empty host means every address of this machine. Raises UserError."""
    where = f"{option} tcp:{host}:{port}"
    if port > 0xFFFF:
        raise UserError(f"{where}: there is no port {port}; ports go from 1 to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    except UnicodeError:
        raise UserError(f"{where}: '{host}' is not the name of a host; name an address of this machine") from None
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]  # create_server adds a tuple
        remedy = "name an address of this machine and a port you may use (above 1023)"
        if error.errno == errno.EADDRINUSE:
            remedy = "choose another port, or end the program that has it (ss -ltnp)"
        raise UserError(f"{where}: cannot listen there ({reason}); {remedy}") from None


def _remove_stale(path: str, where: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{where}: there is a file that is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise UserError(f"{where}: another program listens there; choose another path or end that program")
