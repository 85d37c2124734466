"""The host's end of the network program: sends and takes what programs/net.c expects."""

import socket
import threading
from contextlib import suppress

PAGE, PAGES = 4096, 4096
"""What programs/net.c moves at a time: each page begins with its number, the rest is filled."""
CONTENT = b"".join(number.to_bytes(4, "big") + b"\x5a" * (PAGE - 4) for number in range(PAGES))
_BUFFER = 1 << 20


class Peer:
    """Listens on a free port of the loopback interface while in use (`with`)."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="bench-peer", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc: object) -> None:  # a connection that is still there ends with its guest
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(connection,), name="bench-guest", daemon=True).start()


def _serve(connection: socket.socket) -> None:
    memory = bytearray(len(CONTENT))
    with connection, suppress(ConnectionError):
        while what := connection.recv(1):
            if what == b"r":
                connection.sendall(CONTENT)
            elif not _take(connection, memory):
                return
            else:
                connection.sendall(_right(memory).to_bytes(4, "big"))


def _take(connection: socket.socket, memory: bytearray) -> bool:
    """Fill `memory`; whether that much came."""
    at, view = 0, memoryview(memory)
    while at < len(memory):
        count = connection.recv_into(view[at : at + _BUFFER])
        if not count:
            return False
        at += count
    return True


def _right(memory: bytearray) -> int:
    """How many pages are what they should be."""
    if memory == CONTENT:
        return PAGES
    return sum(memory[at : at + PAGE] == CONTENT[at : at + PAGE] for at in range(0, len(CONTENT), PAGE))
