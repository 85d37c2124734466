"""The same machine with the same input does the same, whatever the host does meanwhile."""

from __future__ import annotations

import time
from itertools import cycle
from typing import Any

import pytest

from powervisor import Machine, Outcome
from powervisor.errors import UserError
from powervisor.machine.timing import Timing
from tests.deterministic.programs import BUSY, ECHO
from tests.system.bare import bare_machine, results

COUNT = 300_000


def outcome_of(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = machine.statistics()["deterministic"]
    return found


def busy(pieces: tuple[int, ...] = (COUNT,), **options: Any) -> tuple[dict[str, Any], tuple[int, ...]]:
    """What two CPUs come to when the first executes COUNT instructions, piece by piece."""
    with bare_machine(BUSY, cores=2, **{"deterministic": True, **options}) as machine:
        left = COUNT
        for piece in cycle(pieces):
            if left <= 0:
                return outcome_of(machine), results(machine, 9)
            machine.run(instructions=min(piece, left))
            left -= piece
    raise AssertionError


@pytest.fixture(scope="module")
def expected() -> tuple[dict[str, Any], tuple[int, ...]]:
    return busy()


def test_interrupts_locks_and_sleep_come_where_they_came(expected):
    statistics, words = expected
    assert statistics["instructions"][0] == COUNT and statistics["instructions"][1] > 5_000
    assert words[4] > 300 and words[6] > 10 and words[8] > 10_000
    assert busy() == expected


@pytest.mark.parametrize("tier1", ["off", "force", "eager"])
def test_how_code_is_executed_makes_no_difference(tier1, expected, monkeypatch):
    monkeypatch.setenv("POWERVISOR_TIER1", tier1)
    assert busy() == expected


@pytest.mark.parametrize("pieces", [(1, 7777), (50_001,), (999, 3, 20_000)])
def test_where_it_was_held_makes_no_difference(pieces, expected):
    assert busy(pieces) == expected


def test_a_machine_on_its_own_thread_goes_the_same_way(expected):
    with bare_machine(BUSY, cores=2, deterministic=True) as machine:
        lockstep = machine.lockstep
        machine.run(seconds=0.05)
        position, executed = lockstep.position, list(lockstep.executed)
        words, hash_ = results(machine, 9), outcome_of(machine)["hash"]
        assert executed[0] > 10_000
    with bare_machine(BUSY, cores=2, deterministic=True) as machine:
        machine.hold()
        machine.lockstep.go_to(position)
        assert (machine.lockstep.executed, results(machine, 9), outcome_of(machine)["hash"]) == (executed, words, hash_)


@pytest.mark.parametrize("options", [{"ns": 3}, {"quantum": 500}, {"quantum": 100_000}])
def test_time_and_turns_are_as_they_are_asked_for(options):
    timing = Timing(**options)
    statistics, words = busy(deterministic=timing)
    assert busy(deterministic=timing) == (statistics, words)
    assert statistics["guest-ns"] >= (COUNT - timing.quantum) * timing.ns
    ticks = statistics["guest-ns"] * 2 // 5
    assert words[4] == pytest.approx(ticks / 311, rel=0.05, abs=3)


SLEEPER = """
    vector 410, tick
    load32 r3, PERIOD
    mtspr 54, r3
    mtspr 22, r3
    load32 r3, 0x04400000
    mtspr 340, r3
    load32 r7, RESULTS
    wrteei 1
1:  wait
    b     1b
    .balign 16
tick:
    lwz   r4, 0(r7)
    addi  r4, r4, 1
    stw   r4, 0(r7)
    lis   r4, 0x0800
    mtspr 336, r4
    rfi
"""


SECOND = 400_000_000
"""Ticks of the time base."""


def sleeper(period: int) -> str:
    return SLEEPER.replace("PERIOD", str(period))


def test_time_goes_at_once_to_what_a_sleeping_guest_waits_for():
    with bare_machine(sleeper(SECOND), deterministic=True) as machine:
        machine.run(instructions=8 * 3600)
        assert results(machine, 1)[0] == pytest.approx(3600, abs=3)
        assert outcome_of(machine)["guest-ns"] == pytest.approx(3600 * 10**9, rel=1e-3)


def test_the_hosts_time_passes_with_a_sleeping_guests_where_that_is_asked_for():
    with bare_machine(sleeper(SECOND // 10), deterministic=Timing(sleep=True)) as machine:
        begin = time.monotonic()
        machine.start()
        while results(machine, 1)[0] < 5:
            assert machine.wait(0.01) is None
        assert time.monotonic() - begin >= 0.4
        machine.hold()
        position, outcome = machine.lockstep.position, outcome_of(machine)
    with bare_machine(sleeper(SECOND // 10), deterministic=True) as machine:
        machine.hold()
        machine.lockstep.go_to(position)
        assert outcome_of(machine) == outcome


def test_a_guest_that_waits_for_ever_can_still_be_stopped():
    with bare_machine("1: wait\n b 1b", deterministic=True) as machine:
        assert machine.run(seconds=0.3) is None
        assert machine.lockstep.executed == [1]


def test_the_built_in_guest_says_the_same_twice():
    def said() -> tuple[str, dict[str, Any]]:
        with Machine(cores=2, cpu="e500mc", append="poweroff", deterministic=True) as machine:
            assert machine.run(instructions=20_000_000) == Outcome("poweroff")
            return machine.console.text, outcome_of(machine)

    text, statistics = said()
    assert "poweroff" in text
    assert said() == (text, statistics)


def test_input_comes_between_rounds_and_goes_back_where_it_came_from():
    taken = []
    with bare_machine(ECHO, serial=[None], deterministic=True) as machine:
        machine.lockstep.inputs.on_take = taken.append
        machine.start()
        machine.console.send("hello, world\n")
        machine.console.expect("hello, world\n", timeout=20)
        machine.hold()
        assert b"".join(input_.data for input_ in taken) == b"hello, world\n"
        assert all(input_.source == "serial0" and input_.executed[0] > 0 for input_ in taken)


@pytest.mark.parametrize(
    ("name", "word"),
    [("virtfs", "local,path=/,mount_tag=t"), ("fsdevs", "local,id=f,path=/")],
)
def test_what_is_never_the_same_twice_is_refused(name, word):
    with pytest.raises(UserError, match=f"{name} {word}: what comes from there is not the same twice"):
        Machine(**{name: [word]}, deterministic=True)


def test_the_reset_button_is_input_too():
    source = """
        load32 r7, RESULTS
        lwz   r4, 0(r7)
        addi  r4, r4, 1
        stw   r4, 0(r7)
    1:  b     1b
    """
    taken = []
    with bare_machine(source, deterministic=True) as machine:
        machine.lockstep.inputs.on_take = taken.append
        machine.run(instructions=50_000)
        machine.reset()
        machine.run(instructions=50_000)
        assert results(machine, 1) == (2,)
        assert [input_.source for input_ in taken] == ["reset button"]


def test_fpscr_is_whole_however_an_instruction_was_executed():
    source = """
    mfmsr r3
    ori   r3, r3, 0x2000
    mtmsr r3
    load32 r4, RESULTS
    load32 r5, 0x3FD55555      # a double near 1/3
    stw   r5, 0(r4)
    stw   r5, 4(r4)
    lfd   f1, 0(r4)
    fmul  f2, f1, f1
    b     .
    """

    def fpscr(*counts: int) -> int:
        with bare_machine(source) as machine:
            for count in counts:
                machine.run(instructions=count)
            return machine.vcpus[0].regs["fpscr"]

    assert fpscr(2000) == fpscr(*[1] * 20) & 0xFFFF_FFFF
    assert fpscr(2000) & 0x0002_0000  # FI: the product was rounded
