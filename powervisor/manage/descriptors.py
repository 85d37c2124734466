"""File descriptors that a client hands over (SCM_RIGHTS), by name; for those in sets see `fdsets`."""

from __future__ import annotations

import os
from collections import deque

from .errors import QmpError

MOST_PENDING = 16
"""Descriptors that came and were not asked for yet."""
MOST_NAMED = 64


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
