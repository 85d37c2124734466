"""The monitor of `powervisor run`: on the terminal behind Ctrl-A c, or where -monitor says."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from powervisor.console import open_chardev
from powervisor.console.chardev import BaseChardev
from powervisor.console.stdio import Command, Side, Stdio
from powervisor.errors import UserError

if TYPE_CHECKING:
    from powervisor import Machine
    from powervisor.analysis.symbols import Symbols
    from powervisor.debug.monitor.server import MonitorServer

OPTION = "-monitor"
HELP = (
    "the monitor: stdio (in front of the console), pty, unix:F,server=on, tcp:HOST:PORT,server=on, chardev:ID, none; "
    "else Ctrl-A c"
)
_TERMINAL = ("stdio", "mon:stdio")
_ONE_WAY = ("file", "null")


def open_port(
    spec: str | None, named: dict[str, BaseChardev], opened: Callable[[BaseChardev, str], None]
) -> BaseChardev | None:
    """The chardev of -monitor, None for the terminal and none. One of -chardev is taken out of `named`."""
    if spec in (None, "none", *_TERMINAL):
        return None
    kind, _, name = spec.partition(":")
    if kind in ("stdio", "none"):
        raise UserError(f"{OPTION} {spec}: '{kind}' takes nothing more; write {OPTION} {kind}")
    if kind in _ONE_WAY:
        raise UserError(f"{OPTION} {spec}: no lines come from there; write stdio, pty, unix:, tcp: or none")
    if kind == "chardev":
        if name not in named:
            raise UserError(f"{OPTION} {spec}: no such chardev is left; there is {', '.join(named) or 'none'}")
        return named.pop(name)
    port = open_chardev(spec, OPTION)
    opened(port, f"{OPTION} {spec}")
    return port


def share(stdio: Stdio | None, spec: str | None) -> Side | None:
    """The monitor's side of the terminal, in front if -monitor says so; None when it is to have none."""
    if stdio is None or spec not in (None, *_TERMINAL):
        return None
    side = stdio.share()
    side.bring(spec is not None)
    return side


class RunMonitor:
    """The monitor of a machine at `port`; on the terminal it is made when it comes to the front."""

    def __init__(self, machine: Machine, port: BaseChardev | None, symbols: Callable[[], Symbols]) -> None:
        self._machine, self._symbols = machine, symbols
        self._words = contextvars.copy_context()  # what options are called in messages
        self._server: MonitorServer | None = None
        self._closed = False
        self._lock = threading.Lock()
        if isinstance(port, Side):
            port.stdio.commands["c"] = Command("change between console and monitor", partial(self._change, port))
            port.stdio.commands["p"] = Command("talk Python, with the machine stopped", partial(self._python, port))
        if port is not None and not (isinstance(port, Side) and not port.front):
            self._serve(port)

    def close(self) -> None:
        """End it, before the machine."""
        with self._lock:
            self._closed, server = True, self._server
        if server is not None:
            server.close()

    def _serve(self, port: BaseChardev) -> MonitorServer | None:
        from powervisor.debug.monitor.server import MonitorServer

        with self._lock:
            if self._server is None and not self._closed:
                self._server = self._words.run(MonitorServer, self._machine, port, self._symbols)
            return None if self._closed else self._server

    def _change(self, side: Side) -> None:
        side.bring(not side.front)
        self._serve(side)

    def _python(self, side: Side) -> None:
        side.bring(True)
        if (server := self._serve(side)) is not None:
            server.want_python()
