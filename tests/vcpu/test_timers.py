"""Time base, decrementer, fixed-interval timer and watchdog, with a clock by hand: 400 MHz, 2.5 ns a tick."""

from __future__ import annotations

import pytest

from powervisor.isa.registers import DBCR0, DBSR, IVOR, MSR, SPR, TCR, TSR
from powervisor.translate.dispatch import SHORTEST_SLICE, SLICE, service
from powervisor.vcpu.locks import FOREVER
from powervisor.vcpu.state import ExitReason, Request
from powervisor.vcpu.timers import NEVER, idle_timeout_ns, ticks


def period(bit: int) -> int:
    """TCR[FP, FPEXT] and TCR[WP, WPEXT] that watch a time base bit (0: most significant)."""
    return (bit & 3) << 24 | (bit >> 2) << 13 | (bit & 3) << 30 | (bit >> 2) << 17


def test_the_time_base_counts_the_hosts_clock_exactly(bench):
    day = 86400
    for ns, expected in (
        (0, 0), (2, 0), (3, 1), (5, 2), (10**9, 400_000_000), (day * 10**9 + 7, day * 400_000_000 + 2),
    ):  # fmt: skip
        bench.vm.fixed_ns = ns
        assert ticks(bench.cpu) == expected
    bench.vm.timebase_hz = 33_333_333  # a frequency that divides nothing
    bench.vm.fixed_ns = 3600 * 10**9 - 1
    assert ticks(bench.cpu) == 33_333_333 * 3600 - 1


def test_the_clock_starts_with_the_machine_and_stops_while_it_is_held(bench):
    bench.vm.timebase_start, bench.vm.clock_pause, bench.vm.fixed_ns = 1000, 500, 2000
    assert ticks(bench.cpu) == 200


def test_both_halves_of_the_time_base_are_readable_and_writable(bench):
    bench.write(SPR.TBL_WRITE, 0)
    bench.write(SPR.TBU_WRITE, 0x12)
    bench.write(SPR.TBL_WRITE, 0xFFFF_FFFE)
    bench.after(3)
    assert bench.read(SPR.TBU) == 0x13
    assert bench.do("mftb r3,269") == 0x13
    low = bench.do("mftb r3,268")
    assert low == (0x13_0000_0001 if bench.core.bits == 64 else 1)
    assert bench.read(SPR.TBL) == low


def test_the_alternate_time_base_does_not_follow_writes(bench):
    bench.vm.fixed_ns = 2500
    bench.write(SPR.TBL_WRITE, 0)
    assert bench.read(SPR.ATBL) == 1000


def test_threads_share_the_time_base(make):
    bench = make("e6500", 2, 2)
    bench.write(SPR.TBL_WRITE, 5000)
    bench.use(1)
    assert bench.read(SPR.TBL) == 5000


def test_writing_the_time_base_moves_the_timers_of_the_other_thread_too(make):
    bench = make("e6500", 2, 2)
    other = bench.use(1)
    bench.write(SPR.TCR, period(50) & (TCR.FP | TCR.FPEXT))
    bench.use(0)
    other.requests = 0
    bench.write(SPR.TBL_WRITE, (1 << 13) - 5)
    assert other.requests & Request.LINES  # it may be asleep until its old deadline
    bench.use(1)
    bench.poll()
    assert idle_timeout_ns(other) == 13  # 5 ticks
    bench.after(5)
    assert bench.read(SPR.TSR) & TSR.FIS


def test_the_decrementer_interrupts_once_and_stays_zero(bench):
    bench.msr(MSR.EE)
    bench.write(SPR.TCR, TCR.DIE)
    bench.write(SPR.DEC, 100)
    bench.after(99)
    assert bench.read(SPR.DEC) == 1
    assert bench.taken() is None
    bench.after(1)
    assert bench.taken() == IVOR.DECREMENTER
    assert bench.read(SPR.TSR) == TSR.DIS
    bench.after(1000)
    assert bench.read(SPR.DEC) == 0
    bench.write(SPR.TSR, TSR.DIS)
    bench.after(1 << 33)
    assert bench.read(SPR.TSR) & TSR.DIS == 0


def test_writing_zero_to_the_decrementer_stops_it(bench):
    bench.write(SPR.DEC, 50)
    bench.write(SPR.DEC, 0)
    bench.after(1 << 34)
    assert bench.read(SPR.TSR) & TSR.DIS == 0


