"""msgsnd and msgclr, hardware threads, waking and sleeping."""

from __future__ import annotations

import threading
import time

import pytest

from powervisor.isa.registers import IVOR, MSR, MSRP, SPR, TMR
from powervisor.vcpu.locks import sleep, wake
from powervisor.vcpu.state import Doorbell, ExitReason, Mode, Request

BRDCAST = 0x0400_0000


def message(kind: int, pir: int = 0, lpid: int = 0, flags: int = 0) -> int:
    """The operand of msgsnd."""
    return kind << 27 | lpid << 14 | pir | flags


def rung(bench) -> list[int]:
    """Doorbells of every vCPU."""
    return [int(cpu.doorbells) for cpu in bench.cpus]


@pytest.mark.parametrize(("kind", "bit"), [(0, Doorbell.DBELL), (1, Doorbell.CRITICAL)])
def test_a_message_reaches_the_processor_it_names(make, kind, bit):
    bench = make("e500mc", 4)
    bench.do("msgsnd r4", r4=message(kind, 2))
    assert rung(bench) == [0, 0, bit, 0]
    assert bench.cpus[2].requests & Request.LINES


def test_a_broadcast_reaches_all(make):
    bench = make("e5500", 3)
    bench.do("msgsnd r4", r4=message(0, 9, flags=BRDCAST))
    assert rung(bench) == [Doorbell.DBELL] * 3


@pytest.mark.parametrize(
    ("lpid", "pir", "flags", "reached"),
    [(1, 5, 0, [1]), (0, 5, 0, [1, 2]), (1, 0, BRDCAST, [1, 3]), (2, 5, 0, [2]), (2, 0, BRDCAST, [2])],
)
def test_guest_messages_go_by_partition_and_guest_processor(make, lpid, pir, flags, reached):
    bench = make("e5500", 4)
    for n, (own_lpid, gpir) in enumerate(((0, 0), (1, 5), (2, 5), (1, 6))):
        bench.cpus[n].spr[SPR.LPIDR], bench.cpus[n].spr[SPR.GPIR] = own_lpid, gpir
    bench.do("msgsnd r4", r4=message(2, pir, lpid, flags))
    assert [n for n, bits in enumerate(rung(bench)) if bits == Doorbell.GUEST] == reached


def test_messages_of_undefined_types_reach_nobody(make):
    bench = make("e5500", 2)
    for kind in range(5, 32):
        bench.do("msgsnd r4", r4=message(kind, flags=BRDCAST) & 0xFFFF_FFFF)
    assert rung(bench) == [0, 0]


def test_a_message_to_oneself_interrupts_at_once_when_enabled(make):
    bench = make("e6500")
    bench.msr(MSR.EE)
    bench.do("msgsnd r4", r4=message(0, 0))
    assert bench.taken() == IVOR.DOORBELL
    assert bench.cpu.spr[SPR.SRR0] == 0x1004


def test_msgclr_forgets_a_pending_message_of_its_type(make):
    bench = make("e5500")
    bench.cpu.doorbells = Doorbell.DBELL | Doorbell.GUEST
    bench.do("msgclr r4", r4=message(0))
    assert bench.cpu.doorbells == Doorbell.GUEST


# ---- threads -------------------------------------------------------------------------------------------------------


def test_thread_0_starts_its_sibling(make):
    bench = make("e6500", 2, 2)
    first, second = bench.cpus
    assert not first.disabled and second.disabled
    assert bench.read(SPR.TENSR) == 1
    bench.do(f"mttmr {TMR.IMSR1},r3", r3=MSR.CM | MSR.ME)
    bench.do(f"mttmr {TMR.INIA1},r3", r3=0xC000_0000_0000_0100)
    second.requests = 0
    bench.write(SPR.TENS, 2)
    assert second.disabled == 0 and second.requests & Request.KICK
    assert (second.pc, second.msr) == (0xC000_0000_0000_0100, MSR.CM | MSR.ME)
    assert second.mode & Mode.CM
    assert bench.read(SPR.TENSR) == 3


