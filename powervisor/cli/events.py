"""What can happen to a running machine, brought to the main thread from signals and other threads."""

import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from powervisor.console.terminal import Terminal


@dataclass(frozen=True)
class Ended:
    """The machine has stopped by itself."""

    outcome: Any


@dataclass(frozen=True)
class Failed:
    """Waiting for the machine raised."""

    error: BaseException


@dataclass(frozen=True)
class Expected:
    """The text that was waited for has come."""


@dataclass(frozen=True)
class Quit:
    """The user typed Ctrl-A x."""


@dataclass(frozen=True)
class Broken:
    """Nobody reads our output any more."""


@dataclass(frozen=True)
class Signalled:
    """A signal asks us to end."""

    number: int


Event = Ended | Failed | Expected | Quit | Broken | Signalled

_LONGEST = 86400.0  # seconds: the kernel takes no arbitrary time to wait
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def _ending() -> list[signal.Signals]:
    """Signals that end us: nohup has SIGHUP ignored."""
    return [n for n in _ENDING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


class Overdue(BaseException):
    """The time for something is over; passes `except Exception` as KeyboardInterrupt does."""


class Interrupted(BaseException):
    """A signal asks us to end; passes `except Exception` as KeyboardInterrupt does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted out of whatever the main thread does when a signal comes that ends a program: what has been
    made so far is taken away on the way out."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in _ending()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def overdue_at(deadline: float | None) -> Iterator[None]:
    """Raise Overdue out of whatever the main thread does when `deadline` (of time.monotonic) passes."""
    if deadline is None:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise Overdue

    before = signal.signal(signal.SIGALRM, over)
    try:
        signal.setitimer(signal.ITIMER_REAL, min(max(deadline - time.monotonic(), 1e-6), _LONGEST))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Events:
    """A queue that the main thread waits on with `poll`.

    The kernel may hand a signal to any thread, and Python runs the handler in the main one when that next wakes; so it
    sleeps on a pipe into which the signal itself is written (signal.set_wakeup_fd), never on a lock.
    """

    def __init__(self) -> None:
        self._queue: deque[Event] = deque()
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        for fd in (self._read, self._write):
            os.set_blocking(fd, False)

    def put(self, event: Event) -> None:
        """Add an event; from any thread or signal handler, at any time."""
        self._queue.append(event)
        with self._lock:
            if self._write >= 0:
                self._wake()

    @property
    def waiting(self) -> bool:
        """Whether there is an event that nobody took."""
        return bool(self._queue)

    def get(self, deadline: float | None) -> Event | None:
        """The next event, or None when `deadline` (of time.monotonic) has passed."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while True:
            if self._queue:
                return self._queue.popleft()
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            if poll.poll(None if left is None else min(left, _LONGEST) * 1000):
                os.read(self._read, 4096)

    def close(self) -> None:
        """Give the pipe back; events that come later are ignored."""
        with self._lock:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1

    @contextmanager
    def signals(self, terminal: Terminal | None) -> Iterator[None]:
        """Turn signals that end a program into events; a second one ends it at once, with the terminal restored."""
        asked = False

        def ask(number: int, frame: FrameType | None) -> None:
            nonlocal asked
            if asked:
                if terminal is not None:
                    terminal.restore()
                os._exit(128 + number)
            asked = True
            self._queue.append(Signalled(number))  # the pipe has the signal already

        before = {number: signal.signal(number, ask) for number in _ending()}
        wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        if terminal is not None:
            terminal.handle_job_control()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wake(self) -> None:
        try:
            os.write(self._write, b"e")
        except BlockingIOError:
            return  # full of unread wake-ups: one more would tell nothing new
