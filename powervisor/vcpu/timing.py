"""What native code measures of a vCPU while somebody wants to know (`Vcpu.timing`): waits, how late interrupts come.

Times are of the host's clock (`timers.host_ns`), in ns.
"""

from __future__ import annotations

from ..native.histogram import Histogram, record
from ..native.ints import u32, u64
from ..native.lang import at, native
from ..native.struct import Array, Struct
from .state import Vcpu


class Latency:
    """Interrupts whose way from their cause to the first instruction of their handler is measured."""

    EXTERNAL = 0  # since the source has been pending at the interrupt controller, and not masked there
    DECREMENTER = 1  # timers: since their deadline
    FIT = 2
    WATCHDOG = 3
    DOORBELL = 4  # since msgsnd
    KINDS = 5


class VcpuTiming(Struct):
    """Where native code puts what it measures."""

    left_ns: u64  # when the host thread left native code last, before it asked for the GIL
    rests_since: u64  # when it went to sleep, 0 while it does not
    held_ns: u64  # spent in reset, in the spin table, or disabled by TENC
    waits: Histogram  # in `wait`, or idle by hypercall
    raised: Array[u64, Latency.KINDS]  # when what is to be delivered was raised, 0: not known
    latency: Array[Histogram, Latency.KINDS]


@native(cold=True)
def raised(cpu: Vcpu, kind: u32, ns: u64) -> None:
    """An interrupt (Latency) has come to be pending."""
    if cpu.timing != 0:
        at(VcpuTiming, cpu.timing).raised[kind] = ns


@native(cold=True)
def delivered(cpu: Vcpu, kind: u32, now: u64) -> None:
    """It is taken."""
    timing = at(VcpuTiming, cpu.timing)
    since = timing.raised[kind]
    if since != 0:
        timing.raised[kind] = u64(0)
        record(timing.latency[kind], now - since if now > since else u64(0))


@native(cold=True)
def rested(cpu: Vcpu, held: bool, since: u64, now: u64) -> None:
    """The host thread slept: the vCPU was held, or waited for an interrupt."""
    if cpu.timing != 0:
        timing = at(VcpuTiming, cpu.timing)
        timing.rests_since = u64(0)
        if held:
            timing.held_ns += now - since
        else:
            record(timing.waits, now - since)
