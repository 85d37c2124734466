"""Time base, decrementer, fixed-interval timer and watchdog (Book III-E, chapter 8).

A *tick* is one increment of the time base, counted since the machine's clock began, without those for which DBCR0[FT]
froze this core's timers. Deadlines are ticks; what a guest adds by writing its time base is in `Vcpu.tb_offset`.
"""

from __future__ import annotations

from ..isa.registers import DBCR0, DBSR, SPR, TCR, TSR
from ..native.ints import i32, i64, u32, u64
from ..native.lang import at, atomic_load, atomic_or, call_host, field_addr, native
from ..native.locks import give_way
from .locks import BILLION, FOREVER, sleep, wake
from .state import ExitReason, Request, Vcpu
from .timing import Latency, raised

NEVER = 0xFFFF_FFFF_FFFF_FFFF
CLOCK_MONOTONIC = 1
LONGEST_SLEEP = 1_000_000
"""Seconds; a longer sleep is for ever."""
WATCH_LIMIT = 50_000
"""Nanoseconds; who was woken within them watches so long next time."""


@native
def host_ns(cpu: Vcpu) -> i64:
    """The host's monotonic clock in nanoseconds; `Vm.fixed_ns` where the machine has no clock."""
    if cpu.vm.clock_gettime == 0:
        return cpu.vm.fixed_ns
    call_host(i32, cpu.vm.clock_gettime, u32(CLOCK_MONOTONIC), field_addr(cpu, "clock_time", 0))
    return cpu.clock_time[0] * BILLION + cpu.clock_time[1]


@native
def machine_ticks(cpu: Vcpu) -> u64:
    """Ticks of the machine's clock now; seconds and fraction apart, so that nothing is rounded twice or overflows."""
    ns = u64(host_ns(cpu) - cpu.vm.timebase_start - cpu.vm.clock_pause)
    hz = cpu.vm.timebase_hz
    return ns // BILLION * hz + ns % BILLION * hz // BILLION


@native
def ticks(cpu: Vcpu) -> u64:
    """Ticks of this core's timers now."""
    return cpu.frozen_tick if cpu.frozen else machine_ticks(cpu) - cpu.frozen_for


@native
def freeze_timers(cpu: Vcpu) -> None:
    """After DBSR or DBCR0 changed: with DBCR0[FT] all timers stand still while DBSR holds an event (PPC440 manual)."""
    wanted = u32(cpu.spr[SPR.DBCR0]) & DBCR0.FT != 0 and u32(cpu.spr[SPR.DBSR]) & ~u32(DBSR.MRR) != 0
    if wanted and cpu.frozen == 0:
        now = ticks(cpu)
        advance(cpu, now)
        cpu.frozen_tick = now
        cpu.frozen = u32(1)
    elif not wanted and cpu.frozen:
        cpu.frozen = u32(0)
        cpu.frozen_for = machine_ticks(cpu) - cpu.frozen_tick


@native
def timebase(cpu: Vcpu) -> u64:
    """The time base."""
    return ticks(cpu) + cpu.tb_offset


@native
def set_timebase(cpu: Vcpu, value: u64) -> None:
    """Write the time base, which the threads of a core share."""
    now = ticks(cpu)
    advance(cpu, now)
    cpu.tb_offset = value - now
    if cpu.sibling:
        other = at(Vcpu, cpu.sibling)
        other.tb_offset = value - now
        wake(other, u32(Request.LINES))  # `check_timers` finds its deadlines anew
    rearm(cpu, now)


# ---- deadlines -----------------------------------------------------------------------------------------------------


@native
def next_rise(cpu: Vcpu, now: u64, period: u32) -> u64:
    """Tick at which a time base bit (0: most significant) next changes from 0 to 1, NEVER when too far away."""
    bit = u64(1) << (63 - period)
    tb = now + cpu.armed_offset
    rise = ((tb - bit) & ~((bit << 1) - 1)) + bit * 3
    deadline = now + (rise - tb)
    return deadline if deadline > now else u64(NEVER)


@native(inline=True)
def soon(hz: u64) -> u64:
    """Ticks of about two time slices: a timer that is due before is waited for."""
    return hz >> 14


