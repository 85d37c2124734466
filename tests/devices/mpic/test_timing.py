"""How long inputs are ready before a CPU takes the interrupt, and who accesses which register."""

import pytest

from powervisor.devices.mpic_timing import UNKNOWN

LEVEL = 0x0040_0000


@pytest.fixture
def timed(bench_of):
    """Two CPUs in mixed mode, whose controller measures; the clock is past 0."""
    b = bench_of(2).ready()
    b.clock.advance(1_000)
    b.mpic.measure(True)
    return b


def take(b, cpu=0):
    """As a core that takes the external interrupt: ns since the source was ready, None when that is not known."""
    waited = b.mpic._call("taken", cpu)
    return None if waited == UNKNOWN else waited


def counts(b):
    return {name: int(part.count) for name, part in b.mpic.latencies().items()}


def test_an_edge_counts_from_the_pin_to_the_core(timed):
    timed.source(3)
    timed.mpic.line(3).set(True)
    timed.clock.advance(700)
    assert take(timed) == 700
    assert timed.iack() == 3
    part = timed.mpic.latencies()["3"]
    assert (part.count, part.total, part.least, part.most) == (1, 700, 700, 700)


def test_taking_it_again_before_it_was_acknowledged_counts_once(timed):
    timed.source(3)
    timed.mpic.line(3).set(True)
    timed.clock.advance(50)
    assert [take(timed), take(timed)] == [50, None]


def test_without_an_interrupt_nothing_is_known(timed):
    assert take(timed) is None
    assert counts(timed) == {}


def test_a_line_still_asserted_at_the_end_of_interrupt_begins_a_new_interrupt_there(timed):
    timed.source(42, sense=LEVEL)
    timed.mpic.line(42).set(True)
    timed.clock.advance(100)
    assert take(timed) == 100
    timed.iack()
    timed.clock.advance(5_000)
    timed.eoi()
    timed.clock.advance(30)
    assert take(timed) == 30


def test_what_is_masked_at_the_controller_waits_from_its_unmasking_on(timed):
    timed.source(42, sense=LEVEL)
    at = 0x1_0000 + 42 * 0x20
    value = timed.read(at)
    timed.write(at, value | 0x8000_0000)
    timed.mpic.line(42).set(True)
    timed.clock.advance(9_000)
    timed.write(at, value)
    timed.clock.advance(20)
    assert take(timed) == 20


def test_an_interrupt_that_overtakes_the_one_taken_is_counted_when_it_is_acknowledged(timed):
    timed.source(3, priority=5)
    timed.source(4, priority=9)
    timed.mpic.line(3).set(True)
    timed.clock.advance(10)
    assert take(timed) == 10
    timed.mpic.line(4).set(True)
    timed.clock.advance(60)
    assert timed.iack() == 4
    assert counts(timed) == {"4": 1}  # 3 is counted, but was not delivered yet
    timed.eoi()
    assert timed.iack() == 3
    assert counts(timed) == {"3": 1, "4": 1}
    assert timed.mpic.latencies()["4"].total == 60


def test_each_cpu_has_its_own_time_of_an_ipi(timed):
    timed.ipi(0)
    timed.write(0x40, 1)
    timed.clock.advance(100)
    timed.write(0x40, 2)
    timed.clock.advance(10)
    assert (take(timed, 0), take(timed, 1)) == (110, 10)
    assert timed.iack(0) == timed.iack(1) == 0x100
    assert counts(timed) == {"ipi0": 2}


def test_accesses_are_counted_by_register_while_somebody_wants_to_know(bench_of):
    b = bench_of(1).ready()
    assert b.mpic.accesses() == {}
    b.mpic.measure(True)
    for _ in range(3):
        b.iack()
    b.eoi()
    assert b.mpic.accesses() == {0xA0: (3, 0), 0xB0: (0, 1)}
    b.mpic.measure(False)
    b.eoi()
    assert b.mpic.accesses()[0xB0] == (0, 1)
    b.mpic.measure(True)
    assert b.mpic.accesses() == {}


def test_an_access_outside_the_window_is_not_counted(timed):
    timed.mpic._call("write", 0x7FFF_FFF0, 0, 0)
    timed.mpic._call("read", 0xFFFF_FFFC, 0)
    assert timed.mpic.accesses() == {}
