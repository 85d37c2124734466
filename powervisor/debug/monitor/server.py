"""The monitor on a chardev: a thread that reads lines, executes them and shows the answers."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from ...analysis.symbols import Symbols
from ...console.chardev import BaseChardev
from ...console.prompt import Talk, open_prompt
from ...console.stdio import Side
from ...machine import Machine
from ..control import Control
from .machine import where
from .monitor import Monitor
from .python import PythonShell

PROMPT = "(powervisor) "
_PATIENCE = 5.0
"""Seconds that `close` waits for a command to end."""
BANNER = "powervisor monitor: help lists commands"


def _begin(port: BaseChardev) -> str:
    """To begin a line of our own, on a terminal where the guest may have left one open."""
    return "\n" if isinstance(port, Side) and port.typed else ""


class MonitorServer:
    """Serves `port`, which it starts; it is closed by whoever opened it, after this."""

    def __init__(self, machine: Machine, port: BaseChardev, symbols: Callable[[], Symbols] = Symbols) -> None:
        self._machine, self._port = machine, port
        self._side = port if isinstance(port, Side) else None
        self.prompt = open_prompt(port, f"{_begin(port)}{BANNER}\n")
        self._control = Control(machine, self._stopped, "the monitor")
        self._monitor = Monitor(self._control, self, symbols)
        self._talk = Talk("monitor", self._monitor.complete)
        self._closing = False
        self._in_python = self._python_wanted = False
        words = contextvars.copy_context()  # what options are called in messages
        self._thread = threading.Thread(target=words.run, args=(self._serve,), name="monitor", daemon=True)
        self._thread.start()
        port.start(lambda call: call())  # no lock: nothing but the prompt's queue is touched

    def close(self) -> None:
        """Stop serving; what the monitor held goes on."""
        self._closing = True
        self.prompt.close()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)
        self._control.close()

    def want_python(self) -> None:
        """Have a Python shell at the prompt, unless it is there (Ctrl-A p)."""
        if not self._in_python:
            self._python_wanted = True
            self.prompt.turn()

    def python(self, monitor: Monitor) -> None:
        """A Python shell until it is left, with the machine stopped; then it is as before."""
        held, stops = self._control.holding, self._machine.stops
        by_program = stops.by_program
        self._control.hold()
        self._in_python = True
        try:
            PythonShell(monitor, self.prompt).talk()
        finally:
            self._in_python = False
            stops.by_program = by_program  # `machine.run` and its like leave the machine held
            if not held:
                self._control.leave()

    def tell(self, line: str) -> None:
        """A line of a trace: above what is being typed, or when the monitor comes to the front again."""
        if self._side is None or self._side.front:
            self.prompt.announce(f"{line}\n")
        else:
            self.prompt.write(f"{line}\n")

    def _serve(self) -> None:
        try:
            self._talk_with()
        finally:
            self.prompt.release()

    def _talk_with(self) -> None:
        while not self._closing:
            line = self._line()
            if self._python_wanted:
                self._python_wanted, line = False, "python"
            if line is not None:
                self.prompt.write(self._monitor.execute(line))
            elif self._side is not None and not self._closing:
                self._side.bring(False)

    def _line(self) -> str | None:
        """The next line; None where the input ends."""
        try:
            return self.prompt.read(PROMPT, self._talk)
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    def _stopped(self) -> None:
        """On a vCPU's thread, or where the machine ended: tell where it stopped."""
        if self._machine.ended or (stop := self._control.stopped()) is None:
            return
        text = where(self._monitor, stop)
        self._monitor.vcpu = stop.vcpu
        if self._side is not None and not self._side.front:
            self._side.stdio.message(f"{text} (Ctrl-A c: monitor)")
        else:
            self.prompt.announce(f"{text}\n")
