"""The serial port as Linux's 8250 driver and U-Boot use it."""

import pytest

BASE = 0x4500
RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
NO_INTERRUPT, THRE, DATA, TIMEOUT, LINE = 0x1, 0x2, 0x4, 0xC, 0x6


class Uart:
    def __init__(self, bench, base=BASE, index=0):
        self.bench, self.base, self.host = bench, base, bench.hosts[index]
        self.device = bench.device(f"serial{index}")

    def __getitem__(self, register):
        return self.bench.read(self.base + register, 1)

    def __setitem__(self, register, value):
        self.bench.write(self.base + register, value, 1)

    @property
    def irq(self):
        return self.bench.irqchip.lines[42].level


@pytest.fixture
def uart(bench):
    return Uart(bench)


def test_sent_bytes_reach_the_host_at_once_and_the_transmitter_stays_ready(uart):
    for byte in b"Hello":
        assert uart[LSR] & 0x60 == 0x60
        uart[RBR] = byte
    assert uart.host.text == b"Hello"


def test_enabling_the_transmit_interrupt_with_an_empty_transmitter_interrupts_each_time(uart):
    """Linux's test for ports that lose this interrupt (UART_BUG_THRE) and its way to start sending."""
    for _ in range(2):
        uart[IER] = 2
        assert uart.irq and uart[IIR] & 0xF == THRE
        assert not uart.irq and uart[IIR] & 0xF == NO_INTERRUPT
        uart[IER] = 0
    uart[IER] = 2
    uart[IIR]
    uart[RBR] = 0x41
    assert uart.irq and uart[IIR] & 0xF == THRE


def test_linux_recognises_a_16550a(uart):
    uart[IER] = 0
    assert uart[IER] == 0
    uart[IER] = 0xFF
    assert uart[IER] == 0x0F
    uart[IER] = 0
    uart[IIR] = 1  # FIFO on
    assert uart[IIR] >> 6 == 3
    uart[LCR] = 0xBF  # a 16650 would show its EFR as 0 here
    assert uart[IIR] != 0
    uart[LCR] = 0
    uart[SCR] = 0xA5
    assert uart[SCR] == 0xA5


def test_divisor_is_behind_dlab(uart):
    uart[LCR] = 0x83
    uart[RBR], uart[IER] = 0xD9, 0x01
    assert (uart[RBR], uart[IER]) == (0xD9, 0x01)
    uart[LCR] = 0x03
    assert uart.host.text == b"" and uart[IER] == 0
    assert uart.device.divisor == 0x1D9


def test_without_fifo_each_byte_interrupts(uart):
    uart[IER] = 1
    assert uart.device.receive(b"ab") == 2
    assert uart.irq and uart[IIR] == DATA
    assert uart[RBR] == ord("a") and uart.irq
    assert uart[RBR] == ord("b") and not uart.irq


def test_fifo_interrupts_at_its_trigger_level(uart):
    uart[IIR] = 0x81  # eight bytes
    uart[IER] = 1
    uart.device.receive(b"1234567")
    assert not uart.irq and uart[LSR] & 1
    uart.device.receive(b"8")
    assert uart.irq and uart[IIR] & 0xF == DATA
    uart[RBR]
    assert not uart.irq


def test_fifo_below_its_trigger_times_out_after_four_characters(uart, bench):
    uart[LCR] = 0x80
    uart[RBR], uart[IER] = 217, 0  # 115200 at 400 MHz
    uart[LCR] = 3
    uart[IIR] = 0x81
    uart[IER] = 1
    uart.device.receive(b"x")
    bench.clock.advance(300_000)
    assert not uart.irq
    bench.clock.advance(60_000)
    assert uart.irq and uart[IIR] & 0xF == TIMEOUT
    assert uart[RBR] == ord("x") and not uart.irq and uart[IIR] & 0xF == NO_INTERRUPT


def test_input_beyond_the_fifo_waits_and_is_not_lost(uart):
    uart[IIR] = 1
    text = bytes(range(256)) * 4
    assert uart.device.receive(text) == len(text)
    assert read_all(uart) == text and not uart[LSR] & 2


def test_full_port_refuses_input_and_tells_when_there_is_room(uart):
    told = []
    uart.device.on_room = lambda: told.append(True)
    flood = b"z" * 100_000
    uart[IER] = 1
    taken = uart.device.receive(flood)
    assert 0 < taken < len(flood)
    assert uart.device.receive(b"more") == 0
    uart[RBR]
    uart[RBR]
    assert told == [True]
    assert uart.device.receive(b"more") > 0


def read_all(uart):
    out = bytearray()
    while uart[LSR] & 1:
        out.append(uart[RBR])
    return bytes(out)


