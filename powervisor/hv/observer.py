"""Whoever wants to know when vCPUs were in the guest, why they left and how long the answer took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .exits import Exit

if TYPE_CHECKING:
    from .vcpu import Vcpu


class Observer(Protocol):
    """Told of each exit, on the vCPU's thread, after it was answered; must be quick, and never wait for a vCPU."""

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        """Times are of the host's CLOCK_MONOTONIC in ns: into native code, out of it, and now.

        A read's `Mmio.value` is what was read; `Mmio.failed` says that nothing answered.
        """
