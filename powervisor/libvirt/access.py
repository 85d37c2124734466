"""Who can read which file, told from owners and modes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .host import Account

_READ, _EXECUTE = 4, 1


def obstacle(path: Path, account: Account, execute: bool = False) -> str | None:
    """What keeps an account from reading a file, or a directory, and from running it; None where nothing does."""
    for one in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for directory in reversed(one.parents):
            if (found := _refusal(directory, account, _EXECUTE)) is not None:
                return found
    return _refusal(path, account, _READ | (_EXECUTE if execute or path.is_dir() else 0))


def become(account: Account | None) -> dict[str, Any]:
    """Keywords of Popen that run a program as an account, where we may; else as we are."""
    if account is None or os.getuid() != 0 or account.uid == 0:
        return {}
    return {"user": account.uid, "group": account.groups[0], "extra_groups": account.groups[1:]}


def _refusal(path: Path, account: Account, wanted: int) -> str | None:
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid in account.groups else 0
    if account.uid == 0 or (status.st_mode >> shift) & wanted == wanted:
        return None
    letters = "rx" if wanted == _READ | _EXECUTE else "r" if wanted == _READ else "x"
    who = {6: "u", 3: "g", 0: "o"}[shift]
    return f"{account.name} may not {'enter' if path.is_dir() else 'read'} {path} (chmod {who}+{letters} {path})"
