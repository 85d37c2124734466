"""The QorIQ general-purpose I/O block: 32 lines; 0 switches the board off, to 1 the power button is connected."""

from __future__ import annotations

from collections.abc import Callable

from powervisor.devices.device import Device, TreeNode, state
from powervisor.devices.registers import Field, Reg, Register, Word

POWER_OFF_LINE, POWER_BUTTON_LINE = 0, 1


def line_mask(line: int) -> int:
    """The register bit of `line`: line 0 is the most significant."""
    return 0x8000_0000 >> line


class Events(Reg):
    """One bit per line, set by a selected edge, cleared by writing 1."""

    bits = Field(31, 0, "w1c")


class Gpio(Device):
    """Drives `on_poweroff()` when the guest makes line 0 an output and sets it high."""

    compatible = ("fsl,qoriq-gpio",)

    direction = Register(0x00, Word)
    open_drain = Register(0x04, Word)
    data = Register(0x08, Word)
    event = Register(0x0C, Events)
    mask = Register(0x10, Word)
    falling_only = Register(0x14, Word)
    input_buffer = Register(0x18, Word)

    inputs: int = state(int)

    def __init__(self, name: str, on_poweroff: Callable[[], None]) -> None:
        self.on_poweroff = on_poweroff
        super().__init__(name)

    def drive(self, line: int, level: bool) -> None:
        """Set input `line` from outside; a selected edge becomes an event."""
        bit = line_mask(line)
        was = bool(self.inputs & bit)
        self.inputs = self.inputs | bit if level else self.inputs & ~bit
        falling_only = bool(self.falling_only.value & bit)
        if was != level and not (level and falling_only) and not self.direction.value & bit:
            self.event.value |= bit
        self._settle()

    def listened_to(self, line: int) -> bool:
        """Whether a driver has an input interrupt it."""
        return bool(self.mask.value & ~self.direction.value & line_mask(line))

    def level(self, line: int) -> bool:
        """The level of `line` as an output of the board."""
        return bool(self.data.value & self.direction.value & line_mask(line))

    def _settle(self) -> None:
        self.irq.set(bool(self.event.value & self.mask.value))

    @data.read
    def _read_data(self) -> int:
        out = self.direction.value
        return self.data.value & out | self.inputs & ~out

    @data.written
    @direction.written
    def _on_output(self, old: int, new: int) -> None:
        if self.level(POWER_OFF_LINE):
            self.on_poweroff()

    @event.written
    @mask.written
    def _on_event(self, old: int, new: int) -> None:
        self._settle()

    def fdt(self, node: TreeNode) -> None:
        """A GPIO controller with two-cell references: line, flags."""
        node.set("#gpio-cells", 2)
        node.set("gpio-controller")
