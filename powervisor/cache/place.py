"""Where the cache is.

Native code comes out of it: of directories that an administrator may have prepared, only those are taken that nobody
else can write to. The user's own is where the user says.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

SYSTEM = Path("/var/cache/powervisor")
"""What an administrator has prepared: images for everybody, and directories called by user IDs for users whose home
does not last, as of machines that libvirt starts."""


def root() -> Path:
    """$POWERVISOR_CACHE, else `powervisor` in the XDG cache directory, or the user's one in `SYSTEM` where only that is
    there."""
    if chosen := os.environ.get("POWERVISOR_CACHE"):
        return Path(chosen)
    own = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "powervisor"
    prepared = SYSTEM / str(os.getuid())
    return prepared if not own.is_dir() and _is_ours(prepared, (os.getuid(),)) else own


def directory(name: str = "") -> Path | None:
    """The cache or a directory in it, made when it is not there; None where there can be none."""
    path = root() / name
    try:
        root().mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
    except OSError:
        return None
    return path


def shared(name: str) -> Path | None:
    """A directory in `SYSTEM` to read from, if there is one that only the administrator and we can write to."""
    owners = (0, os.getuid())
    path = SYSTEM / name
    return path if _is_ours(SYSTEM, owners) and _is_ours(path, owners) else None


def _is_ours(path: Path, owners: tuple[int, ...]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid in owners and not others
