"""Events that may come often, told once a second at most: the first at once, then the latest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS = 1.0


class Throttle:
    """Passes events on to `send`."""

    def __init__(self, send: Callable[[Any], None], seconds: float = SECONDS) -> None:
        self._send, self._seconds = send, seconds
        self._lock = threading.Lock()
        self._told = float("-inf")
        self._latest: Any = None
        self._timer: threading.Timer | None = None

    def send(self, event: Any) -> None:
        """Tell it now, or later unless another comes before."""
        with self._lock:
            left = self._told + self._seconds - time.monotonic()
            if left > 0:
                self._latest = event
                if self._timer is None:
                    self._timer = threading.Timer(left, self._later)
                    self._timer.daemon = True
                    self._timer.start()
                return
            self._told = time.monotonic()
        self._send(event)

    def _later(self) -> None:
        with self._lock:
            event, self._latest, self._timer = self._latest, None, None
            self._told = time.monotonic()
        if event is not None:
            self._send(event)

    def close(self) -> None:
        """Tell nothing more."""
        with self._lock:
            timer, self._timer, self._latest = self._timer, None, None
        if timer is not None:
            timer.cancel()
