"""The gdb server: one debugger at a time on a TCP port or a Unix socket, served by a thread of its own."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

from ...errors import UserError
from ...machine import Machine
from ..control import Control, Stop
from ..monitor import Monitor
from .packets import INTERRUPT, Framer, framed
from .session import INTERRUPTED, Detached, Session

_LOOPBACK = "127.0.0.1"


class GdbServer:
    """Listens as `where` says: tcp:[HOST]:PORT (without a host, this machine only; port 0: a free one) or unix:PATH.

    Raises UserError, beginning with `option`, when it cannot listen.
    """

    def __init__(self, machine: Machine, where: str, option: str = "gdb") -> None:
        self._machine = machine
        self._path = ""
        self._listener = self._listen(where, f"{option} {where}")
        self._woken, self._wake = os.pipe()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="gdb", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; a debugger that is connected is left alone, the machine as it is."""
        self._closing = True
        self._nudge()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._listener.close()
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        os.close(self._woken)
        os.close(self._wake)

    def _listen(self, where: str, option: str) -> socket.socket:
        kind, _, rest = where.partition(":")
        host, _, port = rest.partition(":")
        host = host or _LOOPBACK
        if kind == "unix" and rest:
            listener, address, self.address = socket.socket(socket.AF_UNIX), rest, f"unix:{rest}"
            os.fchmod(listener.fileno(), 0o600)  # whoever reaches it can change all of the machine
        elif kind == "tcp" and port.isdecimal() and int(port) <= 0xFFFF:
            listener, address = socket.socket(), (host, int(port))  # type: ignore[assignment]
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            raise UserError(f"{option}: write tcp::PORT, tcp:HOST:PORT or unix:PATH")
        try:
            listener.bind(address)
            listener.listen(1)
        except OSError as error:
            listener.close()
            reason = error.strerror or "the path is too long for a socket"
            raise UserError(f"{option}: cannot listen there ({reason}); choose another place") from None
        if kind == "unix":
            self._path = rest
        else:
            self.address = f"{host}:{listener.getsockname()[1]}"
        return listener

    def _nudge(self) -> None:
        """Wake the thread; called by any."""
        os.write(self._wake, b"!")

    def _ready(self, source: socket.socket) -> bool:
        """Wait for a socket or a nudge; False for a nudge."""
        ready, _, _ = select.select([source.fileno(), self._woken], [], [])
        if self._woken in ready:
            os.read(self._woken, 4096)
        return source.fileno() in ready

    def _serve(self) -> None:
        while not self._closing:
            if not self._ready(self._listener):
                continue
            client, _ = self._listener.accept()
            with client:
                if client.family != socket.AF_UNIX:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                control = Control(self._machine, self._nudge, "gdb")
                try:
                    control.hold()
                    control.keep_history()
                    with contextlib.suppress(OSError):  # a gdb that is gone has detached
                        _Connection(client, control, self).run()
                finally:
                    control.close()


class _Connection:
    """One gdb."""

    def __init__(self, client: socket.socket, control: Control, server: GdbServer) -> None:
        self._client, self._control, self._server = client, control, server
        self._session = Session(control, Monitor(control).execute, self._interrupted)
        self._framer = Framer()
        self._last = b""

    def run(self) -> None:
        """Serve it until it detaches. Raises OSError when it vanishes."""
        while not self._server._closing:
            ready = self._server._ready(self._client)
            if self._session.running:
                self._look()
            if not ready:
                continue
            data = self._client.recv(65536)
            if not data:
                return
            try:
                for packet in self._framer.take(data):
                    self._acknowledge()
                    self._packet(packet)
                self._acknowledge()
                if self._session.running:  # it may have ended before it was let go on
                    self._look()
            except Detached as detached:
                if detached.kill:
                    self._control.machine.quit()
                else:
                    self._control.detach()
                    self._send(b"OK")
                return

    def _interrupted(self) -> bool:
        """Whether gdb interrupts what it waits for, or is gone, or its server will be."""
        if self._server._closing:
            return True
        ready, _, _ = select.select([self._client], [], [], 0)
        waiting = self._client.recv(64, socket.MSG_PEEK) if ready else None
        return waiting is not None and (not waiting or INTERRUPT in waiting)

    def _look(self) -> None:
        """Tell gdb when the machine stopped or ended meanwhile."""
        if self._control.machine.ended:
            self._send(self._session.ended())
        elif (stop := self._control.stopped()) is not None:
            self._send(self._session.stopped(stop))

    def _packet(self, packet: bytes) -> None:
        if packet == b"-":
            self._client.sendall(self._last)
        elif packet == INTERRUPT:
            if self._session.running:
                self._control.hold()
                stop = self._control.stopped() or Stop(self._session.current, None)
                self._send(self._session.stopped(stop, INTERRUPTED))
        else:
            reply = self._session.answer(packet)
            if reply is not None:
                self._send(reply)
            if self._session.no_acknowledge:
                self._framer.acknowledge = False

    def _acknowledge(self) -> None:
        if self._framer.replies:
            self._client.sendall(bytes(self._framer.replies))
            self._framer.replies.clear()

    def _send(self, reply: bytes) -> None:
        self._last = framed(reply)
        self._client.sendall(self._last)
