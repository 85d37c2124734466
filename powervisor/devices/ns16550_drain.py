"""The thread that fetches what native code has gathered in a UART's transmitter."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from powervisor.devices.ns16550 import Ns16550

PAUSE = 0.002
"""Seconds between two looks at a guest that prints: what comes meanwhile goes on together."""


class Drain:
    """Drains one UART, at once after a silence and every `PAUSE` while the guest prints; `dispatch` takes the lock.

    Without a thread of its own, whoever runs the machine drains it.
    """

    def __init__(self, uart: Ns16550, dispatch: Callable[[Callable[[], None]], None], threaded: bool = True) -> None:
        self.uart, self._dispatch = uart, dispatch
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._closing = False
        uart.transmitter.bell, uart.transmitter.one = self._bell, 1
        self._thread = threading.Thread(target=self._run, name=f"{uart.name}-drain", daemon=True)
        if threaded:
            self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            self.uart.transmitter.waiting = 1  # before looking: who writes later rings the bell
            self._dispatch(self.uart.drain)
            os.eventfd_read(self._bell)
            self._dispatch(self.uart.drain)
            time.sleep(PAUSE)

    def close(self) -> None:
        """End the thread; no vCPU may be in native code any more."""
        self._closing = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self._bell, 1)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._bell)
