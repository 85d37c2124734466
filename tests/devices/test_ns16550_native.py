"""The transmitter as native code answers it: only what has no other effect, and nothing lost or out of order."""

import pytest

from powervisor import Machine
from powervisor.devices.ns16550_native import ASK, DATA, IIR, LSR, MSR, ROOM, uart_read, uart_take, uart_write
from powervisor.native.ints import u32, u64

IER, LCR, MCR = 1, 3, 4
BASE = 0x4500


class Port:
    """One UART from both sides: registers through the device, and as a vCPU tries them first."""

    def __init__(self, bench):
        self.bench, self.host, self.device = bench, bench.hosts[0], bench.device("serial0")
        self.address = u64(self.device.transmitter.address)

    def __setitem__(self, register, value):
        self.bench.write(BASE + register, value, 1)

    def __getitem__(self, register):
        return self.bench.read(BASE + register, 1)

    def status(self):
        return self.known(LSR)

    def known(self, register):
        return int(uart_read(self.address, u32(register)))

    def send(self, byte):
        return bool(uart_write(self.address, u32(DATA), u32(byte)))


@pytest.fixture
def port(bench):
    return Port(bench)


def test_bytes_taken_natively_keep_their_place_among_the_others(port):
    assert port.send(0x41) and port.send(0x42)
    assert port.host.text == b""
    port[DATA] = 0x43
    assert port.send(0x44)
    port.device.drain()
    assert port.host.text == b"ABCD"
    assert port.device.counters.writes == 4


def test_a_full_buffer_sends_the_guest_to_the_device(port):
    assert all(port.send(0x2E) for _ in range(ROOM))
    assert not port.send(0x21)
    port[DATA] = 0x21
    assert port.host.text == b"." * ROOM + b"!"


@pytest.mark.parametrize(("register", "value"), [(LCR, 0x80), (MCR, 0x10)])
def test_a_byte_that_is_not_sent_is_the_devices(port, register, value):
    """The divisor, or a byte looped back."""
    port[register] = value
    assert not port.send(0x41)
    port[register] = 0
    assert port.send(0x41)


def test_the_byte_that_raises_the_transmit_interrupt_is_the_devices(port):
    port[IER] = 2
    assert port.send(0x41), "the interrupt is pending anyway"
    assert port[IIR] & 0xF == 2
    assert not port.send(0x42), "this one raises it again"
    port[DATA] = 0x42
    assert port.send(0x43)
    port.device.drain()
    assert port.host.text == b"ABC"


def test_the_devices_bytes_gather_with_the_others_while_somebody_drains_them(port):
    port.device.bind(uart_take, lambda *numbers: port.send(numbers[2]))
    port[IER] = 2
    assert port[IIR] & 0xF == 2
    port[DATA] = 0x41
    assert port.send(0x42)
    assert port.host.text == b"" and port[IIR] & 0xF == 2
    port.device.drain()
    assert port.host.text == b"AB"
    assert port.device.counters.writes == 3, "IER and two bytes"


def test_line_status_is_answered_unless_reading_changes_it(port):
    assert port.status() == 0x60
    port.device.receive(b"x")
    assert port.status() == ASK, "a guest that polls a port it has not set up is counted"
    port[IIR] = 1  # FIFO on: it listens
    assert port.status() == 0x61
    port.device.receive_break()
    assert port.status() == ASK
    assert port[LSR] & 0x10
    assert port.status() == 0x61
    assert port.known(DATA) == ASK


def test_what_interrupts_is_answered_unless_reading_changes_it(port):
    assert port.known(IIR) == 0x01
    port[IIR] = 1  # FIFO on
    assert port.known(IIR) == 0xC1
    port[IER] = 2
    assert port.known(IIR) == ASK, "reading that the transmitter is empty ends its interrupt"
    assert port[IIR] == 0xC2
    assert port.known(IIR) == 0xC1
    port[IER] = 1
    port.device.receive(b"x" * 14)
    assert port.known(IIR) == port[IIR] == 0xC4


def test_modem_status_is_answered_unless_reading_changes_it(port):
    assert port.known(MSR) == 0xB0
    port[MCR] = 0x10  # loopback: the lines fall
    assert port.known(MSR) == ASK
    assert port[MSR] == 0x0B
    assert port.known(MSR) == 0x00


def test_a_guest_prints_without_an_exit_for_each_byte():
    with Machine(serial=[None], no_reboot=True) as machine:
        machine.run(seconds=30, until=lambda machine: len(machine.console.text) > 500)
        printed = len(machine.console.text)
        assert machine.vcpus[0].exit_counts()["mmio"] < printed / 4
        assert machine.built.devices["serial0"].statistics()["writes"] >= printed
