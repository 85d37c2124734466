"""Registers of devices that only hold bits: native code answers for them, and Python sees the same value."""

from __future__ import annotations

import pytest

from powervisor.devices.gpio import Gpio
from tests.support.waiting import run_until
from tests.system.bare import bare_machine, results

PROGRAM = """
    devices
    load32 r3, DEVICES + 0xFF000        # GPIO
    load32 r4, 0x12345678
    stw   r4, 4(r3)                     # open drain: as a whole
    lwz   r5, 4(r3)
    li    r4, 0xAB
    stb   r4, 6(r3)                     # a part of it
    lhz   r6, 6(r3)
    load32 r7, RESULTS
    stw   r5, 4(r7)
    stw   r6, 8(r7)
    li    r8, 1000
    mtctr r8
again: stw r8, 4(r3)
    lwz   r9, 4(r3)
    bdnz  again
    stw   r9, 12(r7)
    li    r8, 1
    stw   r8, 0(r7)
stay: b stay
"""


@pytest.mark.parametrize("cpu", ["e500mc", "e5500", "e6500"])
def test_a_register_that_only_holds_bits_is_no_exit(cpu):
    with bare_machine(PROGRAM, cpu) as machine:
        run_until(machine, lambda: results(machine, 1) == (1,))
        gpio = machine.built.devices["gpio"]
        assert isinstance(gpio, Gpio)
        assert results(machine, 4)[1:] == (0x1234_5678, 0xAB78, 1000)
        assert gpio.open_drain.value == 1000
        assert gpio.save()["registers"]["open_drain"] == [1000]
        assert machine.vcpus[0].exit_counts()["mmio"] == 2, "the accesses to a part"
        gpio.reset()
        assert machine.space.read(machine.board.base(machine.board.part("gpio")) + 4, 4) == 0


def test_a_register_with_an_effect_is_asked_for():
    """GPIO's data: its lines drive others. Writing it is an exit each time."""
    with bare_machine(PROGRAM.replace("again: stw r8, 4(r3)", "again: stw r8, 8(r3)")) as machine:
        run_until(machine, lambda: results(machine, 1) == (1,))
        assert machine.vcpus[0].exit_counts()["mmio"] >= 1000
