"""The 16550A serial port (National Semiconductor PC16550D), as the two DUART channels of QorIQ have it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol

from powervisor.devices.clock import Clock, Timer
from powervisor.devices.device import Device, TreeNode, state
from powervisor.devices.ns16550_native import DATA, KNOWN, ROOM, Transmitter, uart_take
from powervisor.devices.registers import Byte, Field, Reg, Register
from powervisor.native.locks import host_syscall

FIFO_DEPTH = 16
BACKLOG = 64 * 1024
"""Bytes of input held for the guest beyond its FIFO, so that pasted text is not lost."""

_TRIGGER = (1, 4, 8, 14)
_TIMEOUT_CHARACTERS = 4
_MAX_TIMEOUT_NS = 10_000_000  # of a guest that left the divisor at some absurd value
_POLLS = 16  # reads of LSR that make a guest without FIFO and interrupts one that polls for input


class Chardev(Protocol):
    """The host's side of a serial line."""

    def write(self, data: bytes) -> object:
        """Take what the guest sent."""


class Ier(Reg):
    """Interrupt enable."""

    width = 8
    receive, transmit, line_status, modem_status = Field(0), Field(1), Field(2), Field(3)


class Lcr(Reg):
    """Line control. The line format is stored, not simulated."""

    width = 8
    word_length, stop_bits, parity = Field(1, 0), Field(2), Field(5, 3)
    send_break, dlab = Field(6), Field(7)


class Mcr(Reg):
    """Modem control."""

    width = 8
    dtr, rts, out1, out2, loop = Field(0), Field(1), Field(2), Field(3), Field(4)


class Fcr(Reg):
    """FIFO control; the two reset bits are acted on, never stored."""

    width = 8
    enable, trigger = Field(0), Field(7, 6)


class Lsr(Reg):
    """Line status. The transmitter is always ready: the host takes a byte at once."""

    width = 8
    data_ready = Field(0, access="ro")
    overrun, parity_error, framing_error, break_received = (Field(bit, access="ro") for bit in (1, 2, 3, 4))
    transmit_empty = Field(6, 5, access="ro", reset=0b11)
    errors = 0x1E


class Msr(Reg):
    """Modem status: low half is what changed since the last read, high half the lines."""

    width = 8
    delta = Field(3, 0, access="ro")
    cts, dsr, ri = Field(4, access="ro", reset=1), Field(5, access="ro", reset=1), Field(6, access="ro")
    dcd = Field(7, access="ro", reset=1)
    connected = 0xB0


IIR_NONE, IIR_LINE, IIR_DATA, IIR_TIMEOUT, IIR_TRANSMIT, IIR_MODEM = 0x01, 0x06, 0x04, 0x0C, 0x02, 0x00


