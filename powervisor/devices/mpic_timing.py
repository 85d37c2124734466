"""What the MPIC measures while somebody wants to know (`MpicState.timing`). Under the state's lock."""

from __future__ import annotations

from powervisor.devices.mpic_registers import MAX_CPUS, Offset
from powervisor.devices.mpic_state import INPUTS, MpicState
from powervisor.native.histogram import Histogram, record
from powervisor.native.ints import i32, u32, u64
from powervisor.native.lang import at, call_host, field_addr, native
from powervisor.native.struct import Array, Struct

CLOCK_MONOTONIC = 1
NS_PER_S = 1_000_000_000
UNKNOWN = 0xFFFF_FFFF_FFFF_FFFF
WORDS = Offset.WINDOW >> 2


class MpicTiming(Struct):
    """Since when inputs have been ready at each CPU (0: not known), how long they were, accesses by register."""

    raised: Array[u64, MAX_CPUS * INPUTS]
    latency: Array[Histogram, INPUTS]
    reads: Array[u64, WORDS]
    writes: Array[u64, WORDS]


@native
def clock_ns(state: MpicState) -> u64:
    """Nanoseconds of the machine's clock: from the host, or as Python last said."""
    if state.clock == 0:
        return state.now_ns
    call_host(i32, state.clock, u64(CLOCK_MONOTONIC), field_addr(state, "timespec"))
    return u64(state.timespec[0]) * NS_PER_S + u64(state.timespec[1]) - state.clock_origin


@native(cold=True)
def ready_changed(state: MpicState, index: u32, n: u32, ready: bool) -> None:
    """An input has come to be ready for a CPU, or is so no longer."""
    at(MpicTiming, state.timing).raised[index * INPUTS + n] = clock_ns(state) if ready else u64(0)


@native(cold=True)
def taken(state: MpicState, index: u32, n: u32) -> u64:
    """A CPU takes the interrupt of an input: ns since it was ready, UNKNOWN when that was counted before."""
    timing = at(MpicTiming, state.timing)
    since = timing.raised[index * INPUTS + n]
    if since == 0:
        return u64(UNKNOWN)
    timing.raised[index * INPUTS + n] = u64(0)
    waited = clock_ns(state) - since
    record(timing.latency[n], waited)
    return waited


@native(cold=True)
def count_read(state: MpicState, offset: u32) -> None:
    """A register is read."""
    if offset < Offset.WINDOW:
        reads = at(MpicTiming, state.timing).reads
        reads[offset >> 2] = reads[offset >> 2] + 1


@native(cold=True)
def count_write(state: MpicState, offset: u32) -> None:
    """A register is written."""
    if offset < Offset.WINDOW:
        writes = at(MpicTiming, state.timing).writes
        writes[offset >> 2] = writes[offset >> 2] + 1
