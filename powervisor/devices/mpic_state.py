"""The MPIC's state: one block of memory that native code and Python share, under one spinlock."""

from __future__ import annotations

from powervisor.devices.mpic_registers import (
    IPIS,
    MAX_CPUS,
    MESSAGE_BLOCKS,
    MESSAGES_PER_BLOCK,
    MSIRS,
    SOURCES,
    TIMER_GROUPS,
    TIMERS_PER_GROUP,
)
from powervisor.native.ints import i64, u32, u64
from powervisor.native.struct import Array, Struct

IPI0 = SOURCES
"""Internal numbers of the inputs: sources, then IPIs, then timers."""
TIMER0 = IPI0 + IPIS
INPUTS = TIMER0 + TIMER_GROUPS * TIMERS_PER_GROUP
READY_WORDS = (INPUTS + 63) // 64
PRIORITIES = 16


class Output:
    """Bits of `MpicCpu.outputs` and of a vCPU's `lines` word (vcpu.state.Line, which devices must not import)."""

    EXTERNAL = 1
    CRITICAL = 2
    MACHINE_CHECK = 4
    ALL = 7


class Notify:
    """Bits set in a vCPU's `requests` word (vcpu.state.Request)."""

    KICK = 1
    LINES = 2


class Level:
    """Who asserts a source: its pin, or the controller itself (MSI, message and error registers)."""

    PIN = 1
    INSIDE = 2


class Event:
    """Bits of `MpicState.events`: what Python has to do for the controller; see `Mpic.service`."""

    TIMERS = 1
    CORES = 2


class MpicInput(Struct):
    """A source, IPI or timer. `pending` and `in_service` are masks of CPUs; of a source, `pending` is 0 or 1."""

    ivpr: u32  # without ACTIVITY, which is derived
    idr: u32
    ilr: u32
    level: u32
    pending: u32
    in_service: u32
    # Where it is delivered at present, as counted in MpicCpu: CPUs and output.
    routed: u32
    target: u32
    delivered: u64  # how often it was acknowledged


class MpicCpu(Struct):
    """A CPU's side. Nested interrupts have rising priorities: one bit and one input per priority are enough."""

    ctpr: u32
    in_service: u32  # bit p: an interrupt acknowledged at priority p has not ended
    service: Array[u32, PRIORITIES]
    outputs: u32
    critical: u32  # inputs that assert cint
    machine_check: u32
    spurious: u32  # acknowledges without a deliverable interrupt
    eois: u64
    ready: Array[u64, READY_WORDS]  # bit n: input n is pending here, for the output int
    lines_address: u64  # host addresses of the vCPU's words, 0: nobody listens
    requests_address: u64
    asleep_address: u64


class MpicTimer(Struct):
    """One timer: TBCR, current count, TCCR[TOG]."""

    base: u32
    count: u32
    toggle: u32


class MpicGroup(Struct):
    """Four timers and the time up to which they have counted."""

    timers: Array[MpicTimer, TIMERS_PER_GROUP]
    tfrr: u32
    tcr: u32
    counted_ns: u64


class MpicMessages(Struct):
    """A block of message registers."""

    msgr: Array[u32, MESSAGES_PER_BLOCK]
    enable: u32
    status: u32


class MpicState(Struct):
    """The whole controller. Nothing is touched without `lock`, except `events` (atomic)."""

    lock: u32
    events: u32
    cpu_count: u32
    gcr: u32
    pir: u32
    spurious_vector: u32
    errors: u32  # EISR: inputs, whatever EIMR says
    error_mask: u32
    cores_held: u32  # CPUs whose PIR bit rose, fell, since Python last asked
    cores_released: u32
    unknown: u32  # accesses where no register is
    clock: u64  # host address of clock_gettime, 0: `now_ns` is the time
    clock_origin: u64  # CLOCK_MONOTONIC when the machine's clock read 0
    now_ns: u64
    timespec: Array[i64, 2]
    syscall: u64
    ipis: u64
    inputs: Array[MpicInput, INPUTS]
    cpus: Array[MpicCpu, MAX_CPUS]
    groups: Array[MpicGroup, TIMER_GROUPS]
    messages: Array[MpicMessages, MESSAGE_BLOCKS]
    msir: Array[u32, MSIRS]
    timing: u64  # address of an MpicTiming, 0: nobody wants to know
