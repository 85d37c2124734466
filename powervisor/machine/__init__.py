"""Machine: the one public object behind the command line, the API and the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..boot.loader import LoaderDevice
    from .cpu import Cpu
    from .hooks import Hook, HookError
    from .machine import Machine
    from .outcome import Outcome
    from .snapshot import Snapshot
    from .until import NotReached

__all__ = ["Cpu", "Hook", "HookError", "LoaderDevice", "Machine", "NotReached", "Outcome", "Snapshot"]

_WHERE = {
    "Cpu": ".cpu", "Hook": ".hooks", "HookError": ".hooks", "LoaderDevice": "..boot.loader", "Machine": ".machine",
    "NotReached": ".until", "Outcome": ".outcome", "Snapshot": ".snapshot",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # Resolved when used: who wants to know what there could be needs no machine.
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
