"""What native code measures of a vCPU, and interrupts by kind; in this bench time stands still unless told."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from powervisor.hv.vcpu import INTERRUPTS
from powervisor.isa.registers import IVOR, MSR, SPR, TCR, TSR
from powervisor.vcpu.state import GUEST_TAKES, Line
from powervisor.vcpu.timing import Latency, VcpuTiming


@pytest.fixture
def timing(bench) -> Any:
    """The bench's first vCPU is measured; its clock is past 0."""
    made = VcpuTiming.new()
    bench.vm.fixed_ns = 1_000_000
    bench.cpu.timing = made.address
    yield made
    bench.cpu.timing = 0


def late(timing: Any, kind: int) -> list[int]:
    """Count and sum of what was late."""
    part = timing.latency[kind]
    return [int(part.count), int(part.total)]


def test_a_decrementer_is_late_from_its_deadline_on(bench, timing):
    bench.write(SPR.TCR, TCR.DIE)
    bench.write(SPR.DEC, 400)  # 1 us
    bench.after(4_400)  # 11 us
    assert bench.taken() is None  # disabled by MSR
    assert late(timing, Latency.DECREMENTER) == [0, 0]
    bench.vm.fixed_ns += 5_000
    bench.msr(MSR.EE)
    bench.poll()
    assert bench.taken() == IVOR.DECREMENTER
    assert late(timing, Latency.DECREMENTER) == [1, 15_000]


def test_a_decrementer_status_that_stays_set_counts_once(bench, timing):
    bench.write(SPR.TCR, TCR.DIE)
    bench.write(SPR.DEC, 400)
    bench.msr(MSR.EE)
    bench.after(800)
    bench.msr(MSR.EE)  # without TSR[DIS] cleared it comes again
    bench.after(800)
    assert bench.cpu.interrupts[IVOR.DECREMENTER] == 2
    assert late(timing, Latency.DECREMENTER)[0] == 1
    bench.do(f"mtspr {SPR.TSR},r3", r3=TSR.DIS)
    bench.write(SPR.DEC, 400)
    bench.msr(MSR.EE)
    bench.after(400)
    assert late(timing, Latency.DECREMENTER)[0] == 2


def test_the_fixed_interval_timer_and_the_watchdog_are_measured_too(bench, timing):
    def period(bit: int) -> int:
        return (bit & 3) << 24 | (bit >> 2) << 13 | (bit & 3) << 30 | (bit >> 2) << 17

    bench.write(SPR.TCR, TCR.FIE | TCR.WIE | period(63 - 8))
    bench.msr(MSR.EE | MSR.CE)
    bench.after(1_200)
    bench.msr(MSR.EE | MSR.CE)
    bench.after(1_200)
    assert late(timing, Latency.FIT)[0] == 1
    assert late(timing, Latency.WATCHDOG)[0] == 1


def test_a_doorbell_is_late_from_msgsnd_on(make):
    bench = make("e5500", 2, 1)
    timing, receiver = VcpuTiming.new(), bench.cpus[1]
    bench.vm.fixed_ns = 1_000_000
    receiver.timing = timing.address
    bench.use(0)
    bench.do("msgsnd r3", r3=1)
    bench.vm.fixed_ns += 300
    bench.do("msgsnd r3", r3=1)  # merges with the first
    bench.vm.fixed_ns += 300
    bench.use(1)
    bench.msr(MSR.EE, receiver)
    bench.poll()
    assert bench.taken() == IVOR.DOORBELL
    assert late(timing, Latency.DOORBELL) == [1, 600]
    receiver.timing = 0


def test_an_external_interrupt_asks_the_controller_since_when(bench, timing):
    asked: list[int] = []

    def taken(state: int, cpu: int) -> int:
        asked.append(cpu)
        return 777

    function = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)(taken)
    bench.vm.irqchip_taken = ctypes.cast(function, ctypes.c_void_p).value
    bench.cpu.lines = Line.EXTERNAL
    bench.msr(MSR.EE)
    bench.poll()
    bench.vm.irqchip_taken = 0
    assert asked == [0]
    assert late(timing, Latency.EXTERNAL) == [1, 777]


def test_interrupts_count_by_kind_whoever_looks(bench):
    bench.cpu.timing = 0
    before = int(bench.cpu.interrupts[IVOR.SYSTEM_CALL])
    bench.do("sc")
    assert bench.cpu.interrupts[IVOR.SYSTEM_CALL] == before + 1


def test_interrupts_in_the_guest_state_count_apart(bench):
    bench.msr(MSR.GS)
    bench.do("sc")
    counted = {n: int(bench.cpu.interrupts[n]) for n in range(128) if bench.cpu.interrupts[n]}
    assert counted == {IVOR.SYSTEM_CALL + GUEST_TAKES: 1}


def test_every_interrupt_has_a_name():
    numbers = {n for name, n in vars(IVOR).items() if name.isupper()}
    assert numbers == INTERRUPTS.keys()
    assert len(set(INTERRUPTS.values())) == len(INTERRUPTS)
