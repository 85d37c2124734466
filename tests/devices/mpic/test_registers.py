"""Fields of the MPIC's registers, timers, reset, cores, saving."""

import re

import pytest

from powervisor.devices.clock import HostClock
from powervisor.devices.mpic import SHORTEST_WAIT_NS, Mpic
from powervisor.devices.mpic_registers import Offset, register_name
from powervisor.devices.mpic_state import Notify, Output
from powervisor.vcpu.state import Line, Request

MASK, ACTIVITY = 0x8000_0000, 0x4000_0000
STOP = 0x8000_0000
TOGGLE = 0x8000_0000
TICK = 40  # ns
SPURIOUS = 0xFFFF


def ivpr(n):
    return Offset.SOURCE + n * Offset.SOURCE_STRIDE


def timer(n):
    group, i = divmod(n, 4)
    return Offset.GROUP + group * Offset.GROUP_STRIDE + Offset.TIMER + i * Offset.TIMER_STRIDE


def start(pic, n, base, cpus=1, priority=9):
    pic.write(timer(n) + Offset.TDR, cpus)
    pic.write(timer(n) + Offset.TVPR, priority << 16 | 0x200 + n)
    pic.write(timer(n) + Offset.TBCR, STOP)
    pic.write(timer(n) + Offset.TBCR, base)


def test_bits_of_shared_words_are_those_of_the_vcpu():
    assert (Output.EXTERNAL, Output.CRITICAL, Output.MACHINE_CHECK) == (
        Line.EXTERNAL,
        Line.CRITICAL,
        Line.MACHINE_CHECK,
    )
    assert (Notify.KICK, Notify.LINES) == (Request.KICK, Request.LINES)


def test_every_named_register_answers_and_nothing_else_does(bench_of):
    b = bench_of(32)
    one_way = re.compile(r"(CPU\d+ )?(BRR[12]|FRR|VIR|EISR|IACK|WHOAMI|MSIR\d[ABC]|MSISR[ABC]|IPIDR\d|EOI|MSIIR[ABC])")
    ranges = (0, 0x8000), (0x1_0000, 0x1_2040), (0x2_0000, 0x2_00F0), (0x3_F0A0, 0x3_F0B0), (0x4_0000, 0x4_0004)
    for offset in (offset for first, end in ranges for offset in range(first, end, 4)):
        before = int(b.mpic.state.unknown)
        b.mpic._call("read", offset, 0)
        b.mpic._call("write", offset, 0, 0)
        name = register_name(offset)
        expected = 2 if name is None else 1 if one_way.fullmatch(name) else 0
        assert int(b.mpic.state.unknown) - before == expected, f"{offset:#x} {name}"


@pytest.mark.parametrize(
    ("n", "reset", "ones"),
    [(0, 0x8000_0000, 0x80CF_FFFF), (15, 0x8000_0000, 0x80CF_FFFF), (16, 0x8080_0000, 0x808F_FFFF),
     (255, 0x8080_0000, 0x808F_FFFF)],
)  # fmt: skip
def test_source_registers_have_the_fields_of_their_kind(pic, n, reset, ones):
    assert pic.read(ivpr(n)) == reset
    assert pic.read(ivpr(n) + Offset.IDR) == 1
    assert pic.read(ivpr(n) + Offset.ILR) == 0
    for register, value in ((Offset.IVPR, ones), (Offset.IDR, 3), (Offset.ILR, 0xFF)):
        pic.write(ivpr(n) + register, 0xFFFF_FFFF)
        assert pic.read(ivpr(n) + register) == value


def test_ipis_and_timers_have_neither_polarity_nor_sense(pic):
    for at in (Offset.IPIVPR + 0x30, timer(7) + Offset.TVPR):
        assert pic.read(at) == MASK
        pic.write(at, 0xFFFF_FFFF)
        assert pic.read(at) == 0x800F_FFFF


