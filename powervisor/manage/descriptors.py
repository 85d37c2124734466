"""File descriptors that clients hand over (SCM_RIGHTS): by name in a session, in numbered sets for all."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from dataclasses import dataclass

from .errors import QmpError

MOST_PENDING = 16
"""Descriptors that came and were not asked for yet."""
MOST_NAMED = 64
_SET = re.compile(r"/dev/fdset/(\d+)")


class Descriptors:
    """Those of one session. What is taken out is the taker's to close."""

    def __init__(self) -> None:
        self._pending: deque[int] = deque()
        self._named: dict[str, int] = {}

    def came(self, fds: list[int]) -> None:
        """These came with a message; the oldest are closed when nobody wants them."""
        self._pending += fds
        while len(self._pending) > MOST_PENDING:
            os.close(self._pending.popleft())

    def pending(self) -> int:
        """Take the first that came and was not asked for. Raises QmpError where there is none."""
        if not self._pending:
            raise QmpError("no file descriptor came with the command (SCM_RIGHTS, over a Unix socket)")
        return self._pending.popleft()

    def name(self, name: str) -> None:
        """Give the first pending one a name; one that has it is closed."""
        fd = self.pending()
        if name not in self._named and len(self._named) == MOST_NAMED:
            os.close(fd)
            raise QmpError(f"{MOST_NAMED} descriptors are enough; closefd those that are not needed")
        if (before := self._named.get(name)) is not None:
            os.close(before)
        self._named[name] = fd

    def take(self, name: str) -> int:
        """The one of this name, which is gone then. Raises QmpError."""
        if name not in self._named:
            raise QmpError(f"no file descriptor is called {name!r}; getfd gives it a name")
        return self._named.pop(name)

    def close(self) -> None:
        """The client has left."""
        for fd in (*self._pending, *self._named.values()):
            os.close(fd)
        self._pending.clear()
        self._named.clear()


@dataclass(frozen=True)
class Member:
    """A descriptor of a set."""

    fd: int
    opaque: str | None


class FdSets:
    """Sets of descriptors by number, for names like /dev/fdset/1."""

    def __init__(self) -> None:
        self.sets: dict[int, list[Member]] = {}

    def add(self, fd: int, number: int | None, opaque: str | None) -> int:
        """Put one into a set, by default a new one; answers the set's number."""
        if number is None:
            number = next(n for n in range(len(self.sets) + 1) if n not in self.sets)
        self.sets.setdefault(number, []).append(Member(fd, opaque))
        return number

    def remove(self, number: int, fd: int | None) -> None:
        """Close one of a set, or all. Raises QmpError."""
        found = [member for member in self.sets.get(number, ()) if fd in (None, member.fd)]
        if not found:
            raise QmpError(f"set {number} has no {'descriptor' if fd is None else f'descriptor {fd}'}")
        for member in found:
            os.close(member.fd)
            self.sets[number].remove(member)
        if not self.sets[number]:
            del self.sets[number]

    def open(self, path: str, flags: int) -> int | None:
        """A descriptor of the set that `path` names, for the taker; None for other paths. Raises QmpError."""
        if (match := _SET.fullmatch(path)) is None:
            return None
        for member in self.sets.get(int(match[1]), ()):
            with contextlib.suppress(OSError):
                if access(member.fd) in (flags & os.O_ACCMODE, os.O_RDWR):
                    return os.dup(member.fd)
        raise QmpError(f"{path}: the set has no descriptor that is open for this")

    def close(self) -> None:
        """Close all."""
        for number in list(self.sets):
            self.remove(number, None)


def access(fd: int) -> int:
    """How a descriptor was opened: os.O_RDONLY, O_WRONLY or O_RDWR. Raises OSError."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
