"""What happens to a machine as a whole, for those who want to know, and what becomes of it when its guest ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .outcome import Outcome

if TYPE_CHECKING:
    from .machine import Machine


@dataclass(frozen=True)
class Held:
    """The vCPUs stand still, for longer than somebody's look at them."""


@dataclass(frozen=True)
class Released:
    """They run again."""


@dataclass(frozen=True)
class WasReset:
    """The board was reset."""

    by_guest: bool


@dataclass(frozen=True)
class WatchdogExpired:
    """A vCPU's watchdog timer asks for a reset."""


@dataclass(frozen=True)
class Finished:
    """The guest has come to an end: the machine ends too, or is held as `kept` says."""

    outcome: Outcome
    kept: bool
    by_guest: bool = True


Happening = Held | Released | WasReset | WatchdogExpired | Finished
GUEST_ERROR = "guest-error"


class Life:
    """Tells of what happens, on the thread where it does; whoever is told must not wait for vCPUs.

    `on_shutdown` is about guests that power off, or reset a machine without reboot; `on_panic` about faults that cannot
    be delivered to the guest. Machines that "pause" are held, and go on after a reset.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.on_shutdown: Literal["poweroff", "pause"] = "poweroff"
        self.on_panic: Literal["shutdown", "pause"] = "shutdown"
        self.listeners: tuple[Callable[[Happening], None], ...] = ()
        self.finished: Outcome | None = None
        """How the guest of a machine that was kept ended; None again after a reset."""
        self._to_hold = False

    def tell(self, happening: Happening) -> None:
        """Tell everybody."""
        for listener in self.listeners:
            listener(happening)

    def finish(self, outcome: Outcome, by_guest: bool = True) -> None:
        """The guest has come to an end; a machine that is kept is held by the next `settle`."""
        pauses = self.on_shutdown == "pause" or outcome.kind == GUEST_ERROR and self.on_panic == "pause"
        if self.finished is None and not self._machine.ended:
            self.tell(Finished(outcome, pauses, by_guest))
        if not pauses:
            self._machine.end(outcome)
        elif self.finished is None:
            self.finished, self._to_hold = outcome, True

    def settle(self) -> None:
        """Hold a machine whose guest has ended; without the machine's lock, and with no vCPU of the caller's inside."""
        if self._to_hold:
            self._to_hold = False
            self._machine.hold()

    def was_reset(self, by_guest: bool) -> None:
        """The board was reset: what was finished begins anew."""
        self.finished, self._to_hold = None, False
        self.tell(WasReset(by_guest))