def test_activity_shows_requested_and_in_service_and_is_read_only(pic):
    pic.mpic.line(42).set(True)
    assert pic.read(ivpr(42)) & ACTIVITY
    pic.source(42)
    pic.iack()
    pic.mpic.line(42).set(False)
    assert pic.read(ivpr(42)) & ACTIVITY
    pic.eoi()
    pic.write(ivpr(42), ACTIVITY)
    assert pic.read(ivpr(42)) & ACTIVITY == 0


def test_own_block_is_that_of_the_accessing_cpu(pic):
    for cpu in (0, 1):
        assert pic.read(Offset.WHOAMI, cpu) == cpu
        pic.write(Offset.CTPR, 3 + cpu, cpu)
    for cpu in (0, 1):
        assert pic.read(Offset.CPU + cpu * Offset.CPU_STRIDE + Offset.CTPR) == 3 + cpu
        assert pic.read(Offset.CPU + cpu * Offset.CPU_STRIDE + Offset.WHOAMI, 1 - cpu) == cpu
    assert pic.read(Offset.CPU + 2 * Offset.CPU_STRIDE + Offset.WHOAMI) == 0


def test_identification_is_that_of_version_4_2(bench_of):
    b = bench_of(32)
    assert b.read(Offset.BRR1) == 0x0040_0402
    assert b.read(Offset.FRR) == 195 << 16 | 31 << 8 | 2
    for offset in (Offset.BRR1, Offset.FRR, Offset.VIR, Offset.EISR):
        before = b.read(offset)
        b.write(offset, 0x1234_5678)
        assert b.read(offset) == before


def test_narrow_reads_get_their_part_and_narrow_writes_nothing(pic):
    pic.write(Offset.SPVE, 0x1234)
    assert pic.mpic.read(Offset.SPVE + 2, 2) == 0x1234
    assert pic.mpic.read(Offset.SPVE + 3, 1) == 0x34
    assert pic.mpic.read(Offset.SPVE + 3, 2) == 0
    pic.mpic.write(Offset.SPVE + 3, 1, 0xFF)
    pic.mpic.write(Offset.SPVE + 2, 4, 0xFF)
    assert pic.read(Offset.SPVE) == 0x1234
    assert pic.mpic.counters.unknown == {Offset.SPVE + 2: 1, Offset.SPVE + 3: 1}


def test_global_reset_ends_at_once_and_forgets_everything_but_the_pins(pic):
    fresh = Mpic("fresh", 2, pic.clock).save()
    pic.source(42)
    pic.source(226)
    pic.source(80, ilr=1)
    pic.mpic.msi(2 << 5)
    pic.mpic.line(80).set(True)
    pic.mpic.line(42).set(True)
    pic.iack()
    start(pic, 0, 1000)
    pic.write(Offset.GCR, 0xE000_0000)
    assert pic.read(Offset.GCR) == 0
    assert pic.lines() == 0
    pic.mpic.line(42).set(False)
    pic.mpic.line(80).set(False)
    assert pic.mpic.save() == fresh


def test_pin_asserted_through_a_reset_interrupts_after_it(pic):
    pic.mpic.line(42).set(True)
    pic.mpic.reset()
    pic.ready()
    pic.source(42)
    assert pic.iack() == 42


# ---- timers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 3, 4, 7])
def test_timer_interrupts_every_period_and_toggles(pic, n):
    start(pic, n, 250_000)  # 10 ms
    assert pic.read(timer(n)) == 250_000
    pic.clock.advance(9_999_999)
    assert pic.lines() == 0 and pic.read(timer(n)) == 1
    pic.clock.advance(1)
    assert pic.lines() == 1 and pic.iack() == 0x200 + n
    assert pic.read(timer(n)) == TOGGLE | 250_000
    pic.eoi()
    assert pic.lines() == 0
    pic.clock.advance(10_000_000)
    assert pic.iack() == 0x200 + n
    assert pic.read(timer(n)) == 250_000


