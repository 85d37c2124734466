"""Work of a device that must not be done on a vCPU's thread."""

from __future__ import annotations

import contextlib
import os
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
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._begun = False

    def ring(self) -> None:
        """Have the work done soon."""
        if not self._begun:  # under the machine's lock, like every access to a register
            self._begun = True
            self._thread.start()
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Wait for work on its way; nothing is done afterwards."""
        if self._closing:
            return
        self._closing = True
        if self._begun:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._bell, 1)
            self._thread.join()
        os.close(self._bell)

    def _run(self) -> None:
        while True:
            os.eventfd_read(self._bell)
            if self._closing:
                return
            try:
                self._work()
            except BaseException as error:
                self._failed(error)
