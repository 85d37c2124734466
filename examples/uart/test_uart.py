"""A UART driver on the board's own UART: what it sets up and sends, and what it does when hardware fails."""

import pytest

TIMEOUT, ABSENT = -2 & 0xFFFFFFFF, -4 & 0xFFFFFFFF


@pytest.fixture
def ready(machine):
    assert machine.run(20, until="ready\n") is None
    machine.go_on()
    return machine


def test_the_line_is_set_up_for_115200_baud(ready):
    uart = ready.devices["serial0"]
    assert (uart.divisor, uart.lcr.word_length, uart.lcr.dlab, uart.iir.enable) == (217, 3, 0, 1)


def test_what_comes_is_echoed(ready):
    ready.console.send("hello, board\n")
    ready.console.expect("hello, board\n", guest_seconds=10)


def test_a_damaged_byte_is_answered_with_a_question_mark(ready, faults):
    faults.mmio("serial0", "lsr", flip=0x08, writes=False)  # framing error
    ready.console.send("x")
    ready.console.expect("?", guest_seconds=10)


def test_a_transmitter_that_never_empties_is_given_up(machine, faults, symbols):
    faults.mmio("serial0", "lsr", stuck=0x00)
    machine.run(20, until=symbols["finished"])
    assert machine.cpus[0].regs["r3"] == TIMEOUT


def test_a_port_that_is_not_there_is_noticed(machine, faults, symbols):
    faults.mmio("serial0", stuck=0xFF)
    machine.run(20, until=symbols["finished"])
    assert machine.cpus[0].regs["r3"] == ABSENT
    assert machine.console.text == ""
