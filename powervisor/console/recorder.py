"""Keep what a guest printed, and wait for text in it."""

import re
import threading
import time
from collections.abc import Callable

from powervisor.console.chardev import CAPACITY, BaseChardev, Chardev, Dispatch
from powervisor.errors import PowervisorError

KEPT = 16 << 20
"""Bytes of output that are remembered; older ones are forgotten."""
_LATENCY = 0.005  # seconds between offers to a UART whose FIFO is full
_GLANCE = 0.02  # seconds between looks at the guest's clock, which may stand still or be slower than the host's


class ExpectError(PowervisorError):
    """The text that was waited for did not come; the message ends with the last lines that did."""


class Recorder:
    """A chardev that remembers what the guest wrote and passes everything on to another one, if given."""

    def __init__(self, inner: Chardev | None = None) -> None:
        self.inner = inner
        self._data = bytearray()
        self._forgotten = 0  # bytes dropped from the front of _data
        self._seen = 0  # position, in the whole stream, up to which expect() has matched
        self._ended = False
        self._grown = threading.Condition()
        self._dispatch: Dispatch | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._can_receive: Callable[[], int] = lambda: 0
        self._over: Callable[[], bool] = lambda: False
        self._guest_time: Callable[[], float] = time.monotonic

    def attach(self, over: Callable[[], bool], guest_time: Callable[[], float]) -> None:
        """Have `expect` ask, after each `wake`, whether the guest has ended, and know the guest's time in seconds.

        What `over` raises ends the waiting.
        """
        self._over, self._guest_time = over, guest_time

    def wake(self) -> None:
        """Have whoever waits in `expect` look at what `attach` was given."""
        with self._grown:
            self._grown.notify_all()

    @property
    def on_receive(self) -> Callable[[bytes], None] | None:
        """The UART's input; set on the inner chardev too, which brings the user's keys."""
        return self._receive

    @on_receive.setter
    def on_receive(self, function: Callable[[bytes], None] | None) -> None:
        self._receive = function
        if self.inner is not None:
            self.inner.on_receive = function

    @property
    def can_receive(self) -> Callable[[], int]:
        """How many bytes the UART takes now."""
        return self._can_receive

    @can_receive.setter
    def can_receive(self, function: Callable[[], int]) -> None:
        self._can_receive = function
        if self.inner is not None:
            self.inner.can_receive = function

    @property
    def _port(self) -> BaseChardev | None:
        """The inner chardev, if it can tell of room and readers."""
        return self.inner if isinstance(self.inner, BaseChardev) else None

    @property
    def on_room(self) -> Callable[[], None] | None:
        """Called when the inner chardev has room again."""
        return self._port.on_room if self._port else None

    @on_room.setter
    def on_room(self, function: Callable[[], None] | None) -> None:
        if self._port:
            self._port.on_room = function

    @property
    def on_connected(self) -> Callable[[bool], None] | None:
        """Called when somebody comes to the inner chardev, or leaves it."""
        return self._port.on_connected if self._port else None

    @on_connected.setter
    def on_connected(self, function: Callable[[bool], None] | None) -> None:
        if self._port:
            self._port.on_connected = function

    @property
    def description(self) -> str:
        """The inner chardev's."""
        return self._port.description if self._port else "recorder"

    @property
    def connected(self) -> bool:
        """Whether somebody is at the inner chardev; without one the recorder itself listens."""
        return self._port is None or self._port.connected

    def room(self) -> int:
        """Bytes that `write` takes now without waiting."""
        return self._port.room() if self._port else CAPACITY

    def start(self, dispatch: Dispatch) -> None:
        """Begin to carry input, from the inner chardev and from `send`."""
        self._dispatch = dispatch
        if self.inner is not None:
            self.inner.start(dispatch)

    def write(self, data: bytes) -> None:
        """Remember `data` and pass it on."""
        with self._grown:
            self._data += data
            if len(self._data) > KEPT + KEPT // 4:  # in steps: moving 16 MiB for each byte would be slow
                surplus = len(self._data) - KEPT
                del self._data[:surplus]
                self._forgotten += surplus
            self._grown.notify_all()
        if self.inner is not None:
            self.inner.write(data)

    def close(self) -> None:
        """No more output will come: whoever waits for text is told so."""
        self.end()
        if self.inner is not None:
            self.inner.close()

    def end(self) -> None:
        """The guest has stopped; `expect` fails at once instead of waiting for its timeout."""
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    @property
    def text(self) -> str:
        """What the guest wrote, the last `KEPT` bytes of it; bytes that are not UTF-8 show as U+FFFD."""
        with self._grown:
            return self._data.decode(errors="replace")

    def expect(
        self, text: str, timeout: float | None = None, *, regex: bool = False, guest_seconds: float | None = None
    ) -> str:
        """Wait until `text` comes and return what was written up to its end, since the last match.

        `text` is literal unless `regex`; `timeout` is in host seconds, `guest_seconds` in the guest's, which stand
        still while the machine is held. Without them it waits as long as the guest runs. Raises ExpectError when the
        time is over, or the guest has ended or was stopped (`stop_run`), HookError with what a hook raised.
        """
        pattern = re.compile((text if regex else re.escape(text)).encode(), re.DOTALL)
        deadline = None if timeout is None else time.monotonic() + timeout
        guest_deadline = None if guest_seconds is None else self._guest_time() + guest_seconds
        # A literal cannot begin before the last len-1 bytes of what was searched; a regex may span all of it.
        overlap = None if regex else len(text.encode()) - 1
        with self._grown:
            start = max(0, self._seen - self._forgotten)
            while True:
                match = pattern.search(self._data, start)
                if match is not None:
                    begin = max(0, self._seen - self._forgotten)
                    self._seen = self._forgotten + match.end()
                    return self._data[begin : match.end()].decode(errors="replace")
                if self._over() or self._ended:
                    raise ExpectError(f"the guest ended or was stopped before {text!r} came{self._tail()}")
                searched = self._forgotten + len(self._data)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise ExpectError(f"{text!r} did not come within {timeout:g} s{self._tail()}")
                if guest_deadline is not None:
                    if self._guest_time() >= guest_deadline:
                        raise ExpectError(f"{text!r} did not come within {guest_seconds:g} guest s{self._tail()}")
                    left = _GLANCE if left is None else min(left, _GLANCE)
                self._grown.wait(left)
                resume = self._seen if overlap is None else max(self._seen, searched - overlap)
                start = max(0, resume - self._forgotten)

    def send(self, data: str | bytes, timeout: float = 10.0) -> None:
        """Type `data` on the line, as fast as the guest takes it; ExpectError if it does not within `timeout` s."""
        if self._dispatch is None:
            raise PowervisorError("console.send: the machine is not running; start it first")
        pending = data.encode() if isinstance(data, str) else data
        deadline = time.monotonic() + timeout

        def offer() -> None:
            nonlocal pending
            count = min(len(pending), self._can_receive()) if self._receive is not None else 0
            if count > 0 and self._receive is not None:
                self._receive(pending[:count])
                pending = pending[count:]

        while True:
            self._dispatch(offer)
            if not pending:
                return
            if time.monotonic() > deadline:
                raise ExpectError(f"console.send: {pending!r} was not taken within {timeout:g} s{self._tail()}")
            time.sleep(_LATENCY)

    def _tail(self) -> str:
        lines = self._data[-2000:].decode(errors="replace").splitlines()[-8:]
        if not lines:
            return "; the console is empty"
        return "; the console says:\n" + "\n".join(f"    {line}" for line in lines)


def recorded(chardev: Chardev | None) -> Recorder:
    """`chardev` behind a recorder; one that is a recorder already is returned as it is."""
    return chardev if isinstance(chardev, Recorder) else Recorder(chardev)
