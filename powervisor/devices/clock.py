"""Time for devices: what the time is, and being called when it has come."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple, Protocol


class Timer(Protocol):
    """An appointment made by `Clock.call_at`."""

    def cancel(self) -> None:
        """Withdraw it; without effect when it has passed."""


class Clock(Protocol):
    """The machine's clock. Calls are made under the machine lock, never before their time."""

    def now_ns(self) -> int:
        """Nanoseconds since the machine started."""

    def call_at(self, ns: int, fn: Callable[[], None]) -> Timer:
        """Call `fn` once when `now_ns()` has reached `ns`."""


class _Appointment:
    """Heap entry; `order` keeps equal times in the order they were made."""

    __slots__ = ("cancelled", "fn", "ns", "order")

    def __init__(self, ns: int, order: int, fn: Callable[[], None]) -> None:
        self.ns, self.order, self.fn = ns, order, fn
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: _Appointment) -> bool:
        return (self.ns, self.order) < (other.ns, other.order)


class Appointments(NamedTuple):
    """What a ManualClock was to do, and when."""

    now: int
    made: list[tuple[int, int, Callable[[], None]]]
    """Time, order and call of each."""


class ManualClock:
    """A clock that stands still until told to `advance`: for tests and deterministic machines."""

    def __init__(self) -> None:
        self._now = 0
        self._heap: list[_Appointment] = []
        self._order = count()

    def now_ns(self) -> int:
        return self._now

    def call_at(self, ns: int, fn: Callable[[], None]) -> Timer:
        appointment = _Appointment(ns, next(self._order), fn)
        heapq.heappush(self._heap, appointment)
        return appointment

    def hold(self) -> None:
        """As `HostClock.hold`: it stands still anyway."""

    def release(self) -> None:
        """As `HostClock.release`."""

    def close(self) -> None:
        """No call is made any more."""
        self._heap.clear()

    def next_ns(self) -> int | None:
        """When the next call is due, or None."""
        while self._heap and self._heap[0].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0].ns if self._heap else None

    def advance(self, ns: int) -> None:
        """Let `ns` nanoseconds pass, making each call at its own time."""
        end = self._now + ns
        while (due := self.next_ns()) is not None and due <= end:
            self._now = max(self._now, due)
            heapq.heappop(self._heap).fn()
        self._now = end

    def set(self, ns: int) -> None:
        """Be at another time. What was to be called before it is called with the next `advance`."""
        self._now = ns

    def appointments(self) -> Appointments:
        """All that is to be called."""
        return Appointments(self._now, [(one.ns, one.order, one.fn) for one in self._heap if not one.cancelled])

    def reappoint(self, kept: Appointments) -> None:
        """Have appointments as they were: those that were made again since get their time and order, other new ones
        are withdrawn, missing ones made."""
        missing = {fn: (ns, order) for ns, order, fn in kept.made}
        for one in self._heap:
            if not one.cancelled and (place := missing.pop(one.fn, None)) is not None:
                one.ns, one.order = place
            else:
                one.cancelled = True
        self._heap += [_Appointment(ns, order, fn) for fn, (ns, order) in missing.items()]
        heapq.heapify(self._heap)


class HostClock:
    """The host's monotonic clock, with one daemon thread that makes the calls under `lock`.

    An exception out of a call ends no thread: it goes to `on_error`, which by default prints it.
    """

    def __init__(
        self, lock: threading.RLock | None = None, on_error: Callable[[BaseException], None] | None = None
    ) -> None:
        self.lock = lock or threading.RLock()
        self.on_error = on_error or _print_error
        self._start = time.monotonic_ns()
        self._heap: list[_Appointment] = []
        self._order = count()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._held_at: int | None = None
        self._followers: list[Callable[[int], None]] = []

    def now_ns(self) -> int:
        held = self._held_at
        return time.monotonic_ns() - self._start if held is None else held

    def hold(self) -> None:
        """Stand still until `release`; nothing is called meanwhile."""
        with self._wake:
            self._held_at = self.now_ns()
            self._wake.notify()

    def release(self) -> None:
        """Go on with the time at which `hold` came."""
        with self._wake:
            if (held := self._held_at) is not None:
                self._held_at = None
                lost = self.now_ns() - held
                self._start += lost
                for follower in self._followers:
                    follower(lost)
                self._wake.notify()

    def set(self, ns: int) -> None:
        """Be at another time, from which it goes on with `release`; it is held."""
        with self._wake:
            assert self._held_at is not None, "a clock is set while it is held"
            self._held_at = ns

    def on_release(self, follower: Callable[[int], None]) -> None:
        """Have whoever reads the host's clock itself told how long, in ns, this one was held."""
        self._followers.append(follower)

    def call_at(self, ns: int, fn: Callable[[], None]) -> Timer:
        appointment = _Appointment(ns, next(self._order), fn)
        with self._wake:
            heapq.heappush(self._heap, appointment)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="powervisor-clock", daemon=True)
                self._thread.start()
            elif self._heap[0] is appointment:
                self._wake.notify()
        return appointment

    def close(self) -> None:
        """Stop the thread; later appointments are never called."""
        with self._wake:
            self._closed = True
            self._heap.clear()
            self._wake.notify()

    def _due(self) -> _Appointment | None:
        """Wait for the next appointment that has come; None when closed."""
        with self._wake:
            while not self._closed:
                if not self._heap or self._held_at is not None:
                    self._wake.wait()
                elif (left := self._heap[0].ns - self.now_ns()) > 0 and not self._heap[0].cancelled:
                    self._wake.wait(left / 1e9)
                else:
                    return heapq.heappop(self._heap)
        return None

    def _run(self) -> None:
        while (appointment := self._due()) is not None:
            with self.lock:
                # Looked at under the lock: the device may have cancelled it while we waited for the lock.
                if appointment.cancelled or self._closed:
                    continue
                try:
                    appointment.fn()
                except Exception as error:
                    self.on_error(error)


def _print_error(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)
