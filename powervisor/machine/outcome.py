"""How a machine ended."""

from __future__ import annotations

from dataclasses import dataclass

STOPPED = "stopped"
"""Somebody stopped it."""
REPLAYED = "replayed"
"""It came to where the machine was that was recorded, when somebody stopped that."""


@dataclass(frozen=True)
class Outcome:
    """How a machine ended: `kind` is "poweroff", "reset" (under no_reboot), "guest-error", "stopped" or "replayed"."""

    kind: str
    detail: str = ""
    dump: str = ""
