"""Interrupt lines between devices and the interrupt controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class IrqLine(Protocol):
    """One input of an interrupt controller."""

    def set(self, level: bool) -> None:
        """Drive the input; True is asserted, whatever the electrical polarity."""


class NoIrq:
    """A line that leads nowhere."""

    def set(self, level: bool) -> None:
        """Accept and forget `level`."""


class IrqOutput:
    """A device's interrupt pin: remembers its level and tells the line only of changes."""

    def __init__(self) -> None:
        self.line: IrqLine = NoIrq()
        self.level = False
        self.raised = 0
        """How often the pin went from inactive to active."""
        self.watchers: tuple[Callable[[bool], None], ...] = ()
        """Told of each change, and of a message sent in the pin's place as of two."""

    def connect(self, line: IrqLine) -> None:
        """Lead this pin to `line`, which hears the present level at once."""
        self.line = line
        line.set(self.level)

    def set(self, level: bool) -> None:
        """Drive the pin."""
        if level == self.level:
            return
        self.level = level
        self.raised += level
        self.line.set(level)
        for watcher in self.watchers:
            watcher(level)

    def message_sent(self) -> None:
        """The device interrupted by a message."""
        for watcher in self.watchers:
            watcher(True)
            watcher(False)

    def tell(self) -> None:
        """Tell the line the level once more."""
        self.line.set(self.level)


class OrGate:
    """One controller input shared by several pins: asserted while any of them is."""

    def __init__(self, line: IrqLine) -> None:
        self.line = line
        self._levels: list[bool] = []

    def input(self) -> IrqLine:
        """A new input of the gate, inactive."""
        self._levels.append(False)
        return _GateInput(self, len(self._levels) - 1)

    def drive(self, index: int, level: bool) -> None:
        """Set input `index` and pass the sum on when it changed."""
        before = any(self._levels)
        self._levels[index] = level
        if (after := any(self._levels)) != before:
            self.line.set(after)


def controller_input(line: IrqLine) -> IrqLine:
    """The interrupt controller's input that a line or a pin leads to in the end."""
    while isinstance(line, _GateInput | IrqOutput):
        line = line.line
    return line


class _GateInput:
    def __init__(self, gate: OrGate, index: int) -> None:
        self._gate, self._index = gate, index

    @property
    def line(self) -> IrqLine:
        """Where the gate leads."""
        return self._gate.line

    def set(self, level: bool) -> None:
        self._gate.drive(self._index, level)
