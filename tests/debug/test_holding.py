"""Who holds a machine: -S, QMP, gdb, the monitor; and that whoever goes away lets go for itself only."""

from __future__ import annotations

import time

import pytest

from powervisor.debug.control import Control
from powervisor.manage.manager import Manager
from tests.system.bare import results

COUNTS = """
    load32 r3, RESULTS
    li    r4, 0
loop:
    addi  r4, r4, 1
    stw   r4, 0(r3)
    b     loop
"""


def runs(machine) -> bool:
    before = results(machine, 1)
    time.sleep(0.03)
    return results(machine, 1) != before


def settles(machine, running: bool) -> bool:
    """Whether the machine comes to run, or stands, and goes on doing so."""
    deadline = time.monotonic() + 10
    while machine.held == running and time.monotonic() < deadline:
        time.sleep(0.005)
    return runs(machine) == running


def until_gone(machine):
    """Wait until no debugger is left."""
    deadline = time.monotonic() + 10
    while machine.stops.held_by_somebody:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_gdb_that_vanishes_leaves_a_machine_that_minus_s_holds(debugged):
    machine, gdb = debugged(COUNTS, started=False)
    gdb.close()
    until_gone(machine)
    assert machine.held and not runs(machine)


@pytest.mark.parametrize("packet", [b"vCont;c", b"D"])
def test_gdb_lets_a_machine_go_that_minus_s_holds(debugged, packet):
    machine, gdb = debugged(COUNTS, started=False)
    gdb.send(packet)
    assert settles(machine, running=True)
    gdb.close()
    until_gone(machine)
    assert not machine.held and runs(machine)


def test_a_gdb_that_goes_away_leaves_a_machine_that_qmp_stopped_before_or_meanwhile(debugged):
    machine, gdb = debugged(COUNTS)
    manager = Manager(machine)
    try:
        manager.stop()
        assert manager.status == "paused"
        assert gdb.ask(b"D") == b"OK"
        until_gone(machine)
        assert machine.held and not runs(machine)
        manager.cont()
        assert manager.status == "running" and runs(machine)
    finally:
        manager.close()


def test_what_the_program_holds_meanwhile_stays_held(debugged):
    machine, gdb = debugged(COUNTS)
    machine.hold()  # as when the guest has powered off under -no-shutdown
    gdb.close()
    until_gone(machine)
    assert machine.held and not runs(machine)


def test_a_monitor_that_qmp_asks_holds_and_lets_go_nothing(debugged):
    machine, gdb = debugged(COUNTS, started=False)
    gdb.close()
    until_gone(machine)
    manager = Manager(machine)
    try:
        assert "cpu0" in manager.monitor.execute("info cpus")
        assert manager.status == "prelaunch" and not runs(machine)
        manager.cont()
        assert manager.status == "running" and runs(machine)
        manager.stop()
    finally:
        manager.close()
    assert settles(machine, running=True)


def test_of_two_that_leave_the_last_one_has_the_machine_go_on(debugged):
    machine, gdb = debugged(COUNTS)
    other = Control(machine, lambda: None, "the monitor")
    other.hold()
    gdb.close()
    deadline = time.monotonic() + 10
    while len(machine.stops.holding) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert machine.held
    other.close()
    assert settles(machine, running=True)
