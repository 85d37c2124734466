"""Powervisor: KVM for embedded Power, in Python. `from powervisor import Machine` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boot.loader import LoaderDevice
    from .machine import HookError, Machine, NotReached, Outcome, Snapshot

__version__ = "0.1.0"
__all__ = ["HookError", "LoaderDevice", "Machine", "NotReached", "Outcome", "Snapshot", "__version__"]

_WHERE = {
    **dict.fromkeys(("HookError", "Machine", "NotReached", "Outcome", "Snapshot"), "machine"),
    "LoaderDevice": "boot.loader",
}


def __getattr__(name: str) -> Any:
    # Resolved when used: `import powervisor` and `powervisor --help` stay quick.
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
