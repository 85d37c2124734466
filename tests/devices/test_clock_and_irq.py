"""Clocks and interrupt lines."""

import threading
import time

from powervisor.devices.clock import HostClock, ManualClock
from powervisor.devices.irq import IrqOutput, OrGate


class Line:
    def __init__(self):
        self.history = []

    def set(self, level):
        self.history.append(level)


def test_manual_clock_calls_in_order_at_the_right_time():
    clock, calls = ManualClock(), []
    for ns in (30, 10, 20, 10):
        clock.call_at(ns, lambda ns=ns: calls.append((ns, clock.now_ns())))
    clock.call_at(15, lambda: calls.append("no")).cancel()
    clock.call_at(12, lambda: clock.call_at(14, lambda: calls.append("nested")))
    clock.advance(25)
    assert calls == [(10, 10), (10, 10), "nested", (20, 20)]
    assert clock.now_ns() == 25 and clock.next_ns() == 30


def test_host_clock_calls_under_the_lock_and_not_early():
    lock = threading.RLock()
    clock = HostClock(lock)
    done = threading.Event()
    late = []

    def call(due):
        assert clock.now_ns() >= due
        late.append(due)
        if len(late) == 3:
            done.set()

    with lock:
        for delay in (30, 10, 20):
            due = clock.now_ns() + delay * 1_000_000
            clock.call_at(due, lambda due=due: call(due))
        time.sleep(0.05)
        assert late == [], "the lock is held"
    assert done.wait(2) and late == sorted(late)
    clock.close()


def test_host_clock_survives_errors_and_cancelling():
    errors = []
    clock = HostClock(on_error=errors.append)
    done = threading.Event()

    def fail():
        raise RuntimeError("device bug")

    clock.call_at(0, fail)
    cancelled = clock.call_at(clock.now_ns() + 5_000_000, lambda: errors.append("cancelled one ran"))
    cancelled.cancel()
    clock.call_at(clock.now_ns() + 10_000_000, done.set)
    assert done.wait(2)
    assert [str(error) for error in errors] == ["device bug"]
    clock.close()


def test_output_tells_changes_only_and_counts_them():
    line, pin = Line(), IrqOutput()
    pin.set(True)
    pin.connect(line)
    pin.set(True)
    pin.set(False)
    pin.set(True)
    assert line.history == [True, False, True] and pin.raised == 2


def test_or_gate_stays_up_until_all_inputs_are_down():
    line = Line()
    gate = OrGate(line)
    a, b = gate.input(), gate.input()
    a.set(True)
    b.set(True)
    a.set(False)
    assert line.history == [True]
    b.set(False)
    assert line.history == [True, False]
