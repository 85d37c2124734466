"""A client of the QMP server: what it may do, what it sends, what it is told."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import PowervisorError
from .command import COMMANDS, Command, Waiting
from .descriptors import Descriptors
from .errors import CommandNotFound, QmpError
from .types import check_members, plain
from .version import VERSION

if TYPE_CHECKING:
    from .manager import Manager

LINE_END = b"\r\n"
MOST_BYTES = 4 << 20
"""Of answers and events that a client has not read: then it is let go."""
MUCH_BYTES = 256 << 10
"""With so much unread its requests are not executed."""
_REQUEST = {"execute", "arguments", "id", "control"}
_FIXED = "disks, networks and devices are there from the start to the end; define the machine with them"
_OFFLINE = "what an image is made of is changed while the machine is off; see qemu-img"
MISSING = {
    "screendump": "the machine has no display",
    **dict.fromkeys(("blockdev-add", "blockdev-del", "device_add", "device_del", "netdev_add", "netdev_del"), _FIXED),
    **dict.fromkeys(("block-commit", "block-stream", "block_resize", "blockdev-create", "blockdev-mirror"), _OFFLINE),
}
"""Commands that clients of QEMU may expect, and why they cannot be had."""


class Session:
    """One client. Requests are handled on one thread; events come from any."""

    def __init__(self, manager: Manager, pretty: bool = False) -> None:
        self.manager = manager
        self.negotiated = False
        self.descriptors = Descriptors()
        self.after: list[Callable[[], None]] = []
        """Done when the answer to the command has been sent."""
        self._indent = 4 if pretty else None
        self._changed = threading.Condition()
        self._unread: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        manager.add(self)
        self._send({"QMP": {"version": plain(VERSION), "capabilities": []}})

    def close(self) -> None:
        """It has left, or is let go."""
        self.manager.remove(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def descriptor(self, name: str) -> int:
        """A descriptor of the client's by name, or one of ours by number; it is the taker's. Raises QmpError."""
        if name.isdecimal():
            try:
                return os.dup(int(name))
            except (OSError, OverflowError):
                raise QmpError(f"fd:{name}: no such descriptor") from None
        return self.descriptors.take(name)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def handle(self, message: dict[str, Any] | QmpError) -> None:
        """Execute a request and answer it."""
        echoed = {"id": message["id"]} if isinstance(message, dict) and "id" in message else {}
        try:
            if isinstance(message, QmpError):
                raise message
            command, arguments = self._command(message)
            with self.manager.turn:
                result = command(self, arguments)
            if isinstance(result, Waiting):
                result = result.result()
            answer = {"return": {} if result is None else plain(result)}
        except PowervisorError as error:
            name = error.error_class if isinstance(error, QmpError) else QmpError.error_class
            answer = {"error": {"class": name, "desc": str(error)}}
        except Exception as error:  # a mistake of ours must not take the machine with it
            logging.getLogger("powervisor").exception("QMP: %s", message)
            answer = {"error": {"class": QmpError.error_class, "desc": f"unexpected {type(error).__name__}: {error}"}}
        self._send(answer | echoed)
        while self.after:
            self.after.pop(0)()

    def _command(self, message: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
        """The command of a request and its arguments by their Python names. Raises QmpError."""
        if unknown := message.keys() - _REQUEST:
            raise QmpError(f"malformed request: {min(unknown)!r} is no member of a request")
        name = message.get("execute")
        if not isinstance(name, str):
            raise QmpError("malformed request: 'execute' with the name of a command is missing")
        command = COMMANDS.get(name)
        if not self.negotiated and (command is None or not command.early):
            raise CommandNotFound(f"{name}: not before qmp_capabilities")
        if command is None:
            why = MISSING.get(name, "query-commands lists what there is")
            raise CommandNotFound(f"{name}: there is no such command; {why}")
        if self.negotiated and command.early:
            raise CommandNotFound(f"{name}: capabilities have been negotiated already")
        return command, check_members(command.arguments, message.get("arguments", {}), name)

    # ---- what it is told ---------------------------------------------------------------------------------------------

    def tell(self, event: Any) -> None:
        """An event, if it has negotiated; never waits."""
        if self.negotiated:
            now = time.time_ns() // 1000
            stamp = {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}
            data = plain(event)
            self._send({"timestamp": stamp, "event": event.__qmp_event__} | ({"data": data} if data else {}))

    def _send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, indent=self._indent).encode() + LINE_END
        with self._changed:
            if not self._closed:
                self._unread.append(text)
                self._size += len(text)
                self._closed = self._size > MOST_BYTES
            self._changed.notify_all()

    def next(self) -> bytes | None:
        """What to send it now, waiting for that; None when it is to be let go."""
        with self._changed:
            self._changed.wait_for(lambda: self._unread or self._closed)
            return self._unread[0] if self._unread and self._size <= MOST_BYTES else None

    def sent(self) -> None:
        """What `next` answered has gone."""
        with self._changed:
            self._size -= len(self._unread.popleft())
            self._changed.notify_all()

    def wait_until_read(self, timeout: float | None = None, most: int = MUCH_BYTES) -> bool:
        """Wait until the client has read all but so much; False when it is to be let go."""
        with self._changed:
            self._changed.wait_for(lambda: self._size <= most or self._closed, timeout)
            return not self._closed