def test_a_guest_that_was_stopped_becomes_the_hypervisors_thread(side):
    """What its MSR[GS], MSRP and `wait` were is no matter."""
    bench = side("e6500", 2, 2)
    second = bench.cpus[1]
    second.disabled, second.waiting, second.msr = 2, 1, MSR.GS | MSR.DE
    second.spr[SPR.MSRP] = MSRP.DEP
    bench.do(f"mttmr {TMR.IMSR1},r3", r3=MSR.ME)
    bench.do(f"mttmr {TMR.INIA1},r3", r3=0x2000)
    assert (second.pc, second.msr, second.mode & Mode.GS, second.waiting) == (0x2000, MSR.ME, 0, 0)


def test_a_thread_stops_its_sibling_and_sees_it(make):
    bench = make("e6500", 2, 2)
    bench.write(SPR.TENS, 2)
    bench.cpus[1].requests = 0
    bench.write(SPR.TENC, 2)
    assert bench.cpus[1].requests & Request.KICK
    assert bench.read(SPR.TENSR) == 3  # not yet
    sleep(bench.cpus[1], 0)
    assert bench.read(SPR.TENSR) == 1


def test_a_thread_that_stops_itself_leaves_after_the_instruction(make):
    bench = make("e6500", 2, 2)
    bench.do("mtspr 439,r3", r3=1)
    assert bench.cpu.disabled and bench.cpu.exit_reason == ExitReason.THREADS
    assert bench.cpu.pc == 0x1004


def test_the_address_of_a_running_thread_is_left_alone(make):
    bench = make("e6500", 2, 2)
    bench.do(f"mttmr {TMR.INIA0},r3", r3=0x8000)
    assert bench.cpu.pc == 0x1004
    assert bench.do(f"mftmr r3,{TMR.INIA0}") == 0x8000


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_told(make, threads):
    bench = make("e6500", threads, threads)
    assert bench.do(f"mftmr r3,{TMR.TMCFG0}") == threads | threads << 8
    assert [int(cpu.spr[SPR.TIR]) for cpu in bench.cpus] == list(range(threads))
    bench.write(SPR.TENS, 2)
    assert bench.read(SPR.TENSR) == (3 if threads == 2 else 1)


def test_thread_registers_are_the_hypervisors_and_e6500s(make):
    bench = make("e6500")
    bench.msr(MSR.GS)
    assert bench.outcome(f"mftmr r3,{TMR.TMCFG0}") == IVOR.HYPERVISOR_PRIVILEGE
    bench.msr(0)
    assert bench.outcome("mftmr r3,17") == IVOR.PROGRAM
    assert make("e5500").oracle.table.decode(0x7C60_02DC) is None


# ---- sleeping ------------------------------------------------------------------------------------------------------


def test_a_sleeper_is_woken_by_a_request(make):
    bench = make("e5500")
    bench.cpu.requests = 0
    sleeper = threading.Thread(target=sleep, args=(bench.cpu, 20 * 10**9))
    sleeper.start()
    while not bench.cpu.asleep:
        time.sleep(0.001)
    wake(bench.cpu, Request.LINES)
    sleeper.join(5)
    assert not sleeper.is_alive() and not bench.cpu.asleep
    assert bench.cpu.requests == Request.LINES


def test_nobody_falls_asleep_over_a_request(make):
    bench = make("e5500")
    bench.cpu.requests = Request.KICK
    before = time.monotonic()
    sleep(bench.cpu, 20 * 10**9)
    assert time.monotonic() - before < 5


def test_sleep_ends_with_its_time(make):
    bench = make("e5500")
    bench.cpu.requests = 0
    before = time.monotonic()
    sleep(bench.cpu, 20_000_000)
    assert 0.015 < time.monotonic() - before < 5
