"""How the MPIC delivers: routing, priorities, acknowledge and end of interrupt, the outputs to the CPUs.

Everything here runs under the state's lock.
"""

from __future__ import annotations

from powervisor.devices.mpic_registers import ERROR_SOURCE, EXTERNAL, Gcr, Ivpr, Target
from powervisor.devices.mpic_state import (
    INPUTS,
    IPI0,
    READY_WORDS,
    Level,
    MpicCpu,
    MpicInput,
    MpicState,
    Notify,
    Output,
)
from powervisor.devices.mpic_timing import ready_changed, taken
from powervisor.native.ints import u32, u64
from powervisor.native.lang import atomic_and, atomic_load, atomic_or, clz, ctz, field_addr, native
from powervisor.native.locks import futex_wake

PRIORITY_SHIFT = Ivpr.priority.lo
PRIORITY_ONES = Ivpr.priority.ones
VECTOR = Ivpr.vector.mask
MASKED = Ivpr.mask.mask
SENSE_LEVEL = Ivpr.sense.mask
MIXED = Gcr.mixed.mask
"""Set in mixed and in external proxy mode; without it the controller only passes pin 0 through."""
PROXY_MODE = Gcr.proxy.mask | Gcr.mixed.mask


# ---- towards the CPUs ----------------------------------------------------------------------------------------------


@native
def notify(state: MpicState, cpu: MpicCpu, bits: u32) -> None:
    """Ask a vCPU's attention.

    No wake-up is lost: a vCPU stores `asleep`, then looks at `requests`, then sleeps on `requests` with the value it
    saw; here `requests` is changed first and `asleep` looked at after. One of the two always sees the other's store.
    """
    if cpu.requests_address == 0:
        return
    atomic_or(u32, cpu.requests_address, bits)
    if atomic_load(u32, cpu.asleep_address) != 0:
        futex_wake(cpu.requests_address, state.syscall)


@native
def raise_event(state: MpicState, bits: u32, index: u32) -> None:
    """Leave work for Python and make the CPU whose access caused it leave native code."""
    atomic_or(u32, field_addr(state, "events"), bits)
    if index < state.cpu_count:
        notify(state, state.cpus[index], u32(Notify.KICK))


@native
def set_outputs(state: MpicState, cpu: MpicCpu, wanted: u32) -> None:
    """Drive a CPU's outputs. One that falls needs no attention: whoever looks at `lines` finds it gone."""
    rising, falling = wanted & ~cpu.outputs, cpu.outputs & ~wanted
    cpu.outputs = wanted
    if cpu.lines_address == 0:
        return
    if falling:
        atomic_and(u32, cpu.lines_address, ~falling)
    if rising:
        atomic_or(u32, cpu.lines_address, rising)
        notify(state, cpu, u32(Notify.LINES))


@native
def best_ready(state: MpicState, cpu: MpicCpu) -> tuple[u32, u32]:
    """The pending input of highest priority, the lowest number among equals, and that priority; 0: there is none."""
    best, top = u32(0), u32(0)
    for word in range(u32(READY_WORDS)):
        bits = cpu.ready[word]
        while bits:
            n = u32(word) * 64 + u32(ctz(bits))
            priority = state.inputs[n].ivpr >> PRIORITY_SHIFT & PRIORITY_ONES
            if priority > top:
                best = n
                top = priority
            bits &= bits - 1
    return best, top


@native(inline=True)
def threshold(cpu: MpicCpu) -> u32:
    """The priority an interrupt must exceed: the task's or that of the interrupt in service."""
    running = u32(0)
    if cpu.in_service:
        running = 31 - clz(cpu.in_service)
    return cpu.ctpr if cpu.ctpr > running else running


@native
def update_outputs(state: MpicState, index: u32) -> None:
    """Recompute one CPU's outputs."""
    cpu = state.cpus[index]
    wanted = u32(0)
    if state.gcr & MIXED:
        _, priority = best_ready(state, cpu)
        if priority > threshold(cpu):
            wanted |= Output.EXTERNAL
    elif index == 0 and state.inputs[0].level:
        wanted |= Output.EXTERNAL
    if cpu.critical:
        wanted |= Output.CRITICAL
    if cpu.machine_check:
        wanted |= Output.MACHINE_CHECK
    if wanted != cpu.outputs:
        set_outputs(state, cpu, wanted)


@native
def update_all_outputs(state: MpicState) -> None:
    """Recompute every CPU's outputs."""
    for index in range(state.cpu_count):
        update_outputs(state, u32(index))


# ---- routing -------------------------------------------------------------------------------------------------------


@native(inline=True)
def level_sensitive(source: MpicInput, n: u32) -> bool:
    """Whether a source follows its level; pins may be set to edges."""
    return bool(n >= EXTERNAL or source.ivpr & SENSE_LEVEL)


