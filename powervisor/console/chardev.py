"""What a serial port talks to, and the two halves every kind shares: a bounded way out, a throttled way in.

Out: a reader of any speed stands behind `Outlet`, a bounded buffer. While there is room nothing waits and nothing is
lost; when it is full a write waits `PATIENCE` seconds once, then further output is dropped and counted until the
reader moves again, so that no vCPU ever hangs on a terminal. A device that can hold its transmitter back asks
`room()` first and loses nothing.
In: `pump` hands the guest no more than `can_receive()` says and keeps the rest, so pasted text arrives whole.
"""

import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Protocol

Dispatch = Callable[[Callable[[], None]], None]
"""Runs a function under the machine's lock and returns when it has run."""

CAPACITY = 1 << 20
"""Bytes of output kept for a reader that is slow or has not come yet."""
PATIENCE = 1.0
"""Seconds a write waits for a full buffer to move, once per stall; also how long `close` waits for the last bytes."""
BACKLOG = 1 << 16
"""Bytes of input kept while the guest does not take them."""

_POLL = 0.1  # seconds: how soon a waiting thread notices that it is to end
_THROTTLE = 0.002  # seconds between offers to a UART whose FIFO is full
# Room for this much is what a pipe or terminal promises when it polls as writable; a larger write could block.
_CHUNK = 512
_READ = 4096


class Chardev(Protocol):
    """The host's end of a serial line; a UART writes to it and sets the two callables for the way back."""

    on_receive: Callable[[bytes], None] | None
    can_receive: Callable[[], int]

    def start(self, dispatch: Dispatch) -> None:
        """Begin to carry input to `on_receive`, through `dispatch`."""

    def write(self, data: bytes) -> None:
        """Take bytes the guest sent; never waits longer than `PATIENCE`."""

    def close(self) -> None:
        """Deliver what is buffered, then let go of the host's resources; may be called twice."""


class PortChardev(Chardev, Protocol):
    """The host's end of a port that loses nothing: it tells when it takes more, and whether anybody reads."""

    on_room: Callable[[], None] | None
    """Called on a thread of the chardev's own when there is much room again after `room()` was 0."""
    on_connected: Callable[[bool], None] | None
    """Called on a thread of the chardev's own when somebody comes to the other end, or leaves it."""

    @property
    def connected(self) -> bool:
        """Whether somebody is at the other end, as far as that can be known."""

    def room(self) -> int:
        """Bytes that `write` takes now without waiting."""


class Outlet:
    """A bounded buffer and a thread that empties it into `send`, which may be slow, absent or broken."""

    def __init__(
        self,
        send: Callable[[bytes], int] | None,
        *,
        on_broken: Callable[[OSError], None] | None = None,
        on_room: Callable[[], None] | None = None,
        capacity: int = CAPACITY,
        patience: float = PATIENCE,
    ) -> None:
        self.dropped = 0
        """Bytes the guest sent that were given up because the reader stood still."""
        self._send = send
        self._on_broken, self._on_room = on_broken, on_room
        self._capacity = capacity
        self._patience = patience
        self._buffer = bytearray()
        self._changed = threading.Condition()
        self._stalled = False
        self._sending = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def room(self) -> int:
        """Bytes that `write` would take now without waiting."""
        return self._capacity - len(self._buffer)

    def attach(self, send: Callable[[bytes], int]) -> None:
        """A reader has come: `send(data)` returns how many bytes it took, 0 for none yet."""
        with self._changed:
            self._send, self._stalled = send, False
            self._changed.notify_all()

    def detach(self) -> None:
        """The reader has left; output is kept for the next one. When this returns, its descriptor may be closed."""
        with self._changed:
            self._send = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._sending)

    def write(self, data: bytes) -> None:
        """Queue `data`; waits at most `patience` seconds, and only for a reader that is there."""
        with self._changed:
            if self._closing:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="console-out", daemon=True)
                self._thread.start()
            deadline = time.monotonic() + self._patience
            while len(data) > self.room() and self._send is not None and not self._stalled:
                if not self._changed.wait(deadline - time.monotonic()):
                    self._stalled = True
            taken = data[: max(0, self.room())]
            self._buffer += taken
            self.dropped += len(data) - len(taken)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for the buffer to empty as long as the reader takes something every `patience` seconds."""
        with self._changed:
            left = len(self._buffer) + 1
            while self._send is not None and 0 < len(self._buffer) < left:
                left = len(self._buffer)
                self._changed.wait_for(partial(self._moved_below, left), self._patience)
            self._closing = True
            self.dropped += len(self._buffer)
            self._buffer.clear()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._patience)

    def _moved_below(self, length: int) -> bool:
        return self._send is None or len(self._buffer) < length

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or (self._buffer and self._send is not None))
                if self._closing:
                    return
                send, chunk = self._send, bytes(self._buffer[:_CHUNK])
                self._sending = True
            assert send is not None
            sent, broken = 0, None
            try:
                sent = send(chunk)
            except OSError as error:
                broken = error
            with self._changed:
                self._sending = False
                before = self.room()
                # After a close the buffer is already empty; deleting from it is harmless.
                del self._buffer[:sent]
                roomy = before < self._capacity // 2 <= self.room()
                if sent:
                    self._stalled = False
                if broken is not None and self._send is send:
                    self._send = None
                self._changed.notify_all()
            if roomy and self._on_room is not None:
                self._on_room()
            if broken is not None and self._on_broken is not None:
                self._on_broken(broken)


def sender(fd: int) -> Callable[[bytes], int]:
    """A `send` for `Outlet` over a file descriptor, whose blocking mode is left alone: a shell may share it."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def send(data: bytes) -> int:
        if not poll.poll(_POLL * 1000):
            return 0
        try:
            return os.write(fd, data)
        except BlockingIOError:
            return 0

    return send


