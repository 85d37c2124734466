"""The MPIC's global timers. They are counted when looked at, and Python makes an appointment for the next expiry.

A timer counts from its base down to 0, then toggles TOG, interrupts and starts again; 25 MHz at the smallest clock
ratio, each step of TCR[CLKR] halves it. Everything here runs under the state's lock.
"""

from __future__ import annotations

from powervisor.devices.mpic_delivery import MASKED, update_input
from powervisor.devices.mpic_registers import TIMER_GROUPS, TIMERS_PER_GROUP, Tbcr, Tccr, Tcr
from powervisor.devices.mpic_state import TIMER0, MpicGroup, MpicState, MpicTimer
from powervisor.devices.mpic_timing import clock_ns
from powervisor.native.ints import u32, u64, u128
from powervisor.native.lang import native

TICK_NS = 40

INHIBIT = Tbcr.inhibit.mask
COUNT = Tbcr.count.mask
FULL_PERIOD = COUNT + 1
"""Counts of a timer that rolls over to all ones instead of its base (TCR[ROVR])."""
TOGGLE_SHIFT = Tccr.toggle.lo
FAR = 1 << 50
"""Ticks nobody waits for; sums and products of counts stop here."""
NEVER = 0xFFFF_FFFF_FFFF_FFFF


@native(inline=True)
def running(timer: MpicTimer) -> bool:
    """Whether a timer counts."""
    return bool(timer.base & INHIBIT == 0 and timer.base | timer.count)


@native(inline=True)
def cascaded(group: MpicGroup, i: u32) -> bool:
    """Whether timer i counts the expiries of timer i-1 instead of the clock."""
    return bool(i > 0 and group.tcr >> (i - 1 & 31) & 1)


@native(inline=True)
def period(group: MpicGroup, timer: MpicTimer, i: u32) -> u64:
    """Counts from one expiry to the next, 0 when there is no next."""
    if group.tcr >> (Tcr.roll_over.lo + i) & 1:
        return u64(FULL_PERIOD)
    return u64(timer.base & COUNT)


@native(inline=True)
def tick_ns(group: MpicGroup) -> u64:
    """Length of a tick by TCR[CLKR]."""
    return u64(TICK_NS) << u64(group.tcr >> Tcr.clock_ratio.lo & Tcr.clock_ratio.ones)


@native
def count_down(state: MpicState, g: u32, i: u32, steps: u64) -> u64:
    """Let a timer count; returns how often it expired, having made the interrupt pending."""
    group = state.groups[g]
    timer = group.timers[i]
    if steps == 0 or not running(timer):
        return u64(0)
    every = period(group, timer, i)
    left = u64(timer.count) if timer.count else every
    if left == 0:
        return u64(0)
    if steps < left:
        timer.count = u32(left - steps)
        return u64(0)
    over = steps - left
    expiries = u64(1)
    timer.count = u32(0)
    if every:
        expiries += over // every
        timer.count = u32(every - over % every) & COUNT
    timer.toggle ^= u32(expiries) & 1
    n = TIMER0 + g * TIMERS_PER_GROUP + i
    source = state.inputs[n]
    source.pending |= source.idr
    update_input(state, n)
    return expiries


@native
def advance(state: MpicState, g: u32) -> None:
    """Let a group count up to now."""
    group = state.groups[g]
    now = clock_ns(state)
    if now < group.counted_ns:
        return
    tick = tick_ns(group)
    elapsed = (now - group.counted_ns) // tick
    group.counted_ns += elapsed * tick
    expired = u64(0)
    for i in range(u32(TIMERS_PER_GROUP)):
        steps = expired if cascaded(group, u32(i)) else elapsed
        expired = count_down(state, g, u32(i), steps)


@native(inline=True)
def bounded(ticks: u128) -> u64:
    """Ticks, or FAR when they are more."""
    return u64(ticks) if ticks < FAR else u64(FAR)


@native
def group_deadline(state: MpicState, g: u32) -> u64:
    """When, by the machine's clock, a timer of the group next interrupts; NEVER if none will."""
    group = state.groups[g]
    nearest, reach, every = u64(FAR), u64(FAR), u64(FAR)
    for i in range(u32(TIMERS_PER_GROUP)):
        timer = group.timers[i]
        own = period(group, timer, u32(i))
        left = u64(timer.count) if timer.count else own
        before, unit = reach, every
        if not cascaded(group, u32(i)):
            before, unit = u64(1), u64(1)
        if running(timer) and left:
            reach = bounded(u128(before) + u128(left - 1) * u128(unit))
            every = bounded(u128(own) * u128(unit)) if own else u64(FAR)
        else:
            reach = u64(FAR)
            every = u64(FAR)
        source = state.inputs[TIMER0 + g * TIMERS_PER_GROUP + u32(i)]
        if source.ivpr & MASKED == 0 and source.idr and reach < nearest:
            nearest = reach
    if nearest == FAR:
        return u64(NEVER)
    return group.counted_ns + nearest * tick_ns(group)


@native
def advance_all(state: MpicState) -> u64:
    """Let all timers count up to now; returns when the next one interrupts, or NEVER."""
    nearest = u64(NEVER)
    for g in range(u32(TIMER_GROUPS)):
        advance(state, u32(g))
        deadline = group_deadline(state, u32(g))
        if deadline < nearest:
            nearest = deadline
    return nearest


@native
def write_base(timer: MpicTimer, value: u32) -> None:
    """TBCR: starting a stopped timer loads its count and clears TOG; a running one takes the base at its next turn."""
    if timer.base & INHIBIT and value & INHIBIT == 0:
        timer.count = value & COUNT
        timer.toggle = u32(0)
    timer.base = value


@native
def reset_timers(state: MpicState) -> None:
    """All timers stopped, counting from now."""
    for g in range(u32(TIMER_GROUPS)):
        group = state.groups[g]
        group.tcr = u32(0)
        group.tfrr = u32(0)
        group.counted_ns = clock_ns(state)
        for i in range(u32(TIMERS_PER_GROUP)):
            timer = group.timers[i]
            timer.base = u32(INHIBIT)
            timer.count = u32(0)
            timer.toggle = u32(0)
