"""A watchdog: left alone while the program works, and the way back when it does not."""

import pytest

ROUNDS = 0x200000


@pytest.fixture
def working(machine):
    machine.run(20, until=lambda machine: machine.memory.read32(ROUNDS) > 1000)
    machine.console.expect("power-on\n", 20)
    return machine


def test_a_program_that_works_is_not_reset(working):
    until = working.time + 0.5
    working.run(20, until=lambda machine: machine.time > until)
    assert "watchdog" not in working.console.text


def test_a_program_that_hangs_is_reset_within_its_time(working, symbols):
    with working.hooks.at(symbols["work"], lambda cpu: setattr(cpu, "pc", symbols["finished"])) as hang:
        working.run(20, until=lambda machine: hang.calls > 0)
    begun = working.time
    working.run(20, until="reset by watchdog\n")
    assert working.time - begun < 2
    assert working.cpus[0].spr.tsr.WRS == 2


def test_a_flipped_bit_of_the_program_counter_is_survived(working, faults):
    faults.flip_register("pc", bit=20)
    working.run(20, until="reset by watchdog\n")
    rounds = working.memory.read32(ROUNDS)
    working.run(20, until=lambda machine: machine.memory.read32(ROUNDS) > rounds)


def test_it_can_do_without_its_reset(make_machine, options, symbols):
    machine = make_machine(**options, no_reboot=True)
    machine.hooks.at(symbols["work"], lambda cpu: setattr(cpu, "pc", symbols["finished"]))
    outcome = machine.run(20)
    assert outcome is not None and outcome.kind == "reset" and "watchdog" in outcome.detail