class Log:
    """A file that what a guest sends is appended to; of a slow one some may be lost, as of any reader."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._outlet = Outlet(sender(fd))

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._outlet.write(data)

    def close(self) -> None:
        """Write what is left, and close the file; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._outlet.close()
            os.close(fd)


class BaseChardev(ABC):
    """Start, stop and the throttled way in; kinds add where bytes come from and go to."""

    description = ""
    """As the user wrote it."""
    typed = False
    """Whether keys come one at a time, and nobody shows them to who types them."""
    log: Log | None = None
    """Gets what the guest sends as well."""
    announcement: str | None = None
    """Where to connect to, for the user, when that is not known from what he typed (a pty's path, a port)."""

    def __init__(self) -> None:
        self.on_receive: Callable[[bytes], None] | None = None
        self.can_receive: Callable[[], int] = lambda: BACKLOG
        self.on_room: Callable[[], None] | None = None
        self.on_connected: Callable[[bool], None] | None = None
        self._dispatch: Dispatch | None = None
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = -1, -1

    @property
    def dropped(self) -> int:
        """Bytes of output given up because nobody read them."""
        return 0

    @property
    def connected(self) -> bool:
        """Whether somebody is at the other end, as far as that can be known."""
        return True

    def room(self) -> int:
        """Bytes that `write` takes now without waiting."""
        return CAPACITY

    def ready(self) -> None:
        """Wait for whoever must be there before the machine starts (a socket with wait=on)."""

    def start(self, dispatch: Dispatch) -> None:
        """Begin to carry input to `on_receive`, through `dispatch`."""
        self._dispatch = dispatch
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._receive, name="console-in", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Take bytes the guest sent."""
        if self.log is not None:
            self.log.write(data)
        self._write(data)

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Carry them to the other end."""

    def close(self) -> None:
        """Stop carrying input."""
        if self.log is not None:
            self.log.close()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        os.write(self._wake_write, b"x")
        # A command typed by the user may close the machine from the receiving thread itself.
        if thread is not threading.current_thread():
            thread.join(PATIENCE)
            if not thread.is_alive():
                os.close(self._wake_read)
                os.close(self._wake_write)

    def _has_room(self) -> None:
        """For the outlet of a kind that has one."""
        if self.on_room is not None:
            self.on_room()

    def _receive(self) -> None:
        """The body of the receiving thread: call `_pump` for each source of input."""

    def _offer(self, data: bytes) -> int:
        """Give the guest what its UART takes of `data` now; returns how much that was."""
        assert self._dispatch is not None
        taken = 0

        def push() -> None:
            nonlocal taken
            if self.on_receive is None:
                taken = len(data)  # nobody listens on this line
            elif (count := min(len(data), self.can_receive())) > 0:
                self.on_receive(data[:count])
                taken = count

        self._dispatch(push)
        return taken

    def _pump(
        self,
        fd: int,
        *,
        keep: Callable[[bytes], bytes] = lambda data: data,
        may_read: Callable[[], bool] = lambda: True,
        typed: bool = False,
    ) -> bool:
        """Carry input from `fd` until it ends (True) or the chardev closes (False).

        `keep` filters what was read; `may_read` says whether reading is allowed at this moment. `typed` input is read
        even when the guest takes nothing, so that escape keys work then; what exceeds `BACKLOG` is dropped.
        """
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(fd, select.POLLIN)
        pending, ended, reading = bytearray(), False, True
        while pending or not ended:
            want = not ended and (typed or len(pending) < BACKLOG)
            if want != reading:
                poll.register(fd, select.POLLIN) if want else poll.unregister(fd)
                reading = want
            events = dict(poll.poll(_THROTTLE * 1000 if pending else None))
            if self._wake_read in events:
                return False
            if fd in events:
                if not may_read():
                    time.sleep(_POLL)
                    continue
                try:
                    data = os.read(fd, _READ)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""  # closed under us, hung up: an end like any other
                ended = not data
                pending += keep(data)
                del pending[BACKLOG + _READ :]
            if pending:
                del pending[: self._offer(bytes(pending))]
        return True
