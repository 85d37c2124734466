"""Where a debugger stops a vCPU: before instructions at chosen addresses, and before accesses to chosen bytes.

An instruction that lies where a stop lies in its page is never translated, in no page: it is looked at each time, and
executed by its handler if there is no stop. All other code is as fast as ever. Pages with watched bytes have no entry
in the soft TLB, so that their accesses take the slow path, which looks.
"""

from __future__ import annotations

from ..native.ints import u32, u64
from ..native.lang import Abort, at, native
from .state import ExitReason, Stop, Vcpu, Vm, Watch

READS, WRITES = 1, 2
"""Bits of `Watch.kinds`."""


@native(inline=True)
def may_stop(vm: Vm, index: u32) -> bool:
    """Whether a stop lies in this word of some page."""
    return vm.stop_count != 0 and vm.stop_words[index >> 6] >> u64(index & 63) & 1 != 0


@native
def stops_here(cpu: Vcpu) -> bool:
    """Whether there is a stop at PC, in the current context."""
    for n in range(u64(cpu.vm.stop_count)):
        stop = at(Stop, cpu.vm.stops + n * Stop.size)
        if stop.ea == cpu.pc and cpu.context_key & stop.space_mask == stop.space:
            return True
    return False


@native
def watched_page(vm: Vm, page: u64) -> bool:
    """Whether an effective page has watched bytes."""
    for n in range(u64(vm.watch_count)):
        watch = at(Watch, vm.watches + n * Watch.size)
        if watch.first >> 12 <= page >> 12 and page >> 12 <= watch.last >> 12:
            return True
    return False


@native(cold=True)
def watch_data(cpu: Vcpu, ea: u64, size: u32, store: bool) -> None:
    """Leave before an access to watched bytes; not for an instruction that was let pass, or that is being completed."""
    if cpu.passing or cpu.mmio_done:
        return
    kind = u32(WRITES) if store else u32(READS)
    for n in range(u64(cpu.vm.watch_count)):
        watch = at(Watch, cpu.vm.watches + n * Watch.size)
        if watch.kinds & kind and watch.first <= ea + u64(size) - 1 and ea <= watch.last:
            if cpu.exit_reason == 0:
                cpu.watch_address = ea if ea > watch.first else watch.first
                cpu.exit_detail = kind
                cpu.exit_reason = u32(ExitReason.WATCH)
            raise Abort
