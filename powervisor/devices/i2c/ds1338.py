"""The DS1338 real-time clock: seven BCD time registers, a control register, 56 bytes of battery RAM."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from powervisor.devices.device import Device, state

REGISTERS = 64
_SECONDS, _MINUTES, _HOURS, _DAY, _DATE, _MONTH, _YEAR, _CONTROL = range(8)
_HALT = 0x80  # in the seconds register
_HOURS_12, _PM = 0x40, 0x20


def to_bcd(value: int) -> int:
    """A number below 100 as two decimal digits."""
    return value // 10 << 4 | value % 10


def from_bcd(value: int) -> int:
    """The number two decimal digits stand for."""
    return (value >> 4) * 10 + (value & 0xF)


class Ds1338(Device):
    """Runs on `wall_clock` (seconds since 1970, UTC) plus an offset the guest changes by setting the time.

    Time, offset and RAM are battery-backed: they survive a reset of the machine.
    """

    size = 0
    compatible = ("pericom,pt7c4338",)

    offset: int = state(int, keep=True)
    halted_at: int = state(lambda: -1, keep=True)
    """The time at which the guest stopped the oscillator, or -1."""
    twelve_hours: bool = state(bool, keep=True)
    day_offset: int = state(int, keep=True)
    control: int = state(int, keep=True)
    memory: bytearray = state(lambda: bytearray(REGISTERS - _CONTROL - 1), keep=True)
    pointer: int = state(int)
    latched: bytearray = state(lambda: bytearray(_CONTROL))
    pointer_next: bool = state(bool)
    time_written: bool = state(bool)

    def __init__(self, name: str, wall_clock: Callable[[], float] = time.time) -> None:
        self.wall_clock = wall_clock
        super().__init__(name)

    def now(self) -> datetime:
        """The clock's time."""
        seconds = self.halted_at if self.halted_at >= 0 else int(self.wall_clock()) + self.offset
        return datetime.fromtimestamp(seconds, UTC)

    def set_time(self, when: datetime) -> None:
        """Set the clock (UTC)."""
        seconds = int(when.timestamp())
        self.offset = seconds - int(self.wall_clock())
        if self.halted_at >= 0:
            self.halted_at = seconds

    # -- the bus

    def start(self, read: bool) -> None:
        """Time registers hold still during a transfer."""
        self._finish()
        self.pointer_next = not read
        now = self.now()
        hours = to_bcd(now.hour)
        if self.twelve_hours:
            hours = _HOURS_12 | (_PM if now.hour >= 12 else 0) | to_bcd(now.hour % 12 or 12)
        day = (now.isoweekday() + self.day_offset) % 7 + 1
        halt = _HALT if self.halted_at >= 0 else 0
        fields = (halt | to_bcd(now.second), to_bcd(now.minute), hours, day)
        self.latched = bytearray((*fields, to_bcd(now.day), to_bcd(now.month), to_bcd(now.year % 100)))

    def receive(self, byte: int) -> bool:
        """First the register number, then values for consecutive registers."""
        if self.pointer_next:
            self.pointer, self.pointer_next = byte % REGISTERS, False
            return True
        if self.pointer < _CONTROL:
            self.latched[self.pointer] = byte
            self.time_written = True
        elif self.pointer == _CONTROL:
            self.control = byte & 0xB3
        else:
            self.memory[self.pointer - _CONTROL - 1] = byte
        self.pointer = (self.pointer + 1) % REGISTERS
        return True

    def send(self) -> int:
        """The register at the pointer, which moves on."""
        at = self.pointer
        self.pointer = (at + 1) % REGISTERS
        if at < _CONTROL:
            return self.latched[at]
        return self.control if at == _CONTROL else self.memory[at - _CONTROL - 1]

    def stop(self) -> None:
        """A written time takes effect."""
        self._finish()

    def _finish(self) -> None:
        if not self.time_written:
            return
        self.time_written = False
        fields = self.latched
        hours = fields[_HOURS]
        self.twelve_hours = bool(hours & _HOURS_12)
        if self.twelve_hours:
            hour = from_bcd(hours & 0x1F) % 12 + (12 if hours & _PM else 0)
        else:
            hour = from_bcd(hours & 0x3F)
        month = min(max(from_bcd(fields[_MONTH] & 0x1F), 1), 12)
        # Counted from the first of the month: digits that make no date must not stop the clock.
        when = datetime(2000 + from_bcd(fields[_YEAR]) % 100, month, 1, tzinfo=UTC) + timedelta(
            days=max(from_bcd(fields[_DATE] & 0x3F), 1) - 1,
            hours=hour,
            minutes=from_bcd(fields[_MINUTES] & 0x7F),
            seconds=from_bcd(fields[_SECONDS] & 0x7F),
        )
        self.halted_at = int(when.timestamp()) if fields[_SECONDS] & _HALT else -1
        self.set_time(when)
        self.day_offset = (fields[_DAY] - 1 - when.isoweekday()) % 7
