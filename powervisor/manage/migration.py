"""Migration: a machine's snapshot into a stream, and a machine that waits for one made like it."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Annotated, Literal

from ..errors import PowervisorError
from ..snapshots.stream import Stream, write
from . import events
from .channel import Channel, GivenUp
from .errors import QmpError
from .types import struct

if TYPE_CHECKING:
    from .manager import Manager

Capability = Literal["events"]


@struct
class MigrationStats:
    """Bytes of RAM that a migration moves."""

    transferred: Annotated[int, "bytes moved so far, before compression"]
    remaining: Annotated[int, "bytes left, pages of zeros included"]
    total: Annotated[int, "bytes of the guest's RAM"]


@struct
class MigrationInfo:
    """How far the last migration is; without `status` there was none."""

    status: events.MigrationStatus | None = None
    ram: MigrationStats | None = None
    total_time: Annotated[int | None, "milliseconds since it began"] = None
    downtime: Annotated[int | None, "milliseconds that the guest stood still for it, of a completed one"] = None
    setup_time: Annotated[int | None, "milliseconds before the first byte went"] = None
    error_desc: Annotated[str | None, "why it failed"] = None


class Migration:
    """The migration of a machine, in or out; one at a time."""

    def __init__(self, manager: Manager, incoming: bool) -> None:
        self._manager = manager
        self.incoming = incoming
        """Whether the machine waits for migrate-incoming, or its end."""
        self.autostart = False
        """Whether it runs when it has come in."""
        self.capabilities: set[str] = set()
        self.max_bandwidth: int | None = None
        """What clients set, and may ask for again."""
        self.status: events.MigrationStatus = "none"
        self._thread: threading.Thread | None = None
        self._channel: Channel | None = None
        self._moved = 0
        self._began = self._ended = self._setup = 0.0
        self._error: str | None = None

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Give up what is under way."""
        self.cancel()
        if self._thread is not None:
            self._thread.join()

    def cancel(self) -> None:
        """Have a migration that is under way end soon."""
        channel = self._channel
        if self.running and channel is not None:
            self._become("cancelling")
            channel.give_up()

    def info(self) -> MigrationInfo:
        """How far it is."""
        if self.status == "none":
            return MigrationInfo()
        total = self._manager.machine.ram.size
        done = self.status == "completed"
        now = time.monotonic() if self.running else self._ended
        taken = int(1000 * (now - self._began))
        return MigrationInfo(
            status=self.status,
            ram=MigrationStats(transferred=self._moved, remaining=0 if done else total - self._moved, total=total),
            total_time=taken, downtime=taken if done else None, setup_time=int(1000 * self._setup),
            error_desc=self._error,
        )  # fmt: skip

    def _become(self, status: events.MigrationStatus) -> None:
        self.status = status
        if "events" in self.capabilities:
            self._manager.send(events.Migration(status=status))

    def _begin(self, channel: Channel, work: str) -> None:
        self._channel, self._moved, self._error = channel, 0, None
        self._began, self._setup = time.monotonic(), 0.0
        self._become("setup")
        target = self._send if work == "migrate" else self._receive
        self._thread = threading.Thread(target=target, args=(channel,), name=work, daemon=True)
        self._thread.start()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def check_out(self) -> None:
        """Raise QmpError unless the machine can go somewhere now."""
        self._manager.check_alive()
        if self.incoming:
            raise QmpError("the machine waits for migrate-incoming itself")
        if self.running:
            raise QmpError("a migration is under way already")

    def send(self, channel: Channel) -> None:
        """Stop the machine and let it go; where that fails it goes on as before."""
        self._begin(channel, "migrate")

    def _send(self, channel: Channel) -> None:
        from ..machine.stored import parts

        manager = self._manager
        before = manager.status
        manager.stop("finish-migrate")
        try:
            try:
                snapshot = manager.machine.snapshot()
                self._setup = time.monotonic() - self._began
                self._become("active")
                write(channel.write, *parts(snapshot), self._count)
            finally:
                channel.close()
            manager.called("postmigrate")
            self._finish("completed")
        except GivenUp:
            self._go_on(before)
            self._finish("cancelled")
        except Exception as error:
            self._go_on(before)
            self._fail(error)

    def _go_on(self, before: str) -> None:
        """The machine stays here after all."""
        if before == "running":
            self._manager.go_on()
        elif before == "debug":
            self._manager.leave()
        else:
            self._manager.called("paused")

    def _count(self, length: int) -> None:
        self._moved += length

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, PowervisorError | OSError | MemoryError):
            logging.getLogger("powervisor").error("migration", exc_info=error)
        self._finish("failed", str(error) or type(error).__name__)

    def _finish(self, status: events.MigrationStatus, error: str | None = None) -> None:
        self._error, self._ended = error, time.monotonic()
        self._channel = None
        self._become(status)

    # ---- in ----------------------------------------------------------------------------------------------------------

    def check_in(self) -> None:
        """Raise QmpError unless the machine waits for a stream."""
        if not self.incoming:
            raise QmpError("the machine does not wait for one; start it with -incoming defer")
        if self.running:
            raise QmpError("a migration is under way already")

    def receive(self, channel: Channel) -> None:
        """Become the machine that comes out of a stream; where that fails this one waits on."""
        self._begin(channel, "migrate-incoming")

    def _receive(self, channel: Channel) -> None:
        from ..machine.stored import build

        manager = self._manager
        try:
            try:
                self._become("active")
                stream = Stream(channel.read, channel.name)
                _check_alike(stream, manager.machine.options)
                snapshot = build(stream, channel.name)
                stream.end()
                self._moved = manager.machine.ram.size
                manager.machine.restore(snapshot)
            finally:
                channel.close()
        except GivenUp:
            self._finish("cancelled")
        except Exception as error:  # whatever a stream that is no honest one leads to: another one may be better
            self._fail(error)
        else:
            manager.called("paused")
            self.incoming = False
            self._finish("completed")
            if self.autostart:
                manager.go_on()


def _check_alike(stream: Stream, options: dict[str, object]) -> None:
    """Raise QmpError, before memory is made for it, where a stream is of another machine."""
    from ..machine.snapshot import IDENTITY

    theirs = stream.header["options"]
    for name in IDENTITY:
        if theirs[name] != options[name]:
            raise QmpError(f"the stream is of a machine with {name} {theirs[name]}, this one has {options[name]}")
