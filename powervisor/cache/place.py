"""Where the cache is."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """$POWERVISOR_CACHE, else `powervisor` in the XDG cache directory."""
    if chosen := os.environ.get("POWERVISOR_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "powervisor"


def directory(name: str = "") -> Path | None:
    """The cache or a directory in it, made when it is not there; None where there can be none."""
    path = root() / name
    try:
        root().mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
    except OSError:
        return None
    return path