@native
def route(source: MpicInput, n: u32) -> tuple[u32, u32]:
    """Output and CPUs an input should assert now.

    A source has one destination, the lowest set bit of IDR; IPIs and timers go to all of theirs. cint and mcp carry
    the level itself, since nothing acknowledges them.
    """
    if source.ivpr & MASKED:
        return u32(Target.INT), u32(0)
    if n >= IPI0:
        return u32(Target.INT), source.pending
    destination = source.idr & -source.idr
    if source.ilr == Target.INT:
        return u32(Target.INT), destination if source.pending else u32(0)
    if source.ilr > Target.MCP or source.level == 0:
        return u32(Target.INT), u32(0)
    return source.ilr, destination


@native
def assert_at(state: MpicState, cpus: u32, n: u32, target: u32, add: u32) -> None:
    """Count an input in (1) or out (all ones) at a mask of CPUs."""
    left = cpus
    while left:
        cpu = state.cpus[ctz(left)]
        if target == Target.INT:
            cpu.ready[n >> 6] = cpu.ready[n >> 6] ^ u64(1) << u64(n & 63)
            if state.timing != 0:
                ready_changed(state, u32(ctz(left)), n, add == 1)
        elif target == Target.CINT:
            cpu.critical += add
        else:
            cpu.machine_check += add
        left &= left - 1


@native
def update_input(state: MpicState, n: u32) -> None:
    """Bring the CPUs in line with an input that changed in any way."""
    source = state.inputs[n]
    target, cpus = route(source, n)
    before = source.routed
    stays = before & cpus if target == source.target else u32(0)
    assert_at(state, before & ~stays, n, source.target, u32(0xFFFF_FFFF))
    assert_at(state, cpus & ~stays, n, target, u32(1))
    source.routed = cpus
    source.target = target
    touched = before | cpus
    while touched:
        update_outputs(state, ctz(touched))
        touched &= touched - 1


@native
def set_level(state: MpicState, n: u32, who: u32, asserted: bool) -> None:
    """Assert or release a source; an edge stays pending until acknowledged, masked or not."""
    source = state.inputs[n]
    before = source.level
    level = before | who if asserted else before & ~who
    if level == before:
        return
    source.level = level
    if level_sensitive(source, n):
        source.pending = u32(level != 0)
    elif before == 0:
        source.pending = u32(1)
    update_input(state, n)
    if n == 0:
        update_outputs(state, u32(0))


@native
def update_errors(state: MpicState) -> None:
    """The error source follows the unmasked error interrupts."""
    set_level(state, u32(ERROR_SOURCE), u32(Level.INSIDE), state.errors & ~state.error_mask != 0)


# ---- the CPU's cycle -----------------------------------------------------------------------------------------------


@native
def acknowledge(state: MpicState, index: u32) -> u32:
    """IACK: the vector of the best interrupt, which becomes in service; the spurious vector when there is none."""
    cpu = state.cpus[index]
    n, priority = best_ready(state, cpu)
    if priority <= threshold(cpu) or state.gcr & MIXED == 0:
        cpu.spurious += 1
        return state.spurious_vector
    source = state.inputs[n]
    if state.timing != 0:
        taken(state, index, n)  # came before another's, for which the CPU took the interrupt
    me = u32(1) << index
    cpu.in_service |= u32(1) << priority
    cpu.service[priority] = n
    source.in_service |= me
    source.delivered += 1
    if n >= IPI0:
        source.pending &= ~me
    elif not level_sensitive(source, n):
        source.pending = u32(0)
    update_input(state, n)
    return source.ivpr & VECTOR


@native
def end_of_interrupt(state: MpicState, index: u32) -> None:
    """EOI: end the interrupt of highest priority in service; nothing when there is none."""
    cpu = state.cpus[index]
    if cpu.in_service == 0:
        return
    priority = 31 - clz(cpu.in_service)
    cpu.in_service &= ~(u32(1) << priority)
    n = cpu.service[priority]
    source = state.inputs[n]
    cpu.service[priority] = u32(0)
    source.in_service &= ~(u32(1) << index)
    cpu.eois += 1
    if state.timing != 0 and cpu.ready[n >> 6] >> u64(n & 63) & 1:
        ready_changed(state, index, n, True)  # its line is still asserted: it interrupts once more
    update_outputs(state, index)


@native
def send_ipi(state: MpicState, ipi: u32, cpus: u32) -> None:
    """IPIDR: make an IPI pending at a mask of CPUs."""
    state.inputs[IPI0 + ipi].pending |= cpus & all_cpus(state)
    state.ipis += 1
    update_input(state, IPI0 + ipi)


@native(inline=True)
def all_cpus(state: MpicState) -> u32:
    """The mask of CPUs there are, 1 to 32."""
    return u32(0xFFFF_FFFF) >> (32 - state.cpu_count & 31)


@native
def rebuild(state: MpicState) -> None:
    """Recompute everything derived from the inputs' registers and pending bits, after reset and restore."""
    for index in range(state.cpu_count):
        cpu = state.cpus[index]
        for word in range(u32(READY_WORDS)):
            cpu.ready[word] = u64(0)
        cpu.critical = u32(0)
        cpu.machine_check = u32(0)
    for n in range(u32(INPUTS)):
        source = state.inputs[n]
        target, cpus = route(source, u32(n))
        assert_at(state, cpus, u32(n), target, u32(1))
        source.routed = cpus
        source.target = target
    update_all_outputs(state)
