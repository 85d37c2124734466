"""The I2C controller driven step by step as U-Boot and Linux drive it, and the clock chip behind it."""

from datetime import UTC, datetime

import pytest

CR, SR, DR = 0x3008, 0x300C, 0x3010
MEN, MIEN, MSTA, MTX, TXAK, RSTA = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04
MCF, MBB, MIF, RXAK = 0x80, 0x20, 0x02, 0x01
RTC = 0x68


class Master:
    """A polling driver."""

    def __init__(self, bench):
        self.read8 = lambda offset: bench.read(offset, 1)
        self.write8 = lambda offset, value: bench.write(offset, value, 1)

    def wait(self):
        status = self.read8(SR)
        assert status & (MCF | MIF) == MCF | MIF
        self.write8(SR, 0)
        assert not self.read8(SR) & MIF
        return not status & RXAK

    def address(self, address, read, restart=False):
        self.write8(CR, MEN | MSTA | MTX | (RSTA if restart else 0))
        self.write8(DR, address << 1 | read)
        return self.wait()

    def send(self, data):
        for byte in data:
            self.write8(DR, byte)
            assert self.wait()

    def receive(self, n):
        self.write8(CR, MEN | MSTA | (TXAK if n == 1 else 0))
        self.read8(DR)
        out = []
        for i in range(n):
            self.wait()
            if i == n - 2:
                self.write8(CR, MEN | MSTA | TXAK)
            if i == n - 1:
                self.write8(CR, MEN | MSTA | MTX)
            out.append(self.read8(DR))
        return bytes(out)

    def stop(self):
        self.write8(CR, MEN)
        assert not self.read8(SR) & MBB

    def write_registers(self, register, data):
        assert self.address(RTC, False)
        self.send(bytes([register]) + data)
        self.stop()

    def read_registers(self, register, n):
        assert self.address(RTC, False)
        self.send(bytes([register]))
        assert self.address(RTC, True, restart=True)
        out = self.receive(n)
        self.stop()
        return out


@pytest.fixture
def master(bench):
    return Master(bench)


def test_clock_is_read_in_bcd(master, bench):
    when = datetime.fromtimestamp(1_750_000_000, UTC)
    assert master.read_registers(0, 7) == bytes.fromhex(when.strftime("%S%M%H") + "01" + when.strftime("%d%m%y"))


def test_time_set_by_the_guest_runs_on(master, bench):
    master.write_registers(0, bytes.fromhex("50 59 23 03 31 12 29"))
    assert bench.device("rtc").now() == datetime(2029, 12, 31, 23, 59, 50, tzinfo=UTC)
    bench.clock.advance(15_000_000_000)
    assert master.read_registers(0, 7) == bytes.fromhex("05 00 00 04 01 01 30")


def test_twelve_hour_mode(master):
    master.write_registers(0, bytes.fromhex("00 15 52 01 01 06 25"))  # 12:15 am
    assert master.read_registers(2, 1) == b"\x52"
    master.write_registers(2, b"\x71")  # 11 pm
    assert master.read_registers(2, 1) == b"\x71"


def test_halted_oscillator_stands_still(master, bench):
    master.write_registers(0, bytes.fromhex("b0 00 12 01 01 06 25"))
    bench.clock.advance(5_000_000_000)
    assert master.read_registers(0, 1) == b"\xb0"
    master.write_registers(0, b"\x30")
    bench.clock.advance(5_000_000_000)
    assert master.read_registers(0, 1) == b"\x35"


def test_digits_that_make_no_date_do_not_stop_the_clock(master):
    master.write_registers(0, b"\xff" * 7)
    master.write_registers(0, b"\x7f\x00\x00\x00\x00\x00\x00")
    assert len(master.read_registers(0, 7)) == 7


def test_battery_ram_survives_reset(master, bench):
    master.write_registers(8, b"precious")
    bench.device("rtc").reset()
    assert master.read_registers(8, 8) == b"precious"


def test_nobody_acknowledges_an_empty_address(master):
    assert not master.address(0x50, False)
    master.stop()
    assert master.address(RTC, False)


def test_transfers_interrupt_when_enabled(bench):
    line = bench.irqchip.lines[43]
    bench.write(CR, MEN | MIEN | MSTA | MTX, 1)
    assert not line.level and bench.read(SR, 1) & MBB
    bench.write(DR, RTC << 1, 1)
    assert line.level
    bench.write(SR, 0, 1)
    assert not line.level


def test_reading_while_idle_asks_for_nothing(bench):
    bench.write(CR, MEN, 1)
    bench.read(DR, 1)
    assert not bench.read(SR, 1) & MIF