@native
def rearm(cpu: Vcpu, now: u64) -> None:
    """As `arm`, for a register that the guest wrote. In lockstep a timer due before the round ends, ends the turn."""
    arm(cpu, now)
    if cpu.vm.lockstep and cpu.exit_reason == 0 and cpu.frozen == 0 and cpu.next_deadline != NEVER:
        if cpu.next_deadline + cpu.frozen_for < cpu.vm.round_end:
            cpu.exit_reason = u32(ExitReason.KICK)


@native(inline=True)
def fit_period(tcr: u32) -> u32:
    """TCR[FPEXT] || TCR[FP]."""
    return tcr >> 11 & 0x3C | (tcr >> 24 & 3)


@native(inline=True)
def watchdog_period(tcr: u32) -> u32:
    """TCR[WPEXT] || TCR[WP]."""
    return tcr >> 15 & 0x3C | tcr >> 30


@native
def arm(cpu: Vcpu, now: u64) -> None:
    """Find the next deadline after TCR, TSR, DEC or the time base changed; one that changes nothing does not count."""
    tcr, tsr = u32(cpu.spr[SPR.TCR]), u32(cpu.spr[SPR.TSR])
    cpu.armed_offset = cpu.tb_offset
    first = u64(NEVER)
    if tsr & TSR.DIS == 0:
        first = cpu.dec_deadline
    cpu.fit_deadline = u64(NEVER)
    if tsr & TSR.FIS == 0:
        cpu.fit_deadline = next_rise(cpu, now, fit_period(tcr))
    cpu.wdt_deadline = u64(NEVER)
    if tsr & (TSR.ENW | TSR.WIS) != TSR.ENW | TSR.WIS or tcr & TCR.WRC:
        cpu.wdt_deadline = next_rise(cpu, now, watchdog_period(tcr))
    if cpu.fit_deadline < first:
        first = cpu.fit_deadline
    if cpu.wdt_deadline < first:
        first = cpu.wdt_deadline
    cpu.next_deadline = first
    if first - now < soon(cpu.vm.timebase_hz):
        atomic_or(u32, field_addr(cpu, "requests"), u32(Request.LINES))  # this time slice may be too long for it


@native
def watchdog_expired(cpu: Vcpu) -> None:
    """One expiry of the watchdog: enable next, then interrupt status, then the reset TCR[WRC] asks for."""
    tsr, tcr = u32(cpu.spr[SPR.TSR]), u32(cpu.spr[SPR.TCR])
    if tsr & TSR.ENW == 0:
        tsr |= TSR.ENW
    elif tsr & TSR.WIS == 0:
        tsr |= TSR.WIS
    elif tcr & TCR.WRC:
        tsr = (tsr & ~u32(TSR.WRS)) | (tcr & TCR.WRC)
        cpu.spr[SPR.TCR] = u64(tcr & ~u32(TCR.WRC))
        cpu.exit_reason = u32(ExitReason.WATCHDOG)
        cpu.exit_detail = tcr >> 28 & 3
    cpu.spr[SPR.TSR] = u64(tsr)


