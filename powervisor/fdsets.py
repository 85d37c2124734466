"""Sets of open file descriptors that other programs hand over; the path /dev/fdset/N names one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from powervisor.errors import UserError

FDSETS = "/dev/fdset/"
_SET = re.compile(rf"{FDSETS}(\d+)")


def access(fd: int) -> int:
    """How a descriptor was opened: os.O_RDONLY, O_WRONLY or O_RDWR. Raises OSError."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE


@dataclass(frozen=True)
class Member:
    """A descriptor of a set."""

    fd: int
    opaque: str | None


class FdSets:
    """The sets of one program; what is in them is theirs to close."""

    def __init__(self) -> None:
        self.sets: dict[int, list[Member]] = {}

    def add(self, fd: int, number: int | None, opaque: str | None) -> int:
        """Put one into a set, by default a new one; answers the set's number."""
        if number is None:
            number = next(n for n in range(len(self.sets) + 1) if n not in self.sets)
        self.sets.setdefault(number, []).append(Member(fd, opaque))
        return number

    def remove(self, number: int, fd: int | None) -> None:
        """Close one of a set, or all. Raises UserError."""
        found = [member for member in self.sets.get(number, ()) if fd in (None, member.fd)]
        if not found:
            raise UserError(f"set {number} has no {'descriptor' if fd is None else f'descriptor {fd}'}")
        for member in found:
            os.close(member.fd)
            self.sets[number].remove(member)
        if not self.sets[number]:
            del self.sets[number]

    def open(self, path: str, flags: int) -> int | None:
        """A descriptor of the set that `path` names, for the taker; None for other paths. Raises UserError."""
        if (match := _SET.fullmatch(path)) is None:
            return None
        for member in self.sets.get(int(match[1]), ()):
            with contextlib.suppress(OSError):
                if access(member.fd) in (flags & os.O_ACCMODE, os.O_RDWR):
                    return os.dup(member.fd)
        raise UserError(f"{path}: the set has no descriptor that is open for this")

    def close(self) -> None:
        """Close all."""
        for number in list(self.sets):
            self.remove(number, None)


_NONE = FdSets()
_SETS: ContextVar[FdSets] = ContextVar("sets", default=_NONE)


@contextlib.contextmanager
def opened_from(sets: FdSets) -> Iterator[None]:
    """Let `open_path` find these sets."""
    token = _SETS.set(sets)
    try:
        yield
    finally:
        _SETS.reset(token)


def open_path(path: str, flags: int, mode: int = 0o666) -> int:
    """os.open, for files of the host and for descriptors of a set. Raises OSError, and UserError for a set."""
    fd = _SETS.get().open(path, flags)
    return os.open(path, flags | os.O_CLOEXEC, mode) if fd is None else fd
