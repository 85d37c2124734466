"""Speed: loops of known length against the time base."""

from __future__ import annotations

from ....native.ints import u32, u64
from ....native.lang import Static, field_addr, native
from ..words import routine, say, the
from .console import divide
from .cpu import milliseconds, now, this
from .interrupts import send_ipi
from .kernels import FLOAT_OPERATIONS, INTEGER_STEPS, crc32
from .state import Board, Scratch, Team
from .team import PATIENCE_MS, SPIN, together, wait_for

TRIAL_TURNS = 10_000
AIM_MS = 40
"""How long a measurement takes, once the trial has warmed up the translator and told the speed."""
CRC_BYTES = 8192
COPY_BYTES = 4096
CALLS = 2000
MESSAGES = 200


@native
def rate(count: u64, ticks: u64) -> u32:
    """How many a second; ticks of the time base."""
    # In thousands of ticks, so that neither product nor divisor grows too long.
    quotient, _ = divide(count * u64(the(Board).timebase_hz // 1000), u32(ticks) if ticks != 0 else u32(1))
    return u32(quotient * 1000) if quotient < 4_000_000 else ~u32(0)


@native
def millions(count: u64, ticks: u64) -> u32:
    """How many millions a second."""
    quotient, _ = divide(count * u64(the(Board).timebase_hz // 1_000_000), u32(ticks) if ticks != 0 else u32(1))
    return u32(quotient)


@native
def run(name: Static, turns: u32) -> u64:
    """Ticks that some turns of an assembly loop take."""
    start = now()
    routine(u32, name, turns)
    return now() - start


@native
def enough(name: Static) -> u32:
    """Turns of an assembly loop that take about AIM_MS."""
    run(name, TRIAL_TURNS)
    ticks = run(name, TRIAL_TURNS)
    times, _ = divide(milliseconds(AIM_MS), u32(ticks) if ticks != 0 else u32(1))
    return TRIAL_TURNS * (u32(times) if times < 10_000 else u32(10_000)) + TRIAL_TURNS


@native
def measure_integer() -> u32:
    """Millions of instructions a second, on one CPU; returns the turns taken."""
    turns = enough("spin_integer")
    ticks = run("spin_integer", turns)
    say("  integer   {:>6} million instructions a second\n", millions(u64(turns) * INTEGER_STEPS, ticks))
    return turns


@native
def measure_together(turns: u32) -> None:
    """The same on all CPUs at once."""
    team = the(Team)
    if team.present < 2:
        return
    start = now()
    if together(SPIN, turns):
        total = u64(turns) * u64(team.present) * INTEGER_STEPS
        say("  {:>2} CPUs   {:>6} million instructions a second\n", team.present, millions(total, now() - start))


@native
def measure_float() -> None:
    """Millions of floating-point operations a second."""
    turns = enough("spin_float")
    ticks = run("spin_float", turns)
    say("  float     {:>6} million operations a second\n", millions(u64(turns) * FLOAT_OPERATIONS, ticks))


@native
def measure_memory() -> None:
    """Bytes read one by one by compiled code; bytes copied."""
    page = u32(field_addr(the(Scratch), "page"))
    start = now()
    crc32(page, CRC_BYTES)
    say("  crc-32    {:>6} MB a second\n", millions(u64(CRC_BYTES), now() - start))
    turns = u32(0)
    start = now()
    while now() - start < milliseconds(AIM_MS):
        routine(None, "copy_words", page + COPY_BYTES, page, u32(COPY_BYTES // 4))
        turns += 1
    say("  copy      {:>6} MB a second\n", millions(u64(turns) * COPY_BYTES, now() - start))


@native
def measure_interrupts() -> None:
    """System calls, and IPIs to itself through the controller."""
    cpu = this()
    start = now()
    for _ in range(CALLS):
        routine(None, "do_sc")
    say("  calls     {:>6} thousand a second\n", rate(u64(CALLS), now() - start) // 1000)
    counter = u32(field_addr(cpu, "ipis", 0))
    before = cpu.ipis[0]
    start = now()
    for n in range(MESSAGES):
        send_ipi(0, 1)
        wait_for(counter, before + n + 1, False, PATIENCE_MS)
    say("  ipis      {:>6} thousand a second\n", rate(u64(MESSAGES), now() - start) // 1000)


@native
def benchmark() -> None:
    """All measurements."""
    turns = measure_integer()
    measure_together(turns)
    measure_float()
    measure_memory()
    measure_interrupts()
