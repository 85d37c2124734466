"""The MPIC's entry points, in the native subset: vCPUs call them without leaving native code.

Python calls the very same functions, compiled as soon as a machine has compiled them (`Mpic.bind`): the lock is then
shared with code that runs without the GIL. `offset` is that of an access of 4 bytes.
"""

from __future__ import annotations

from powervisor.devices.mpic_access import read_register, reset_all, write_register
from powervisor.devices.mpic_delivery import (
    PROXY_MODE,
    best_ready,
    rebuild,
    set_level,
    set_outputs,
    threshold,
    update_errors,
    update_outputs,
)
from powervisor.devices.mpic_registers import SOURCES, Offset
from powervisor.devices.mpic_state import Event, Level, MpicState
from powervisor.devices.mpic_timers import advance_all
from powervisor.devices.mpic_timing import UNKNOWN, count_read, count_write, taken
from powervisor.native.ints import u32, u64
from powervisor.native.lang import NativeFunction, at, atomic_and, field_addr, native
from powervisor.native.locks import acquire, release


@native
def mpic_read(state_address: u64, offset: u32, cpu_index: u32) -> u32:
    """Read the register at `offset`, as CPU `cpu_index` does it."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    if state.timing != 0:
        count_read(state, offset)
    value = read_register(state, offset, cpu_index)
    release(field_addr(state, "lock"))
    return value


@native
def mpic_write(state_address: u64, offset: u32, value: u32, cpu_index: u32) -> None:
    """Write the register at `offset`, as CPU `cpu_index` does it."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    if state.timing != 0:
        count_write(state, offset)
    write_register(state, offset, value, cpu_index)
    release(field_addr(state, "lock"))


@native
def mpic_acknowledge(state_address: u64, cpu_index: u32) -> u32:
    """IACK as the core does it in external proxy mode, when it takes an external input interrupt: the value of EPR."""
    return mpic_read(state_address, u32(Offset.IACK), cpu_index)


@native
def mpic_proxy(state_address: u64) -> u32:
    """Whether the controller is in external proxy mode, 1 or 0."""
    return u32(at(MpicState, state_address).gcr & PROXY_MODE == PROXY_MODE)


@native
def mpic_taken(state_address: u64, cpu_index: u32) -> u64:
    """A CPU takes the external interrupt, and somebody wants to know: ns since its source was ready, or UNKNOWN."""
    state = at(MpicState, state_address)
    waited = u64(UNKNOWN)
    acquire(field_addr(state, "lock"), state.syscall)
    if state.timing != 0 and cpu_index < state.cpu_count:
        n, priority = best_ready(state, state.cpus[cpu_index])
        if priority > threshold(state.cpus[cpu_index]):
            waited = taken(state, cpu_index, n)
    release(field_addr(state, "lock"))
    return waited


@native
def mpic_set_irq(state_address: u64, source: u32, level: u32) -> None:
    """Assert (1) or release (0) the pin of a source."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    if source < SOURCES:
        set_level(state, source, u32(Level.PIN), level != 0)
    release(field_addr(state, "lock"))


@native
def mpic_set_error(state_address: u64, error: u32, level: u32) -> None:
    """Assert (1) or release (0) error interrupt 0..31, bit 31-error of EISR."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    bit = u32(0x8000_0000) >> (error & 31)
    state.errors = state.errors | bit if level else state.errors & ~bit
    update_errors(state)
    release(field_addr(state, "lock"))


@native
def mpic_msi(state_address: u64, data: u32) -> None:
    """A message of bank A as a PCI device is told it: `data` 0..255 is 32 * register + bit."""
    mpic_write(state_address, u32(Offset.MSI + Offset.MSIIR), data << 24, u32(0xFFFF_FFFF))


@native
def mpic_tick(state_address: u64) -> u64:
    """Count the timers; returns when, in ns of the machine's clock, the next one interrupts, all ones: never."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    atomic_and(u32, field_addr(state, "events"), ~u32(Event.TIMERS))
    deadline = advance_all(state)
    release(field_addr(state, "lock"))
    return deadline


@native
def mpic_take_cores(state_address: u64) -> u64:
    """CPUs whose PIR bit rose (low half) and fell (high half) since the last call."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    atomic_and(u32, field_addr(state, "events"), ~u32(Event.CORES))
    taken = u64(state.cores_held) | u64(state.cores_released) << 32
    state.cores_held = u32(0)
    state.cores_released = u32(0)
    release(field_addr(state, "lock"))
    return taken


@native
def mpic_reset(state_address: u64) -> None:
    """Power-on reset."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    reset_all(state)
    release(field_addr(state, "lock"))


@native
def mpic_rebuild(state_address: u64) -> None:
    """Recompute what is derived, after Python restored the registers."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    rebuild(state)
    release(field_addr(state, "lock"))


@native
def mpic_attach(state_address: u64, cpu_index: u32, lines: u64, requests: u64, asleep: u64) -> None:
    """Drive the words of a vCPU from now on, at these host addresses; 0: none any more."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    if cpu_index < state.cpu_count:
        cpu = state.cpus[cpu_index]
        set_outputs(state, cpu, u32(0))
        cpu.lines_address = lines
        cpu.requests_address = requests
        cpu.asleep_address = asleep
        update_outputs(state, cpu_index)
    release(field_addr(state, "lock"))


@native
def mpic_measure(state_address: u64, timing: u64) -> None:
    """Measure from now on, into the MpicTiming at a host address; 0: no longer, and nobody writes there any more."""
    state = at(MpicState, state_address)
    acquire(field_addr(state, "lock"), state.syscall)
    state.timing = timing
    release(field_addr(state, "lock"))


ENTRY_POINTS: dict[str, NativeFunction] = {
    "read": mpic_read,
    "write": mpic_write,
    "acknowledge": mpic_acknowledge,
    "proxy": mpic_proxy,
    "taken": mpic_taken,
    "set_irq": mpic_set_irq,
    "set_error": mpic_set_error,
    "msi": mpic_msi,
    "tick": mpic_tick,
    "take_cores": mpic_take_cores,
    "reset": mpic_reset,
    "rebuild": mpic_rebuild,
    "attach": mpic_attach,
    "measure": mpic_measure,
}
"""What Python calls and a machine compiles: names are those of `Mpic.bind`'s arguments."""