class Ns16550(Device):
    """One 16550A channel with byte registers at consecutive addresses.

    `chardev.write` gets what the guest sends; the host's input goes into `receive`. `clock_hz` is the
    input of the baud-rate divisor; it decides only how long a receive time-out lasts.

    No input is lost before the guest has read it: it waits in `backlog` until the guest listens, and goes back there
    when the guest sets the port up, empties the FIFO, enters loopback or resets, as if it had not arrived yet.
    """

    size = 0x100
    compatible = ("ns16550a", "ns16550")  # by the second alone Linux sends single bytes
    device_type = "serial"

    data = Register(0, Byte)
    ier = Register(1, Ier)
    iir = Register(2, Fcr)
    lcr = Register(3, Lcr)
    mcr = Register(4, Mcr)
    lsr = Register(5, Lsr)
    msr = Register(6, Msr)
    scratch = Register(7, Byte)

    divisor: int = state(int)
    fifo: bytearray = state(bytearray)
    looped: int = state(int)
    """How many bytes at the head of `fifo` are the guest's own, from loopback."""
    backlog: bytearray = state(bytearray, keep=True)
    polls: int = state(int)
    """Reads of LSR since the guest set the port up, while input waits and nothing else tells that it is wanted."""
    transmit_pending: bool = state(bool)
    timed_out: bool = state(bool)

    def __init__(self, name: str, clock: Clock, chardev: Chardev | None = None, clock_hz: int = 400_000_000) -> None:
        self.clock = clock
        self.clock_hz = clock_hz
        self.chardev = chardev
        self.on_room: Callable[[], None] | None = None
        """Called when input that `receive` refused would now be taken."""
        self._timer: Timer | None = None
        self._full = False
        self.transmitter = Transmitter.new()
        self.transmitter.syscall = host_syscall()
        """What native code does of the port; `drain` passes on what the guest sent that way."""
        self._take: Callable[..., int | None] = uart_take
        self._put: Callable[..., int | None] | None = None
        super().__init__(name)

    # -- the host's side

    def bind(self, take: Callable[..., int | None], put: Callable[..., int | None]) -> None:
        """From now on native code has its part; these are `uart_take` and `uart_write`, compiled."""
        self._take, self._put = take, put
        self._update()

    def drain(self) -> None:
        """Send on what has gathered in the transmitter."""
        if self.transmitter.count and self.chardev:
            sent = ctypes.create_string_buffer(ROOM)
            count = self._take(self.transmitter.address, ctypes.addressof(sent)) or 0
            self.counters.writes += count
            self.chardev.write(sent.raw[:count])

    @property
    def room(self) -> int:
        """How many bytes `receive` would take now."""
        return max(BACKLOG - len(self.backlog) + self._free(), 0)

    def receive(self, data: bytes) -> int:
        """Input from the host. Returns how many bytes were taken; offer the rest after `on_room`."""
        taken = data[: self.room]
        self.backlog += taken
        self._refill()
        self._full = len(taken) < len(data)
        return len(taken)

    def receive_break(self) -> None:
        """A break condition on the line: Linux takes it as the SysRq prefix."""
        self._arrive(0)
        self.lsr.break_received = 1
        self._update()

    # -- receiver

    def _depth(self) -> int:
        return FIFO_DEPTH if self.iir.enable else 1

    def _listening(self) -> bool:
        """Whether the guest has set the port up for input; before, its driver may discard what it finds."""
        return bool(self.ier.receive or self.iir.enable or self.polls >= _POLLS)

    def _counts_polls(self) -> bool:
        """Whether reading LSR has an effect beyond its errors."""
        return bool(self.backlog) and not self._listening()

    def _free(self) -> int:
        """Bytes of input that may go into the FIFO now."""
        if self.mcr.loop or not self._listening():
            return 0
        return max(self._depth() - len(self.fifo), 0)

    def _take_back(self) -> None:
        """Empty the FIFO; what came from the host waits again."""
        self.backlog[:0] = self.fifo[self.looped :]
        self.fifo.clear()
        self.looped = 0
        self.timed_out = False

    def _refill(self) -> None:
        """Move waiting input into the FIFO: the line is never faster than the guest."""
        n = self._free()
        if n > 0 and self.backlog:
            self.fifo += self.backlog[:n]
            del self.backlog[:n]
            self._restart_timeout()
            if self._full and self.on_room:
                self._full = False
                self.on_room()
        self._update()

    def _arrive(self, byte: int) -> None:
        if len(self.fifo) >= self._depth():
            self.lsr.overrun = 1
        else:
            self.fifo.append(byte)
            self.looped += self.mcr.loop
            self._restart_timeout()

    def _restart_timeout(self) -> None:
        """A FIFO below its trigger level interrupts only after four character times without traffic."""
        self.timed_out = False
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.iir.enable and 0 < len(self.fifo) < _TRIGGER[self.iir.trigger]:
            character = 10 * 16 * max(self.divisor, 1) * 1_000_000_000 // self.clock_hz
            wait = min(_TIMEOUT_CHARACTERS * character, _MAX_TIMEOUT_NS)
            self._timer = self.clock.call_at(self.clock.now_ns() + wait, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        self.timed_out = bool(self.fifo)
        self._update()

    # -- interrupts

    def _cause(self) -> int:
        """The interrupt identification, highest priority first (PC16550D, table 4)."""
        ier = self.ier
        if ier.line_status and self.lsr.value & Lsr.errors:
            return IIR_LINE
        if ier.receive and self.fifo:
            if not self.iir.enable or len(self.fifo) >= _TRIGGER[self.iir.trigger]:
                return IIR_DATA
            if self.timed_out:
                return IIR_TIMEOUT
        if ier.transmit and self.transmit_pending:
            return IIR_TRANSMIT
        if ier.modem_status and self.msr.delta:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        self.lsr.data_ready = bool(self.fifo)
        cause = self._cause()
        self.irq.set(cause != IIR_NONE)
        transmitter = self.transmitter
        transmitter.status = 0 if self.lsr.value & Lsr.errors or self._counts_polls() else self.lsr.value | KNOWN
        transmitter.cause = 0 if cause == IIR_TRANSMIT else self._identification(cause) | KNOWN
        transmitter.modem = 0 if self.msr.delta else self.msr.value | KNOWN
        interrupts = self.ier.transmit and not self.transmit_pending
        transmitter.open = not (interrupts or self.lcr.dlab or self.mcr.loop or self.chardev is None)

    def reset(self) -> None:
        """Return to the state after power-on; unread input waits for the guest that comes next."""
        self._take_back()
        super().reset()

    def _settle(self) -> None:
        timed_out = self.timed_out
        self._restart_timeout()
        self.timed_out = timed_out
        self._update()

    # -- registers

    @data.read
    def _read_data(self) -> int:
        if self.lcr.dlab:
            return self.divisor & 0xFF
        byte = self.fifo.pop(0) if self.fifo else 0
        self.looped = max(self.looped - 1, 0)
        self._restart_timeout()
        self._refill()
        self._update()
        return byte

    @data.write
    def _write_data(self, value: int) -> None:
        if self.lcr.dlab:
            self.divisor = self.divisor & 0xFF00 | value
            return
        self.transmit_pending = True
        if self.mcr.loop:
            self._arrive(value)
        self._update()
        if not self.mcr.loop:
            self._send(value)

    def _send(self, byte: int) -> None:
        """Let a byte gather with those that native code takes: to pass on one of 16 at once keeps the guest waiting."""
        if self._put and self._put(self.transmitter.address, DATA, byte):
            self.counters.writes -= 1  # it is counted when it is passed on
        elif self.chardev:
            self.drain()
            self.chardev.write(bytes((byte,)))

    @ier.read
    def _read_ier(self) -> int:
        return self.divisor >> 8 if self.lcr.dlab else self.ier.value

    @ier.write
    def _write_ier(self, value: int) -> None:
        if self.lcr.dlab:
            self.divisor = self.divisor & 0xFF | value << 8
            return
        was_on, received = self.ier.transmit, self.ier.receive
        self.ier.guest_write(value, 0xFF)
        if not (received or self.ier.receive or self.iir.enable):
            # A driver at work on its port: it discards what it finds before it wants input. One that has wanted it
            # may hold interrupts off while it reads.
            self.polls = 0
            self._take_back()
        # Enabling it with an empty transmitter must interrupt again: drivers start sending that way.
        if self.ier.transmit and not was_on:
            self.transmit_pending = True
        self._refill()

    @iir.read
    def _read_iir(self) -> int:
        cause = self._cause()
        if cause == IIR_TRANSMIT:
            self.transmit_pending = False
            self._update()
        return self._identification(cause)

    def _identification(self, cause: int) -> int:
        return cause | (0xC0 if self.iir.enable else 0)

    @iir.write
    def _write_fcr(self, value: int) -> None:
        enable = value & 1
        if value & 2 or enable != self.iir.enable:
            self._take_back()
        if value & 4:
            self.transmit_pending = True
        self.iir.guest_write(value if enable else 0, 0xFF)
        self.polls = 0
        self._restart_timeout()
        self._refill()

    @lsr.read
    def _read_lsr(self) -> int:
        if self._counts_polls():
            self.polls += 1
            self._refill()
        value = self.lsr.value
        if value & Lsr.errors:
            self.lsr.value &= ~Lsr.errors
            self._update()
        return value

    @lcr.written
    def _on_lcr(self, old: int, new: int) -> None:
        self._update()

    @mcr.written
    def _on_mcr(self, old: int, new: int) -> None:
        mcr = self.mcr
        if new & ~old & Mcr.loop.mask:
            self._take_back()
        lines = mcr.rts << 4 | mcr.dtr << 5 | mcr.out1 << 6 | mcr.out2 << 7 if mcr.loop else Msr.connected
        changed = (self.msr.value ^ lines) >> 4
        # RI counts only when it goes away.
        delta = changed & 0b1011 | (0b0100 if self.msr.ri and changed & 0b0100 else 0)
        self.msr.value = lines | self.msr.delta | delta
        self._refill()
        self._update()

    @msr.read
    def _read_msr(self) -> int:
        value = self.msr.value
        self.msr.delta = 0
        self._update()
        return value

    def fdt(self, node: TreeNode) -> None:
        """The input clock, from which guests compute their divisor."""
        node.set("clock-frequency", self.clock_hz)
