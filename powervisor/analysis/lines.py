"""Interrupts that devices raise, as they happen."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..devices.irq import IrqOutput
from ..machine import Machine

Changed = Callable[[int, str, str, bool], None]
"""When (the host's CLOCK_MONOTONIC in ns), device, pin, level."""


class LineWatch:
    """Tells of each change of a device's pins, and of messages as of two, until `close`; on any thread."""

    def __init__(self, machine: Machine, changed: Changed) -> None:
        self._machine = machine
        self._watched: list[tuple[IrqOutput, Callable[[bool], None]]] = []
        with machine.lock:
            for device in machine.built.everything():
                for pin, output in device.irqs().items():
                    self._watch(output, device.name, pin, changed)

    def _watch(self, output: IrqOutput, device: str, pin: str, changed: Changed) -> None:
        def told(level: bool) -> None:
            changed(time.monotonic_ns(), device, pin, level)

        output.watchers += (told,)
        self._watched.append((output, told))

    def close(self) -> None:
        """Tell nobody any more."""
        with self._machine.lock:
            for output, told in self._watched:
                output.watchers = tuple(other for other in output.watchers if other is not told)
        self._watched = []
