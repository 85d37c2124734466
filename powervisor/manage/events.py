"""What clients are told without asking."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from .types import struct

EVENTS: dict[str, type] = {}
"""Events by name; their fields are what is told."""

ShutdownCause = Literal[
    "host-qmp-quit", "host-qmp-system-reset", "host-signal", "host-ui", "guest-shutdown", "guest-reset", "guest-panic"
]
ResetCause = Literal["host-qmp-system-reset", "guest-reset"]
MigrationStatus = Literal["none", "setup", "active", "completed", "failed", "cancelling", "cancelled"]
DumpStatus = Literal["none", "active", "completed", "failed"]


def event(name: str) -> Any:
    """Make a struct the event `name`."""

    def declare(cls: type) -> type:
        cls.__qmp_event__ = name  # type: ignore[attr-defined]
        EVENTS[name] = cls
        return cls

    return declare


@event("STOP")
@struct
class Stopped:
    """The vCPUs stand still, and the guest's time with them."""


@event("RESUME")
@struct
class Resumed:
    """The vCPUs run."""


@event("RESET")
@struct
class WasReset:
    """The board was reset."""

    guest: Annotated[bool, "whether the guest asked for it"]
    reason: ResetCause


@event("SHUTDOWN")
@struct
class Shutdown:
    """The machine ends, or is kept stopped where set-action says so."""

    guest: Annotated[bool, "whether the guest asked for it"]
    reason: ShutdownCause


@event("POWERDOWN")
@struct
class Powerdown:
    """system_powerdown was asked for."""


@event("WATCHDOG")
@struct
class Watchdog:
    """A vCPU's watchdog timer ran out; what follows has its own events."""

    action: Literal["reset"]


@event("GUEST_PANICKED")
@struct
class GuestPanicked:
    """A vCPU met a fault that cannot be delivered to the guest (checkstop)."""

    action: Annotated[Literal["pause", "poweroff"], "what becomes of the machine"]


@event("BALLOON_CHANGE")
@struct
class BalloonChange:
    """The guest has another amount of memory, since it put pages into the balloon or took some out."""

    actual: Annotated[int, "bytes"]


@event("VSERPORT_CHANGE")
@struct
class PortOpened:
    """A program of the guest has opened a virtserialport, or closed it."""

    id: Annotated[str, "the -device's"]
    open: bool


@event("MIGRATION")
@struct
class Migration:
    """A migration has another status; only with the capability `events`."""

    status: MigrationStatus


@struct
class DumpProgress:
    """How far a memory dump is."""

    status: DumpStatus
    completed: Annotated[int, "bytes of RAM written"]
    total: Annotated[int, "bytes of RAM to be written"]


@event("DUMP_COMPLETED")
@struct
class DumpCompleted:
    """A memory dump that was asked for with `detach` has ended."""

    result: DumpProgress
    error: Annotated[str | None, "why it failed"] = None
