"""Chardevs that plugged devices talk to, by the names users give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from powervisor.errors import argument
from powervisor.properties import check_free, check_known

Dispatch = Callable[[Callable[[], None]], None]
"""Runs a function under the machine's lock."""


class Line(Protocol):
    """What a device uses of a chardev; powervisor.console.chardev says it all."""

    on_receive: Callable[[bytes], None] | None
    can_receive: Callable[[], int]
    on_room: Callable[[], None] | None
    on_connected: Callable[[bool], None] | None

    @property
    def connected(self) -> bool: ...

    def room(self) -> int: ...

    def start(self, dispatch: Dispatch) -> None: ...

    def write(self, data: bytes) -> None: ...


def _at_once(call: Callable[[], None]) -> None:
    call()


class Lines:
    """The chardevs `by_name`; each has one device."""

    def __init__(self, by_name: Mapping[str, Line] | None = None, dispatch: Dispatch = _at_once) -> None:
        self.by_name, self.dispatch = dict(by_name or {}), dispatch
        self._users: dict[str, str] = {}

    def claim(self, name: str, where: str) -> Line:
        """The chardev `name` for a device, which becomes its only user. Raises UserError, beginning with `where`."""
        check_known(self.by_name, "chardev", name, where, f"add {argument('chardevs')} pty,id={name}")
        check_free("chardev", name, where, self._users.get(name))
        self._users[name] = where
        return self.by_name[name]
