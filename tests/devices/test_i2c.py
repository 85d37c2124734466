"""The I2C controller driven step by step as U-Boot and Linux drive it, and the clock chip behind it."""

from datetime import UTC, datetime

import pytest

from tests.support.i2c_master import CR, DR, MBB, MEN, MIEN, MIF, MSTA, MTX, SR, Master

RTC = 0x68


@pytest.fixture
def master(bench):
    return Master(bench, RTC)


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
