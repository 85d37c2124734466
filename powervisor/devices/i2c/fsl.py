"""The Freescale I2C controller ("fsl-i2c"), as bus master; byte registers four apart."""

from __future__ import annotations

from powervisor.devices.device import Device, TreeNode, state
from powervisor.devices.i2c.at24c import At24c
from powervisor.devices.i2c.bus import NOBODY, I2cBus
from powervisor.devices.registers import Byte, Field, Reg, Register


class Control(Reg):
    """I2CCR. A written `restart` acts at once and reads as 0."""

    width = 8
    enable, interrupt_enable, master, transmit = Field(7), Field(6), Field(5), Field(4)
    no_acknowledge, restart, broadcast = Field(3), Field(2, access="wo"), Field(0)


class Status(Reg):
    """I2CSR. Software clears `interrupt` and `lost` by writing 0; transfers complete at once."""

    width = 8
    complete = Field(7, access="ro", reset=1)
    addressed_as_target, busy, lost = Field(6, access="ro"), Field(5, access="ro"), Field(4, access="ro")
    broadcast, target_reads = Field(3, access="ro"), Field(2, access="ro")
    interrupt = Field(1, access="ro")
    not_acknowledged = Field(0, access="ro", reset=1)


IDLE, ADDRESS, SENDING, RECEIVING = range(4)


class FslI2c(Device):
    """The master of `bus`."""

    size = 0x100
    compatible = ("fsl-i2c",)
    device_type = "i2c"

    address = Register(0x00, Byte)
    divider = Register(0x04, Byte)
    control = Register(0x08, Control)
    status = Register(0x0C, Status)
    data = Register(0x10, Byte)
    filter = Register(0x14, Byte, reset=0x10)

    phase: int = state(int)
    addressed: int = state(lambda: NOBODY)

    def __init__(self, name: str, bus: I2cBus | None = None) -> None:
        self.bus = bus or I2cBus()
        self._cards: list[At24c] = []
        self._node: TreeNode | None = None
        super().__init__(name)

    def attach(self, card: At24c) -> None:
        """Put a device that was plugged in onto the bus. Raises ValueError when an address of it is taken."""
        for address, target in card.targets().items():
            self.bus.attach(address, target)
        self._cards.append(card)
        assert self._node is not None, "the board describes its bus before anything is plugged in"
        node = self._node.child(f"eeprom@{card.addresses[0]:x}")
        node.set("reg", card.addresses[0])
        card.fdt(node)

    def parts(self) -> list[Device]:
        """What was plugged in."""
        return list(self._cards)

    def fdt(self, node: TreeNode) -> None:
        """What is attached from now on describes itself below `node`."""
        self._node = node

    def _settle(self) -> None:
        self.bus.addressed = self.addressed
        self._update()

    def _update(self) -> None:
        self.irq.set(bool(self.control.interrupt_enable and self.status.interrupt))

    def _done(self, acknowledged: bool) -> None:
        self.status.not_acknowledged = not acknowledged
        self.status.interrupt = 1
        self.addressed = self.bus.addressed
        self._update()

    def _stop(self) -> None:
        self.bus.stop()
        self.addressed, self.phase = NOBODY, IDLE
        self.status.busy = 0

    @control.written
    def _on_control(self, old: int, new: int) -> None:
        control, was_master = self.control, Control(old).master
        restart, control.restart = control.restart, 0
        if not control.enable:
            self._stop()
            control.value = 0
            self.status.value = Status.reset_value
        elif control.master and (restart or not was_master):
            self.phase, self.status.busy = ADDRESS, 1
        elif was_master and not control.master:
            self._stop()
        self._update()

    @status.write
    def _write_status(self, value: int) -> None:
        written = Status(value)
        self.status.interrupt &= written.interrupt
        self.status.lost &= written.lost
        self._update()

    @data.write
    def _write_data(self, value: int) -> None:
        self.data.value = value
        if self.phase == ADDRESS:
            read = value & 1
            found = self.bus.start(value >> 1, bool(read))
            self.phase = RECEIVING if read else SENDING
            self._done(found)
        elif self.phase == SENDING and self.control.transmit:
            self._done(self.bus.write(value))

    @data.read
    def _read_data(self) -> int:
        """The byte received last. As a receiving master this asks for the next one, so the first read is a dummy."""
        value = self.data.value
        if self.phase == RECEIVING and self.control.master and not self.control.transmit:
            self.data.value = self.bus.read()
            self._done(not self.control.no_acknowledge)
        return value
