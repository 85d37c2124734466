"""Work of a device that must not be done on a vCPU's thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Protocol


class Bell(Protocol):
    """How a register access hands work to whoever does it."""

    def ring(self) -> None:
        """Have the work done soon; ringing several times may have it done once."""

    def close(self) -> None:
        """Wait for work on its way; nothing is done afterwards. Not under the machine's lock."""


Hire = Callable[[str, Callable[[], None]], Bell]
"""Makes a Bell that has a function called; the name is for people."""


class Worker:
    """A thread that calls `work` after each ring; begun with the first. What `work` raises goes to `failed`."""

    def __init__(self, name: str, work: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._work, self._failed = work, failed
        # Held while there is nothing to do. Unlike a write to an eventfd, releasing a lock keeps the GIL: the vCPU's
        # thread leaves its register access, and the machine's lock, before the worker begins.
        self._idle = threading.Lock()
        self._idle.acquire()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._begun = False

    def ring(self) -> None:
        """Have the work done soon."""
        if not self._begun:  # under the machine's lock, like every access to a register
            self._begun = True
            self._thread.start()
        with contextlib.suppress(RuntimeError):  # rung already
            self._idle.release()

    def close(self) -> None:
        """Wait for work on its way; nothing is done afterwards."""
        self._closing = True
        if self._begun:
            self.ring()
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._idle.acquire()
            if self._closing:
                return
            try:
                self._work()
            except BaseException as error:
                self._failed(error)
