"""Who holds a machine: -S, QMP, gdb, the monitor; and that whoever goes away lets go for itself only."""

from __future__ import annotations

import pytest

from powervisor.debug.control import Control
from powervisor.manage.manager import Manager
from tests.support.waiting import until
from tests.system.bare import COUNTS, counts


def goes_on(machine) -> bool:
    """Whether the machine comes to run, and goes on doing so."""
    until(lambda: not machine.held)
    return counts(machine)


def until_gone(machine):
    """Wait until no debugger is left."""
    until(lambda: not machine.stops.held_by_somebody)


def test_a_gdb_that_vanishes_leaves_a_machine_that_minus_s_holds(debugged):
    machine, gdb = debugged(COUNTS, started=False)
    gdb.close()
    until_gone(machine)
    assert machine.held and not counts(machine)


@pytest.mark.parametrize("packet", [b"vCont;c", b"D"])
def test_gdb_lets_a_machine_go_that_minus_s_holds(debugged, packet):
    machine, gdb = debugged(COUNTS, started=False)
    gdb.send(packet)
    assert goes_on(machine)
    gdb.close()
    until_gone(machine)
    assert not machine.held and counts(machine)


def test_a_gdb_that_goes_away_leaves_a_machine_that_qmp_stopped_before_or_meanwhile(debugged):
    machine, gdb = debugged(COUNTS)
    manager = Manager(machine)
    try:
        manager.stop()
        assert manager.status == "paused"
        assert gdb.ask(b"D") == b"OK"
        until_gone(machine)
        assert machine.held and not counts(machine)
        manager.cont()
        assert manager.status == "running" and counts(machine)
    finally:
        manager.close()


def test_what_the_program_holds_meanwhile_stays_held(debugged):
    machine, gdb = debugged(COUNTS)
    machine.hold()  # as when the guest has powered off under -no-shutdown
    gdb.close()
    until_gone(machine)
    assert machine.held and not counts(machine)


def test_a_monitor_that_qmp_asks_holds_and_lets_go_nothing(debugged):
    machine, gdb = debugged(COUNTS, started=False)
    gdb.close()
    until_gone(machine)
    manager = Manager(machine)
    try:
        assert "cpu0" in manager.monitor.execute("info cpus")
        assert manager.status == "prelaunch" and not counts(machine)
        manager.cont()
        assert manager.status == "running" and counts(machine)
        manager.stop()
    finally:
        manager.close()
    assert goes_on(machine)


def test_of_two_that_leave_the_last_one_has_the_machine_go_on(debugged):
    machine, gdb = debugged(COUNTS)
    other = Control(machine, lambda: None, "the monitor")
    other.hold()
    gdb.close()
    until(lambda: len(machine.stops.holding) == 1)
    assert machine.held
    other.close()
    assert goes_on(machine)