@pytest.mark.parametrize("fcr", [3, 0, 7, 0x81])
def test_emptying_the_fifo_loses_nothing_the_host_typed(uart, fcr):
    uart[IIR] = 1
    uart.device.receive(b"poweroff, after more than a FIFO")
    assert uart[RBR] == ord("p")
    uart[IIR] = fcr
    uart[IIR] = 1
    assert read_all(uart) == b"oweroff, after more than a FIFO"


def test_input_from_before_the_driver_survives_its_start(uart):
    """Linux's serial8250_do_startup: FIFOs cleared and off, then reads that discard what they find."""
    uart.device.receive(b"typed early")
    for _ in range(2):
        for fcr in (1, 7, 0):
            uart[IIR] = fcr
        for register in (LSR, LSR, RBR, IIR, MSR):
            uart[register]
    uart[MCR] = 0x1A
    uart[RBR] = 0x55
    assert uart[RBR] == 0x55
    uart[MCR] = 8
    uart[IIR] = 0x81
    uart[IER] = 5
    assert read_all(uart) == b"typed early"


def test_input_from_before_a_driver_without_fifo_survives_its_start(uart):
    """The same for a port that Linux takes for one without FIFO, after its console has polled to send."""
    uart.device.receive(b"typed early")
    for _ in range(100):
        uart[LSR]
        uart[RBR] = 0x2E
    for ier in (0, 2):
        uart[IER] = ier
        uart[IER] = 0
        for register in (LSR, RBR, IIR, MSR):
            uart[register]
    uart[IER] = 5
    uart[IIR] = 0
    assert read_all(uart) == b"typed early"


def test_a_handler_that_holds_interrupts_off_finds_its_byte(uart):
    uart[IER] = 1
    uart.device.receive(b"xy")
    for byte in b"xy":
        assert uart.irq
        uart[IER] = 0
        assert uart[LSR] & 1 and uart[RBR] == byte
        uart[IER] = 1
    assert not uart.irq


def test_loopback_finds_its_own_bytes_only_and_keeps_the_hosts(uart):
    uart[IIR] = 1
    uart.device.receive(b"host")
    uart[MCR] = 0x10
    uart[RBR] = 0x55
    uart.device.receive(b"!")
    assert uart[RBR] == 0x55 and not uart[LSR] & 1
    uart[RBR] = 0x66
    uart[MCR] = 0
    uart[IIR] = 3
    assert read_all(uart) == b"host!"


def test_a_guest_that_only_polls_gets_its_input(uart):
    uart.device.receive(b"ok")
    polls = 0
    while not uart[LSR] & 1:
        polls += 1
        assert polls < 100
    assert read_all(uart) == b"ok"


def test_unread_input_waits_over_a_reset(uart):
    uart[IIR] = 1
    uart.device.receive(b"for the next kernel")
    uart[RBR]
    uart.device.reset()
    assert not uart[LSR] & 1
    uart[IIR] = 1
    assert read_all(uart) == b"or the next kernel"


def test_loopback_returns_bytes_and_modem_lines(uart):
    uart[MCR] = 0x1A  # loop, OUT2, RTS: the 8250 driver's presence test
    assert uart[MSR] & 0xF0 == 0x90
    uart[RBR] = 0x55
    assert uart.host.text == b"" and uart[LSR] & 1 and uart[RBR] == 0x55
    uart[MCR] = 0
    assert uart[MSR] & 0xF0 == 0xB0 and uart[MSR] & 0x0F == 0


def test_overrun_in_loopback_is_a_line_status_interrupt(uart):
    uart[MCR] = 0x10
    uart[IER] = 4
    uart[RBR] = 1
    uart[RBR] = 2
    assert uart.irq and uart[IIR] & 0xF == LINE
    assert uart[LSR] & 2 and not uart.irq and not uart[LSR] & 2


def test_break_is_reported_with_a_null_byte(uart):
    uart[IER] = 5
    uart.device.receive_break()
    assert uart[IIR] & 0xF == LINE
    assert uart[LSR] & 0x11 == 0x11
    assert uart[RBR] == 0


def test_both_ports_share_one_source(uart, bench):
    other = Uart(bench, 0x4600, 1)
    uart[IER] = other[IER] = 2
    uart[IIR]
    assert uart.irq
    other[IIR]
    assert not uart.irq
    other[RBR] = 0x42
    assert other.host.text == b"B"


def test_pending_time_out_survives_restore(uart, bench):
    uart[IIR] = 0x81
    uart[IER] = 1
    uart.device.receive(b"x")
    saved = uart.device.save()
    uart.device.reset()
    uart.device.restore(saved)
    bench.clock.advance(20_000_000)
    assert uart.irq