def test_timer_interrupts_all_its_destinations(pic):
    start(pic, 2, 100_000, cpus=3)
    pic.clock.advance(100_000 * TICK)
    assert pic.iack(1) == pic.iack(0) == 0x202


def test_stopped_timer_keeps_its_count_and_starts_from_its_base(pic):
    start(pic, 1, 1000)
    pic.clock.advance(400 * TICK)
    pic.write(timer(1) + Offset.TBCR, STOP | 5000)
    pic.clock.advance(9999 * TICK)
    assert pic.read(timer(1)) == 600
    pic.write(timer(1) + Offset.TBCR, 5000)
    assert pic.read(timer(1)) == 5000


def test_new_base_of_a_running_timer_counts_from_its_next_turn(pic):
    start(pic, 1, 10_000)
    pic.write(timer(1) + Offset.TBCR, 30_000)
    pic.clock.advance(9_000 * TICK)
    assert pic.read(timer(1)) == 1_000
    pic.clock.advance(1_000 * TICK)
    assert pic.iack() == 0x201 and pic.read(timer(1)) == TOGGLE | 30_000


def test_timer_without_a_base_never_expires(pic):
    start(pic, 0, 0)
    pic.clock.advance(10**12)
    assert pic.lines() == 0 and pic.read(timer(0)) == 0


def test_clock_ratio_slows_the_group_it_belongs_to(pic):
    pic.write(0x2300, 0x300)
    start(pic, 0, 1000)
    start(pic, 4, 1000)
    pic.clock.advance(800 * TICK)
    assert pic.read(timer(0)) == 200
    assert pic.read(timer(4)) == 900


def test_cascaded_timer_counts_expiries_of_the_one_before(pic):
    pic.write(0x1300, 0b011)
    pic.write(timer(0) + Offset.TBCR, 10_000)
    pic.write(timer(1) + Offset.TBCR, 3)
    start(pic, 2, 2)
    pic.clock.advance(59_999 * TICK)
    assert pic.read(timer(2)) == 1 and pic.read(timer(1)) & ~TOGGLE == 1 and pic.lines() == 0
    pic.clock.advance(TICK)
    assert pic.iack() == 0x202


def test_timer_that_rolls_over_counts_all_its_bits(pic):
    pic.write(0x1300, 1 << 24)
    start(pic, 0, 10)
    pic.clock.advance(25 * TICK)
    assert pic.read(timer(0)) == TOGGLE | (1 << 31) - 15


def test_masked_timer_needs_no_appointment_and_stays_pending(pic):
    start(pic, 0, 1000)
    pic.write(timer(0) + Offset.TVPR, MASK | 9 << 16 | 0x200)
    pic.mpic.service()
    pic.clock.advance(5000 * TICK)
    pic.write(timer(0) + Offset.TVPR, 9 << 16 | 0x200)
    assert pic.iack() == 0x200


def test_shortest_timer_does_not_keep_the_host_busy(pic):
    start(pic, 0, 1)
    calls = []
    original = pic.clock.call_at
    pic.clock.call_at = lambda ns, fn: (calls.append(ns), original(ns, fn))[1]
    pic.clock.advance(10_000_000)
    assert 0 < len(calls) <= 10_000_000 // SHORTEST_WAIT_NS
    assert pic.iack() == 0x200


def test_timer_runs_on_the_host_clock(addresses):
    clock = HostClock()
    mpic = Mpic("mpic", 1, clock)
    mpic.bind_addresses(addresses)
    mpic.write(Offset.GCR, 4, 0x2000_0000)
    mpic.write(Offset.CTPR, 4, 0)
    mpic.write(timer(0) + Offset.TVPR, 4, 5 << 16 | 77)
    began = clock.now_ns()
    mpic.write(timer(0) + Offset.TBCR, 4, 50_000)  # 2 ms
    while mpic.state.cpus[0].outputs == 0 and clock.now_ns() < began + 5_000_000_000:
        pass
    assert clock.now_ns() - began >= 2_000_000
    assert mpic.acknowledge(0) == 77
    clock.close()


