"""Tests of what comes by itself: decrementer, doorbells, and the MPIC's IPIs, timers and device interrupts."""

from __future__ import annotations

from ....devices.mpic_registers import IPIS
from ....devices.ns16550 import Ier
from ....isa.registers import TCR, TSR
from ....native.ints import u32, u64
from ....native.lang import field_addr, native
from ..words import peek, routine, say, the
from .checks import verdict
from .console import divide, enable_uart
from .cpu import milliseconds, now, this
from .interrupts import admit, send_ipi, start_timer
from .state import Board
from .team import PATIENCE_MS, wait_for

TICKS, PERIOD_MS = 20, 1
EXPIRIES, TIMER_COUNT = 4, 50_000
BIT_OF_SELF = 1
LONG = 0x7FFF_FFFF
"""Ticks until a decrementer expires that is not to."""


@native
def microseconds(ticks: u64) -> u32:
    """Ticks of the time base as microseconds."""
    quotient, _ = divide(ticks * 1000, the(Board).timebase_hz // 1000)
    return u32(quotient)


@native
def check_timebase() -> None:
    """It goes forward, and each read sees more or the same."""
    last = now()
    first = last
    backward = u32(0)
    for _ in range(1000):
        seen = now()
        if seen < last:
            backward += 1
        last = seen
    verdict(backward == 0 and last > first, "time base")
    say("1000 readings in {} us, {} of them backward\n", microseconds(last - first), backward)


@native
def check_decrementer() -> None:
    """With auto-reload (TCR[ARE]) interrupts keep coming, none too early."""
    cpu = this()
    period = u32(milliseconds(PERIOD_MS))
    ticks = u32(field_addr(cpu, "ticks"))
    routine(None, "set_tcr", u32(0))
    routine(None, "set_dec", u32(LONG))
    routine(None, "set_tsr", u32(TSR.DIS))
    first = cpu.ticks
    start = now()
    routine(None, "set_decar", period)
    routine(None, "set_tcr", u32(TCR.DIE | TCR.ARE))
    routine(None, "set_dec", period)  # last: an expiry before ARE is set would not reload
    end = start + milliseconds(PATIENCE_MS)
    while peek(u32, ticks) - first < TICKS and now() < end:
        routine(None, "relax")
    taken = now() - start
    routine(None, "set_decar", u32(0))
    routine(None, "set_tcr", u32(TCR.DIE))
    count = cpu.ticks - first
    verdict(count >= TICKS and taken >= milliseconds(PERIOD_MS) * (TICKS - 1), "decrementer")
    say("{} interrupts, one each ms, in {} us\n", count, microseconds(taken))


@native
def check_doorbell() -> None:
    """A message to itself."""
    cpu = this()
    before = cpu.doorbells
    routine(None, "send_doorbell", cpu.pir)
    came = wait_for(u32(field_addr(cpu, "doorbells")), before + 1, False, PATIENCE_MS)
    verdict(came, "doorbell")
    say("msgsnd to PIR {}\n", cpu.pir)


@native
def check_ipis() -> None:
    """Each IPI comes to the sender once; a task priority of 15 holds it back."""
    cpu = this()
    good = True
    for n in range(IPIS):
        counter = u32(field_addr(cpu, "ipis", n))
        before = peek(u32, counter)
        admit(15)
        send_ipi(n, BIT_OF_SELF)
        routine(None, "pause")
        held = peek(u32, counter) == before
        admit(0)
        came = wait_for(counter, before + 1, False, PATIENCE_MS)
        if not held or not came or peek(u32, counter) != before + 1:
            good = False
    verdict(good, "mpic ipi")
    say("{} IPIs to itself, held back by CTPR, then delivered\n", IPIS)


@native
def check_mpic_timer() -> None:
    """A global timer keeps interrupting; all it has to be is regular."""
    cpu = this()
    counter = u32(field_addr(cpu, "timer"))
    before = cpu.timer
    start = now()
    start_timer(0, TIMER_COUNT)
    came = wait_for(counter, before + EXPIRIES, False, PATIENCE_MS)
    taken = now() - start
    start_timer(0, 0)
    verdict(came, "mpic timer")
    say("{} expiries of {} counts in {} us\n", EXPIRIES, TIMER_COUNT, microseconds(taken))


@native
def check_uart() -> None:
    """The transmitter asks for more through the controller."""
    if the(Board).uart_source == 0:
        return
    cpu = this()
    before = cpu.uart
    enable_uart(Ier.transmit.mask)
    came = wait_for(u32(field_addr(cpu, "uart")), before + 1, False, PATIENCE_MS)
    enable_uart(Ier.receive.mask)
    verdict(came, "serial irq")
    say("source {}, transmitter empty\n", the(Board).uart_source)


@native
def check_time() -> None:
    """Timers of the core."""
    check_timebase()
    check_decrementer()


@native
def check_delivery() -> None:
    """Interrupts through the doorbell and the controller."""
    check_doorbell()
    check_ipis()
    check_mpic_timer()
    check_uart()
