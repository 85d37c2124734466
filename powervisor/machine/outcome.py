"""How a machine ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How a machine ended: `kind` is "poweroff", "reset" (under no_reboot), "guest-error" or "stopped"."""

    kind: str
    detail: str = ""
    dump: str = ""
