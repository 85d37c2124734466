"""Events of native code: each of them, in order, and none while nobody listens."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from powervisor.hv.tracing import CAPACITY, Event, Instructions, Listening, Trace, TraceEvent
from powervisor.isa.registers import IVOR
from powervisor.machine.timing import Timing
from tests.support.waiting import until
from tests.system.bare import ORIGIN, bare_machine, results

from .programs import until_done

COUNT = """
    li    r3, 0
    li    r5, 100
    mtctr r5
again:
    addi  r3, r3, 1
    bdnz  again
    load32 r6, RESULTS
    stw   r3, 0(r6)
end:
    b     end
"""
SYSCALLS = """
    vector 408, handler    # IVOR8
    load32 r6, RESULTS
    load32 r7, CALLS
    li    r3, 0
again:
    addi  r3, r3, 1
    sc
    cmpw  r3, r7
    bne   again
    stw   r3, 0(r6)
end:
    b     end
    .align 4
handler:
    rfi
"""


def heard(bits: int, **options: object) -> tuple[list[Event], Listening]:
    """A listener, and the list it fills."""
    events: list[Event] = []
    return events, Listening(events.extend, bits, **options)  # type: ignore[arg-type]


def test_instructions_come_one_by_one_with_what_they_changed():
    with bare_machine(COUNT) as machine:
        events, listener = heard(Trace.INSN)
        machine.vm.tracing.open(listener)
        until_done(machine)
        machine.vm.tracing.close(listener)
        pcs = [event.pc for event in events[:204]]
        loop = [ORIGIN + 12, ORIGIN + 16] * 100
        assert pcs == [ORIGIN, ORIGIN + 4, ORIGIN + 8, *loop, ORIGIN + 20]
        numbers, value, *_ = events[201].args  # the last addi
        assert (numbers & 0xFFFF, value) == (0xFF03, 100)
        assert [event.time for event in events] == sorted(event.time for event in events)
        assert machine.vm.tracing.lost == 0


def test_only_instructions_asked_for_are_told_and_others_run_as_ever():
    with bare_machine(COUNT) as machine:
        events, listener = heard(Trace.INSN, instructions=Instructions(ORIGIN + 12, ORIGIN + 12))
        machine.vm.tracing.open(listener)
        until_done(machine)
        machine.vm.tracing.close(listener)
        assert [event.pc for event in events] == [ORIGIN + 12] * 100


def test_a_trace_may_begin_and_end_while_the_guest_runs():
    with bare_machine("again:\n addi r3, r3, 1\n b again") as machine:
        machine.start()
        until(lambda: machine.vcpus[0].instructions > 100_000)
        for _ in range(3):
            events, listener = heard(Trace.INSN)
            machine.vm.tracing.open(listener)
            until(lambda: len(events) > 1000)  # noqa: B023 - before the next round
            machine.vm.tracing.close(listener)
            told, before = len(events), machine.vcpus[0].instructions
            until(lambda: machine.vcpus[0].instructions > before + 1_000_000)  # noqa: B023
            assert len(events) == told
            adds = [event.args[1] for event in events if event.pc == ORIGIN]
            gaps = [(one, after) for one, after in pairwise(adds) if after != one + 1]
            assert not gaps[:5], f"{len(gaps)} of {len(adds)}"  # of which pytest would take hours to show all
        assert not machine.vcpus[0].state.trace and not machine.vm.observers


def test_no_event_is_lost_however_many_there_are():
    calls = 10 * CAPACITY
    with bare_machine(f".set CALLS, {calls}" + SYSCALLS) as machine:
        events, listener = heard(Trace.SYSCALL)
        machine.vm.tracing.open(listener)
        until_done(machine)
        machine.vm.tracing.close(listener)
        assert [event.args[1] for event in events] == list(range(1, calls + 1))
        assert machine.vm.tracing.lost == 0


@pytest.mark.parametrize("bits", [Trace.INSN, Trace.SYSCALL | Trace.IRQ])
def test_turns_of_a_deterministic_machine_are_cut_where_rings_would_overflow(bits):
    source = f".set CALLS, {CAPACITY}" + SYSCALLS
    ends = []
    for traced in (False, True):
        with bare_machine(source, deterministic=Timing(quantum=100_000)) as machine:
            events, listener = heard(bits)
            if traced:
                machine.vm.tracing.open(listener)
            machine.run(instructions=120_000)
            ends.append(machine.statistics()["deterministic"])
            machine.vm.tracing.close(listener)
            assert machine.vm.tracing.lost == 0
            assert len(events) > CAPACITY or not traced
    assert ends[0] == ends[1]


def test_an_interrupt_tells_where_it_came_and_where_it_went():
    with bare_machine(".set CALLS, 3" + SYSCALLS) as machine:
        events, listener = heard(Trace.IRQ)
        machine.vm.tracing.open(listener)
        until_done(machine)
        machine.vm.tracing.close(listener)
        handler = machine.symbols["handler"]
        assert [(event.kind, event.detail, event.args[0]) for event in events] == [
            (TraceEvent.INTERRUPT, IVOR.SYSTEM_CALL, handler)
        ] * 3


def test_each_listener_hears_what_it_asked_for_of_its_cpus():
    second = COUNT.replace("li    r3, 0", "release 1, other\n li r3, 0") + "other:\n li r9, 9\nrest:\n b rest"
    with bare_machine("devices\n" + second, cores=2) as machine:
        all_events, everybody = heard(Trace.INSN)
        own_events, one = heard(Trace.INSN, cpus=(1,))
        machine.vm.tracing.open(everybody)
        machine.vm.tracing.open(one)
        until_done(machine)
        until(lambda: any(event.cpu == 1 for event in list(own_events)))
        machine.vm.tracing.close(everybody)
        machine.vm.tracing.close(one)
        assert {event.cpu for event in all_events} == {0, 1}
        assert any(event.cpu == 1 and event.args[1] == 9 for event in own_events)


def test_listeners_come_and_go_on_many_threads():
    with bare_machine("again:\n addi r3, r3, 1\n b again", cores=2) as machine:
        machine.start()
        failures: list[BaseException] = []

        def listen(bits: int) -> None:
            try:
                for _ in range(15):
                    _, listener = heard(bits)
                    machine.vm.tracing.open(listener)
                    machine.vm.tracing.close(listener)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=listen, args=(bits,)) for bits in (Trace.INSN, Trace.IRQ, Trace.INSN)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not failures and not machine.vcpus[0].state.trace
        before = machine.vcpus[0].instructions
        until(lambda: machine.vcpus[0].instructions > before)


def test_a_reset_does_not_end_a_trace():
    source = "devices\n load32 r4, DEVICES + 0xE00B0\n li r5, 2\n li r3, 7\n stw r5, 0(r4)\nend:\n b end"
    with bare_machine(source) as machine:
        events, listener = heard(Trace.INSN | Trace.MMU, instructions=Instructions(ORIGIN, ORIGIN + 0x1000))
        machine.vm.tracing.open(listener)
        machine.start()
        until(lambda: sum(event.kind == TraceEvent.INSN and event.pc == ORIGIN for event in list(events)) > 2)
        machine.stop()
        machine.vm.tracing.close(listener)


def test_an_instruction_that_uses_a_device_is_told_once_after_it_began():
    source = """
    devices
    load32 r4, DEVICES + 0xE00A4  # GUTS SVR
access:
    lwz   r5, 0(r4)
    load32 r6, RESULTS
    stw   r5, 0(r6)
end:
    b     end
    """
    with bare_machine(source) as machine:
        access = machine.symbols["access"]
        events, listener = heard(Trace.INSN, instructions=Instructions(access, access))
        machine.vm.tracing.open(listener)
        until_done(machine)
        machine.vm.tracing.close(listener)
        (event,) = events
        assert event.args[1] == results(machine, 1)[0]


def test_the_end_of_a_machine_ends_what_listens_to_it():
    with bare_machine(COUNT) as machine:
        events, listener = heard(Trace.INSN, instructions=Instructions(ORIGIN, ORIGIN))
        machine.vm.tracing.open(listener)
        until_done(machine)
    assert [event.pc for event in events] == [ORIGIN]
    until(lambda: not any(thread.name == "tracing" for thread in threading.enumerate()))
    machine.vm.tracing.close(listener)
