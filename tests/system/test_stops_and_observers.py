"""Several who stop one machine, and those who watch its exits."""

from __future__ import annotations

import threading
import time

from powervisor.hv.exits import Debug, Exit, Mmio, Watched
from powervisor.hv.stops import Breakpoint, Watchpoint
from powervisor.hv.vcpu import Vcpu
from powervisor.machine.stops import Stopper
from tests.system.bare import ORIGIN, bare_machine, results

LOOP = """
    li    r3, 0
again:
    addi  r3, r3, 1
    b     again
"""
LOAD = """
    devices
    load32 r4, DEVICES + 0xE00A4  # GUTS SVR
    lwz   r5, 0(r4)
    load32 r6, RESULTS
    stw   r5, 0(r6)
again:
    b     again
"""


def test_a_stopper_that_does_not_hold_sees_each_passage_and_the_guest_goes_on():
    with bare_machine(LOOP) as machine:
        seen: list[int] = []
        done = threading.Event()

        def look(vcpu: Vcpu, exit_: Debug) -> None:
            seen.append(vcpu.regs["r3"])
            if len(seen) == 50:
                done.set()

        hook = machine.stops.open(look, holds=False)
        hook.breakpoints.add(Breakpoint(ORIGIN + 4))
        hook.apply()
        machine.start()
        assert done.wait(20)
        hook.close()
        assert seen[:50] == list(range(50))


def test_each_stopper_is_told_of_its_own_stops_only():
    with bare_machine(LOOP) as machine:
        told: list[str] = []
        held = threading.Event()

        def stop(vcpu: Vcpu, exit_: Debug) -> None:
            told.append("debugger")
            held.set()

        hook = machine.stops.open(lambda *_: told.append("hook"), holds=False)
        debugger, idle = machine.stops.open(stop), machine.stops.open(lambda *_: told.append("idle"))
        hook.breakpoints.add(Breakpoint(ORIGIN + 4))
        debugger.breakpoints.add(Breakpoint(ORIGIN + 8))
        idle.breakpoints.add(Breakpoint(ORIGIN + 0x800))
        for stopper in hook, debugger, idle:
            stopper.apply()
        machine.start()
        assert held.wait(20)
        machine.hold()
        assert told == ["hook", "debugger"]
        assert machine.vcpus[0].regs["pc"] == ORIGIN + 8


def test_a_closed_stopper_takes_only_its_own_stops_with_it():
    with bare_machine(LOOP) as machine:
        first, second = machine.stops.open(lambda *_: None), machine.stops.open(lambda *_: None)
        first.breakpoints.add(Breakpoint(ORIGIN))
        second.breakpoints.add(Breakpoint(ORIGIN + 4))
        second.watchpoints.add(Watchpoint(0x100000, 4))
        first.apply()
        assert (machine.vm.state.stop_count, machine.vm.state.watch_count) == (2, 1)
        first.close()
        assert (machine.vm.state.stop_count, machine.vm.state.watch_count) == (1, 1)
        second.close()
        assert (machine.vm.state.stop_count, machine.vm.state.watch_count) == (0, 0)


def test_a_stopper_that_is_closed_while_a_cpu_stops_for_it_does_not_hold_the_machine():
    with bare_machine(LOOP) as machine:
        debugger = machine.stops.open(lambda *_: None)
        look = machine.stops.look

        def closed_meanwhile(vcpu: Vcpu, exit_: Debug | Watched) -> list[Stopper]:
            met = look(vcpu, exit_)
            closer = threading.Thread(target=debugger.close)
            closer.start()
            closer.join()
            return met

        machine.stops.look = closed_meanwhile
        debugger.breakpoints.add(Breakpoint(ORIGIN + 4))
        debugger.apply()
        machine.start()
        deadline = time.monotonic() + 20
        while machine.vcpus[0].instructions < 100_000:
            assert time.monotonic() < deadline, "it stands still"
        assert not machine.held


class Notes:
    """An observer that writes down device accesses and their times."""

    def __init__(self) -> None:
        self.accesses: list[tuple[Mmio, int, int, int]] = []
        self.met = threading.Event()

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        if isinstance(exit_, Mmio):
            self.accesses.append((exit_, entered, left, answered))
            self.met.set()


def test_an_observer_sees_a_device_access_with_what_was_read_and_its_times():
    with bare_machine(LOAD) as machine:
        notes = Notes()
        machine.vm.observers = (notes,)
        machine.start()
        assert notes.met.wait(20)
        access, entered, left, answered = notes.accesses[0]
        assert 0 < entered <= left <= answered
        assert not access.write and not access.failed
        deadline = time.monotonic() + 20
        while results(machine, 1)[0] != access.value and time.monotonic() < deadline:
            time.sleep(0.01)  # told of the access, the guest has yet to store what it read
        assert access.value == results(machine, 1)[0] != 0
