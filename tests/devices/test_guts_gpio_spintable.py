"""Reset, power-off and the start of secondary cores."""

from powervisor.devices.spintable import MAP_SIZE

SPIN = 0xF_EF00_0000


def test_guts_reports_the_chip_and_resets_the_machine(bench):
    assert bench.read(0xE_00A0) == 0x8040_0020
    assert bench.read(0xE_00A4) == 0x8240_0020
    assert bench.read(0xE_0000) >> 1 & 0x1F == 6
    bench.write(0xE_00B0, 1)
    assert bench.events == []
    bench.write(0xE_00B0, bench.read(0xE_00B0) | 2)
    assert bench.events == ["reset"]


def test_gpio_line_0_high_as_output_powers_off(bench):
    bench.write(0xF_F008, 0x8000_0000)  # still an input
    assert bench.events == []
    bench.write(0xF_F000, 0x8000_0000)
    assert bench.events == ["poweroff"]


def test_gpio_other_lines_do_not_power_off(bench):
    bench.write(0xF_F000, 0xFFFF_FFFF)
    bench.write(0xF_F008, 0x7FFF_FFFF)
    assert bench.events == []
    assert bench.read(0xF_F008) == 0x7FFF_FFFF


def test_gpio_edges_are_latched_and_masked(bench):
    gpio, line = bench.device("gpio"), bench.irqchip.lines[47]
    gpio.drive(3, True)
    assert bench.read(0xF_F00C) == 0x1000_0000 and not line.level
    bench.write(0xF_F010, 0x1000_0000)
    assert line.level
    bench.write(0xF_F00C, 0x1000_0000)
    assert not line.level and bench.read(0xF_F008) == 0x1000_0000
    bench.write(0xF_F014, 0x1000_0000)  # falling edges only
    gpio.drive(3, False)
    bench.write(0xF_F00C, 0xFFFF_FFFF)
    gpio.drive(3, True)
    assert not line.level


def test_spin_table_shows_held_cores(bench):
    entry = SPIN + 2 * 0x20
    assert bench.space.read(entry, 8) == 1
    assert bench.space.read(entry + 8, 8) == 2
    assert bench.space.read(entry + 0x14, 4) == 2


def test_a_64_bit_address_starts_the_core_once(bench):
    entry = SPIN + 0x20
    bench.space.write(entry + 0x14, 4, 77)
    bench.space.write(entry + 8, 8, 0x1_0000_0005)
    assert bench.events == []
    bench.space.write(entry, 8, 0x1_2345_6780)
    address = 0x1_2345_6780
    expected = ("release", 1, address % MAP_SIZE, 0x1_0000_0005, address - address % MAP_SIZE)
    assert bench.events == [expected]
    assert bench.space.read(entry + 0x14, 4) == 1, "the core's own PIR is reported, not the one written"
    bench.space.write(entry, 8, 0x2000)
    assert bench.events == [expected]


def test_a_low_word_alone_starts_a_core_as_32_bit_linux_does(bench):
    bench.space.write(SPIN + 0x60 + 4, 4, 0x0000_0124)
    assert bench.events == [("release", 3, 0x124, 3, 0)]


def test_cpu_0_and_absent_cpus_are_never_started(bench):
    bench.space.write(SPIN, 8, 0)
    bench.space.write(SPIN + 4 * 0x20, 8, 0)
    assert bench.events == []


def test_a_core_that_was_reset_waits_again(bench):
    bench.space.write(SPIN + 0x24, 4, 0)
    bench.device("spin-table").hold(1)
    assert bench.space.read(SPIN + 0x24, 4) == 1
    bench.space.write(SPIN + 0x24, 4, 0x100)
    assert [event[2] for event in bench.events] == [0, 0x100]


def test_second_threads_are_not_in_the_spin_table(threaded_bench):
    bench = threaded_bench
    for cpu in range(4):
        bench.space.write(SPIN + cpu * 0x20, 8, 0x40)
    assert [event[1] for event in bench.events] == [2]
