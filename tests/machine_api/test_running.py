"""run, step and until."""

from __future__ import annotations

import time

import pytest

from powervisor import Machine
from powervisor.console import ExpectError
from powervisor.errors import PowervisorError, UserError
from powervisor.machine import NotReached
from tests.system.bare import POWERS_OFF, RESULTS, bare_machine

HELLO = """
    devices
    load32 r4, DEVICES + 0x4500
    li    r3, 'h'
    stb   r3, 0(r4)
    li    r3, 'i'
    stb   r3, 0(r4)
    b     .
"""


def address(machine: Machine, name: str) -> int:
    """Of a label in the program."""
    return int(machine.symbols[name])  # type: ignore[attr-defined]


def test_until_an_address(looping: Machine):
    cpu = looping.cpus[0]
    for n in range(1, 4):
        assert looping.run(until=address(looping, "count")) is None
        assert (cpu.pc, cpu.regs["r3"]) == (address(looping, "count"), n)
    assert len(looping.hooks) == 0


def test_until_an_address_by_counting_instructions(looping: Machine):
    looping.run(until=address(looping, "count"), instructions=1000)
    executed = looping.cpus[0].instructions
    looping.run(until=address(looping, "count"), instructions=1000)
    assert looping.cpus[0].regs["r3"] == 2
    assert looping.cpus[0].instructions - executed == 8


def test_an_address_that_nobody_comes_to(looping: Machine):
    with pytest.raises(NotReached, match="no vCPU came to 0x2000 within 0.05 s"):
        looping.run(0.05, until=0x2000)
    with pytest.raises(NotReached, match="no vCPU came to 0x2000 within 500 instructions"):
        looping.run(instructions=500, until=0x2000)


def test_until_text():
    with bare_machine(HELLO) as machine:
        assert machine.run(until="hi", seconds=20) is None
        with pytest.raises(NotReached, match="'never' did not come within 0.05 s; the console says:\n    hi"):
            machine.run(until="never", seconds=0.05)
        with pytest.raises(UserError, match="give seconds"):
            machine.run(until="hi", instructions=100)


def test_until_a_condition(looping: Machine):
    assert looping.run(20, until=lambda machine: machine.memory.read32(RESULTS + 4) >= 100) is None
    assert looping.memory.read32(RESULTS + 4) >= 100
    looping.run(instructions=200_000, until=lambda machine: machine.memory.read32(RESULTS + 4) >= 2000)
    with pytest.raises(NotReached, match="did not become true within 0.05 s"):
        looping.run(0.05, until=lambda machine: False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"until": True}, r"run\(until=True\): give an address, text, or a function of the machine"),
        ({"until": 1.5}, r"run\(until=1.5\): give an address, text, or a function of the machine"),
        ({"seconds": 1, "instructions": 10}, "run: give seconds or instructions, not both"),
        ({"until": 0x1000, "seconds": 1, "instructions": 10}, "run: give seconds or instructions, not both"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_in_a_line(looping: Machine, words, says):
    with pytest.raises(UserError, match=f"^{says}$"):
        looping.run(**words)


def test_a_machine_that_ends_first_gives_its_outcome():
    with bare_machine(POWERS_OFF) as machine:
        outcome = machine.run(20, until=lambda machine: False)
        assert outcome is not None and outcome.kind == "poweroff"
    with bare_machine(POWERS_OFF) as machine:
        outcome = machine.run(20, until="text")
        assert outcome is not None and outcome.kind == "poweroff"


def test_expect_ends_with_the_guest():
    with bare_machine(POWERS_OFF) as machine:
        machine.start()
        with pytest.raises(ExpectError, match="the guest ended or was stopped before 'text' came"):
            machine.console.expect("text", 60)


def test_expect_in_guest_seconds_is_not_over_while_the_guest_is_held():
    with bare_machine(HELLO) as machine:
        machine.run(0.05)
        machine.console.expect("hi")
        begun, before = time.monotonic(), machine.time
        machine.release()
        with pytest.raises(ExpectError, match="'more' did not come within 0.1 guest s"):
            machine.console.expect("more", guest_seconds=0.1)
        assert 0.1 <= machine.time - before <= time.monotonic() - begun + 0.01


def test_steps_execute_one_instruction_each(looping: Machine):
    looping.run(until=address(looping, "again"))
    cpu = looping.cpus[0]
    begin = cpu.pc
    assert [cpu.step() for _ in range(3)] == [begin + 4, begin + 8, begin + 12]
    executed = cpu.instructions
    assert cpu.step(80) == begin + 12
    assert cpu.instructions - executed == 80


def test_a_cpu_that_is_held_does_not_step():
    with bare_machine("b .", cores=2) as machine:
        with pytest.raises(PowervisorError, match="cpu1 is held in reset"):
            machine.cpus[1].step()


def test_stop_run_from_another_thread(looping: Machine):
    import threading

    looping.run(0.01)
    threading.Timer(0.1, looping.stop_run).start()
    begun = time.monotonic()
    assert looping.run(60) is None
    assert time.monotonic() - begun < 30 and looping.run_stopped
    then = looping.cpus[0].instructions
    time.sleep(0.02)
    assert looping.cpus[0].instructions == then, "held"
    looping.run(0.05)
    assert looping.cpus[0].instructions > then