# ---- cores, saving -------------------------------------------------------------------------------------------------


def test_core_reset_holds_and_releases_as_linux_does(pic):
    pic.write(Offset.PIR, pic.read(Offset.PIR) | 2)
    assert pic.read(Offset.PIR) == 2 and pic.mpic.core_held(1)
    assert pic.words[1].requests & Notify.KICK
    pic.write(Offset.PIR, pic.read(Offset.PIR) & ~2)
    assert pic.resets == [(1, True), (1, False)]
    pic.write(Offset.PIR, 0xFFFF_FFFC)
    assert pic.read(Offset.PIR) == 0 and len(pic.resets) == 2


def test_short_core_reset_made_by_native_code_is_told_in_order(pic):
    for value in (2, 0, 3):
        pic.mpic._call("write", Offset.PIR, value, 0)
    assert pic.words[0].requests & Notify.KICK and pic.mpic.events
    pic.mpic.service()
    assert pic.resets == [(0, True), (1, True)]
    pic.mpic._call("write", Offset.PIR, 0, 0)
    pic.mpic.service()
    assert pic.resets[2:] == [(0, False), (1, False)]
    assert not pic.mpic.events


def test_saved_state_continues_elsewhere(bench_of):
    a = bench_of(2).ready()
    for source, priority in ((42, 5), (3, 9)):
        a.source(source, priority)
    a.ipi(2)
    start(a, 5, 1000)
    a.mpic.line(42).set(True)
    a.iack()
    a.mpic.line(3).set(True)
    a.mpic.line(3).set(False)
    a.write(Offset.IPIDR + 0x20, 3)
    a.clock.advance(300 * TICK)
    b = bench_of(2)
    b.mpic.restore(a.mpic.save())
    assert b.mpic.save() == a.mpic.save()
    assert [b.lines(cpu) for cpu in (0, 1)] == [1, 1]
    assert [b.iack(), b.iack(), b.iack()] == [0x102, SPURIOUS, SPURIOUS]
    b.eoi()
    assert b.iack() == 3
    b.eoi()
    b.mpic.line(42).set(False)
    b.eoi()
    b.clock.advance(700 * TICK + SHORTEST_WAIT_NS)
    assert b.iack() == 0x205


@pytest.mark.parametrize(
    ("part", "message"),
    [({"warp": 1}, "warp"), ({"cpus": {"ctpr": [1]}}, "cpus.ctpr"), ({"gcr": "x"}, "gcr"), ({"cpu_count": 3}, "3 CPUs"),
     ({"cpus": {"service": [[999] * 16] * 2}}, "do not exist"), ({"cpus": {"in_service": [1 << 16] * 2}}, "do not")],
)  # fmt: skip
def test_state_of_another_shape_is_refused_and_nothing_changes(pic, part, message):
    pic.source(42)
    before = pic.mpic.save()
    with pytest.raises(ValueError, match=message):
        pic.mpic.restore({**before, **part})
    assert pic.mpic.save() == before


def test_detached_cpu_is_left_alone(pic):
    pic.source(42)
    pic.mpic.line(42).set(True)
    pic.mpic.detach(0)
    assert pic.lines() == 0
    pic.words[0].requests = 0
    pic.mpic.line(42).set(False)
    pic.mpic.line(42).set(True)
    assert pic.words[0].requests == 0
    pic.words[0].attach_to(pic.mpic, 0)
    assert pic.lines() == 1


@pytest.mark.parametrize("cpus", [0, 33])
def test_impossible_cpu_count_is_refused(cpus, bench_of):
    with pytest.raises(ValueError, match="1 to 32"):
        bench_of(cpus)


def test_absent_lines_are_refused(pic):
    for line, number in ((pic.mpic.line, 256), (pic.mpic.error_line, 32)):
        with pytest.raises(ValueError, match=str(number)):
            line(number)