@native(cold=True)
def note_deadline(cpu: Vcpu, kind: u32, late: u64) -> None:
    """A timer's interrupt (Latency) was due so many ticks ago."""
    raised(cpu, kind, u64(host_ns(cpu)) - late * BILLION // cpu.vm.timebase_hz)


@native(cold=True)
def note_deadlines(cpu: Vcpu, now: u64) -> None:
    """Somebody wants to know which interrupts have come to be due by now."""
    tsr = u32(cpu.spr[SPR.TSR])
    if now >= cpu.dec_deadline and tsr & TSR.DIS == 0:
        note_deadline(cpu, u32(Latency.DECREMENTER), now - cpu.dec_deadline)
    if now >= cpu.fit_deadline and tsr & TSR.FIS == 0:
        note_deadline(cpu, u32(Latency.FIT), now - cpu.fit_deadline)
    if now >= cpu.wdt_deadline and tsr & TSR.WIS == 0:
        note_deadline(cpu, u32(Latency.WATCHDOG), now - cpu.wdt_deadline)


@native
def advance(cpu: Vcpu, now: u64) -> None:
    """Put into TSR, DEC and the deadlines what happened up to a tick."""
    if cpu.timing != 0:
        note_deadlines(cpu, now)
    if now >= cpu.dec_deadline:
        cpu.spr[SPR.TSR] = cpu.spr[SPR.TSR] | TSR.DIS
        reload = cpu.spr[SPR.DECAR]
        if cpu.spr[SPR.TCR] & TCR.ARE and reload != 0:
            late = now - cpu.dec_deadline
            cpu.dec_deadline = now + (reload - late % reload)
        else:
            cpu.dec_deadline = u64(NEVER)
    if now >= cpu.fit_deadline:
        cpu.spr[SPR.TSR] = cpu.spr[SPR.TSR] | TSR.FIS
    if now >= cpu.wdt_deadline:
        watchdog_expired(cpu)
    if now >= cpu.next_deadline:
        arm(cpu, now)


@native
def check_timers(cpu: Vcpu) -> u64:
    """Look at the clock; set the TSR bits of what expired and find the next deadline. How many ticks away that is."""
    if cpu.armed_offset == cpu.tb_offset and cpu.next_deadline == NEVER:
        return u64(NEVER)
    now = ticks(cpu)
    if cpu.armed_offset != cpu.tb_offset:
        advance(cpu, now)
        arm(cpu, now)
    elif now >= cpu.next_deadline:
        advance(cpu, now)
    return cpu.next_deadline - now


@native
def idle_timeout_ns(cpu: Vcpu) -> u64:
    """Nanoseconds until a timer changes TSR, 0 when one is due, FOREVER when none will."""
    if cpu.next_deadline == NEVER or cpu.frozen:
        return u64(FOREVER)
    now = ticks(cpu)
    if now >= cpu.next_deadline:
        return u64(0)
    hz = cpu.vm.timebase_hz
    left = cpu.next_deadline - now
    if left // hz > LONGEST_SLEEP:
        return u64(FOREVER)
    return left // hz * BILLION + (left % hz * BILLION + hz - 1) // hz


@native
def doze(cpu: Vcpu, timeout_ns: u64) -> None:
    """Sleep as `sleep` does, in a guest that waits. With other vCPUs, look at `requests` for a while before.

    Being woken by the host takes tens of microseconds. Looking pays where vCPUs answer each other, and stops when it
    was of no use.
    """
    if cpu.vm.vcpu_count == 1 or cpu.vm.clock_gettime == 0 or timeout_ns < WATCH_LIMIT:
        sleep(cpu, timeout_ns)
        return
    begin = host_ns(cpu)
    now = begin
    while atomic_load(u32, field_addr(cpu, "requests")) == 0 and now - begin < cpu.watch_ns:
        give_way(cpu.vm.futex)
        now = host_ns(cpu)
    spent = u64(now - begin)
    if timeout_ns == FOREVER:
        sleep(cpu, timeout_ns)
    elif timeout_ns > spent:  # a host that is busy may have kept this thread away until long after
        sleep(cpu, timeout_ns - spent)
    cpu.watch_ns = i64(WATCH_LIMIT) if host_ns(cpu) - begin < WATCH_LIMIT else cpu.watch_ns >> 1


# ---- registers -----------------------------------------------------------------------------------------------------


@native
def read_dec(cpu: Vcpu) -> u64:
    """DEC; it stays 0 after it expired without auto-reload."""
    now = ticks(cpu)
    advance(cpu, now)
    if cpu.dec_deadline == NEVER:
        return u64(0)
    return (cpu.dec_deadline - now) & 0xFFFF_FFFF


@native
def write_dec(cpu: Vcpu, value: u32) -> None:
    """Write DEC; writing 0 stops it and is no decrementer exception."""
    now = ticks(cpu)
    advance(cpu, now)
    cpu.dec_deadline = now + u64(value) if value else u64(NEVER)
    rearm(cpu, now)


@native
def write_tsr(cpu: Vcpu, ones: u32) -> None:
    """Clear the bits of TSR that are written as 1."""
    now = ticks(cpu)
    advance(cpu, now)
    cpu.spr[SPR.TSR] = cpu.spr[SPR.TSR] & ~u64(ones)
    rearm(cpu, now)


@native
def write_tcr(cpu: Vcpu, value: u32) -> None:
    """Write TCR; software cannot change WRC once it is not zero (EREF, TCR)."""
    now = ticks(cpu)
    advance(cpu, now)
    chosen = u32(cpu.spr[SPR.TCR]) & TCR.WRC
    if chosen:
        value = (value & ~u32(TCR.WRC)) | chosen
    cpu.spr[SPR.TCR] = u64(value)
    rearm(cpu, now)