def test_auto_reload_keeps_the_beat_however_late_it_is_noticed(bench):
    bench.write(SPR.DECAR, 1000)
    bench.write(SPR.TCR, TCR.ARE)
    bench.write(SPR.DEC, 1000)
    bench.after(3250)
    assert bench.read(SPR.DEC) == 750
    assert bench.read(SPR.TSR) == TSR.DIS
    bench.write(SPR.TSR, TSR.DIS)
    assert bench.read(SPR.TSR) == 0
    bench.after(750)
    assert bench.read(SPR.TSR) == TSR.DIS


def test_the_decrementer_interrupts_a_guest_whatever_its_ee(bench):
    bench.write(SPR.TCR, TCR.DIE)
    bench.write(SPR.DEC, 10)
    bench.msr(MSR.GS)
    bench.after(10)
    assert bench.taken() == IVOR.DECREMENTER


@pytest.mark.parametrize("bit", [63, 50, 40])
def test_the_fixed_interval_timer_follows_a_time_base_bit(bench, bit):
    half = 1 << 63 - bit
    bench.msr(MSR.EE)
    bench.write(SPR.TCR, period(bit) & (TCR.FP | TCR.FPEXT) | TCR.FIE)
    if half > 1:
        bench.after(half - 1)
        assert bench.taken() is None
    bench.after(1)
    assert bench.taken() == IVOR.FIT
    bench.write(SPR.TSR, TSR.FIS)
    assert bench.read(SPR.TSR) & TSR.FIS == 0
    bench.after(2 * half)
    assert bench.read(SPR.TSR) & TSR.FIS


def test_the_fixed_interval_timer_moves_with_time_base_writes(bench):
    bench.write(SPR.TCR, period(50) & (TCR.FP | TCR.FPEXT))
    bench.write(SPR.TBL_WRITE, (1 << 13) - 5)
    bench.after(5)
    assert bench.read(SPR.TSR) & TSR.FIS


@pytest.mark.parametrize("core", ["e500mc", "e5500"])
def test_timers_stand_still_while_a_debug_event_is_recorded(make, core):
    bench = make(core)
    half = 1 << 63 - 50
    bench.write(SPR.TCR, period(50))
    bench.write(SPR.DEC, half + 100)
    bench.write(SPR.DBCR0, DBCR0.IDM | DBCR0.FT | DBCR0.TRAP)
    bench.after(50)
    bench.do("tw 31,r0,r0")  # MSR[DE]=0: recorded, a program interrupt
    assert bench.cpu.spr[SPR.DBSR] == DBSR.TRAP | DBSR.IDE
    bench.after(10 * half)
    assert (bench.read(SPR.TBL), bench.read(SPR.DEC), bench.read(SPR.TSR)) == (50, half + 50, 0)
    assert bench.read(SPR.ATBL) == 50 + 10 * half  # counts on
    assert idle_timeout_ns(bench.cpu) == FOREVER
    bench.write(SPR.DBSR, DBSR.TRAP)
    bench.after(100)
    assert bench.read(SPR.TBL) == 50  # IDE is left
    bench.write(SPR.DBSR, DBSR.IDE)
    bench.after(half - 51)
    assert (bench.read(SPR.TBL), bench.read(SPR.DEC), bench.read(SPR.TSR)) == (half - 1, 101, 0)
    bench.after(1)
    assert bench.read(SPR.TSR) == TSR.FIS | TSR.ENW
    bench.after(100)
    assert bench.read(SPR.TSR) == TSR.FIS | TSR.ENW | TSR.DIS


@pytest.mark.parametrize("core", ["e500mc", "e5500"])
def test_taking_back_the_freeze_lets_timers_go_on(make, core):
    bench = make(core)
    bench.write(SPR.DBSRWR, DBSR.ICMP | DBSR.MRR)
    bench.after(10)
    bench.write(SPR.DBCR0, DBCR0.FT)
    bench.after(1000)
    assert bench.read(SPR.TBL) == 10
    bench.write(SPR.DBCR0, 0)
    bench.after(7)
    assert bench.read(SPR.TBL) == 17
    bench.write(SPR.DBCR0, DBCR0.FT)
    bench.write(SPR.DBSRWR, DBSR.MRR)  # tells of a reset, is no event
    bench.after(3)
    assert bench.read(SPR.TBL) == 20


