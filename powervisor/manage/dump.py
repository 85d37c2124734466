"""Memory dumps: an ELF core of the machine as it is when it is asked for, written while the guest goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import PowervisorError
from ..machine.standstill import standstill
from . import elf_core, events
from .channel import Channel
from .errors import QmpError

if TYPE_CHECKING:
    from ..memory.contents import Contents
    from .manager import Manager

_PIECE = 1 << 20


class Dump:
    """The dump of a machine; one at a time."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self.progress = events.DumpProgress(status="none", completed=0, total=0)
        self._thread: threading.Thread | None = None
        self._channel: Channel | None = None
        self._error: str | None = None

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Give up what is under way."""
        if self._channel is not None:
            self._channel.give_up()
        if self._thread is not None:
            self._thread.join()

    def begin(self, channel: Channel, start: int, length: int, paging: bool, told: bool) -> Callable[[], None]:
        """Take what is to be dumped, and begin to write it; with `told` its end is an event.

        Call what is answered to wait for the end: it raises QmpError where that is a failure.
        """
        machine = self._manager.machine
        self._channel, self._error = channel, None
        self._become("active", 0, length)
        try:
            with standstill(machine):
                note = elf_core.notes(machine.vcpus)
                seen = elf_core.translated(machine.vcpus[0], start, length) if paging else []
                head = elf_core.head(machine.vm.core, note, start, length, seen)
                contents = machine.ram.keep()
        except ValueError as error:
            self._become("failed", 0, length)
            raise QmpError(f"an ELF core of a 32-bit machine cannot hold {error}; give begin and length") from None
        thread = threading.Thread(
            target=self._write, args=(channel, head, contents, start, length, told), name="dump", daemon=True
        )
        self._thread = thread
        thread.start()

        def wait() -> None:
            thread.join()
            if self._error is not None:
                raise QmpError(self._error)

        return wait

    def _become(self, status: events.DumpStatus, completed: int, total: int) -> None:
        self.progress = events.DumpProgress(status=status, completed=completed, total=total)

    def _write(self, channel: Channel, head: bytes, contents: Contents, start: int, length: int, told: bool) -> None:
        at, end = start, start + length
        try:
            try:
                channel.write(head)
                while at < end:
                    data = contents.read(at, min(_PIECE, end - at))
                    channel.write(data)
                    at += len(data)
                    self._become("active", at - start, length)
            finally:
                self._channel = None
                channel.close()
            self._become("completed", length, length)
        except (PowervisorError, OSError, MemoryError) as error:
            self._error = str(error) or os.strerror(getattr(error, "errno", 0) or 0)
            self._become("failed", at - start, length)
        if told:
            self._manager.send(events.DumpCompleted(result=self.progress, error=self._error))