def test_an_e6500_whose_threads_share_the_time_base_does_not_freeze_it(make):
    bench = make("e6500")
    bench.write(SPR.DBCR0, DBCR0.FT)
    assert bench.read(SPR.DBCR0) == 0


def test_a_timer_whose_status_is_set_asks_for_no_more_wake_ups(bench):
    bench.write(SPR.TCR, period(60) & (TCR.FP | TCR.FPEXT))
    bench.after(100)
    assert bench.read(SPR.TSR) & TSR.FIS
    assert bench.cpu.next_deadline - ticks(bench.cpu) > 1 << 50


def test_the_watchdog_interrupts_and_then_resets(bench):
    half = 1 << 63 - 50
    bench.msr(MSR.CE)
    bench.write(SPR.TCR, period(50) & (TCR.WP | TCR.WPEXT) | TCR.WIE | 0x2000_0000)
    bench.after(half)
    assert bench.read(SPR.TSR) & (TSR.ENW | TSR.WIS) == TSR.ENW
    bench.after(2 * half)
    assert bench.taken() == IVOR.WATCHDOG
    assert bench.cpu.exit_reason == 0
    bench.after(2 * half)
    cpu = bench.cpu
    assert (cpu.exit_reason, cpu.exit_detail) == (ExitReason.WATCHDOG, 2)
    assert bench.cpu.spr[SPR.TSR] & TSR.WRS == 0x2000_0000
    assert bench.cpu.spr[SPR.TCR] & TCR.WRC == 0


def test_a_watchdog_that_is_served_does_nothing(bench):
    half = 1 << 63 - 50
    bench.write(SPR.TCR, period(50) & (TCR.WP | TCR.WPEXT) | TCR.WIE | 0x2000_0000)
    for _ in range(5):
        bench.after(2 * half)
        bench.write(SPR.TSR, TSR.ENW | TSR.WIS)
    assert bench.cpu.exit_reason == 0 and bench.taken() is None


def test_the_reset_choice_cannot_be_taken_back(bench):
    bench.write(SPR.TCR, 0x1000_0000)
    bench.write(SPR.TCR, 0x3000_0000 | TCR.DIE)
    assert bench.read(SPR.TCR) == 0x1000_0000 | TCR.DIE


def test_without_a_reset_choice_the_watchdog_ends_in_its_interrupt(bench):
    half = 1 << 63 - 50
    bench.write(SPR.TCR, period(50) & (TCR.WP | TCR.WPEXT))
    for _ in range(6):
        bench.after(2 * half)
    assert bench.cpu.exit_reason == 0
    assert bench.cpu.wdt_deadline == NEVER


def test_a_timer_that_is_due_soon_ends_the_time_slice_and_shortens_the_next(bench):
    for value, ends in ((400_000, 0), (4_000, Request.LINES)):  # 1 ms, 10 us
        bench.cpu.requests = 0
        bench.write(SPR.DEC, value)
        assert bench.cpu.requests & Request.LINES == ends
    bench.cpu.left = 1 << 40
    for after, granted in ((0, 10_000), (3_600, SHORTEST_SLICE), (3_999, SHORTEST_SLICE)):  # ticks
        bench.vm.fixed_ns = after * 5 // 2
        service(bench.cpu)
        assert bench.cpu.slice == bench.cpu.budget == granted
    bench.vm.fixed_ns = 10_000
    service(bench.cpu)
    assert bench.cpu.spr[SPR.TSR] & TSR.DIS and bench.cpu.slice > SLICE / 2


def test_an_idle_vcpu_sleeps_until_its_next_deadline(bench):
    assert idle_timeout_ns(bench.cpu) == FOREVER
    bench.write(SPR.DEC, 1000)
    assert idle_timeout_ns(bench.cpu) == 2500
    bench.vm.fixed_ns = 2499
    assert idle_timeout_ns(bench.cpu) == 3  # never a tick too early
    bench.vm.fixed_ns = 2500
    assert idle_timeout_ns(bench.cpu) == 0


def test_the_hosts_clock_is_used_when_there_is_one(make):
    from powervisor.vcpu.build import new_vm

    bench = make("e5500")
    bench.vm.clock_gettime = new_vm(0, 0).clock_gettime
    first = ticks(bench.cpu)
    assert ticks(bench.cpu) > first > 0
