"""Memory of virtual processors, and their reset state."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..isa.cores import Core
from ..isa.registers import HID0_RESET, SPR, VSCR_RESET
from .modes import reset_contexts, update_mode
from .sprs import access_table, mask_table
from .state import CONTEXTS, Context, CoreConfig, ThreadState, Tlb, Vcpu, Vm

Empty = Callable[[Any], None]

_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE: contexts are mostly never touched


@dataclass
class Processor:
    """A vCPU's view and the memory that holds it."""

    cpu: Any
    memory: list[Any]


def new_core_config(core: Core, svr: int, threads: int = 1) -> Any:
    """CoreConfig of a model on a chip."""
    config = CoreConfig.new()
    config.pvr, config.svr = core.pvr, svr
    config.is64 = int(core.bits == 64)
    config.line_size = core.line_size
    config.tlb0_ways, config.tlb0_sets = core.tlb0_ways, core.tlb0_entries // core.tlb0_ways
    config.tlb1_count = core.tlb1_entries
    config.mav2 = int(core.mav2)
    config.pa_mask = (1 << core.physical_bits) - 1
    config.pid_mask = (1 << core.pid_bits) - 1
    config.threads = threads
    config.has_altivec = int("altivec" in core.categories)
    config.has_ept = int("ept" in core.categories)
    ctypes.memmove(config.address + CoreConfig.offset("spr_access"), access_table(core), 1024)
    ctypes.memmove(config.address + CoreConfig.offset("spr_mask"), mask_table(core), 8 * 1024)
    config.pmcs = core.pmcs
    config.virtual = int("ehv" not in core.categories)
    return config


def new_vm(ram_address: int, ram_size: int) -> Any:
    """An empty Vm over guest RAM at a host address."""
    vm = Vm.new()
    vm.ram, vm.ram_size = ram_address, ram_size
    libc = ctypes.CDLL(None)
    vm.clock_gettime = ctypes.cast(libc.clock_gettime, ctypes.c_void_p).value
    vm.futex = ctypes.cast(libc.syscall, ctypes.c_void_p).value
    vm.timebase_hz = 400_000_000
    return vm


def new_vcpu(
    vm: Any, core: Core, config: Any, index: int, tlb: Any | None = None, thread: int = 0, empty: Empty = reset_contexts
) -> Processor:
    """A vCPU in its reset state, attached to a Vm; threads of a core pass the TLB they share. `empty` as in `reset`."""
    cpu, contexts = Vcpu.new(), mmap.mmap(-1, CONTEXTS * Context.size + 64, flags=_FLAGS)
    tlb = tlb if tlb is not None else Tlb.new()
    cpu.index, cpu.thread = index, thread
    cpu.core, cpu.tlb, cpu.vm = config, tlb, vm
    pin = (ctypes.c_char * len(contexts)).from_buffer(contexts)
    cpu.contexts = (ctypes.addressof(pin) + 63) & ~63
    vm.vcpus[index] = cpu.address
    vm.vcpu_count = max(int(vm.vcpu_count), index + 1)
    reset(cpu, core, empty=empty)
    return Processor(cpu, [cpu, contexts, pin, tlb, config])


MRR_SHIFT = WRS_SHIFT = 28
"""Places of DBSR[MRR] and TSR[WRS]."""
KEPT = ("index", "thread", "sibling", "contexts", "core", "tlb", "vm", "trace", "tracer", "timing")
"""Fields of a vCPU that no reset changes."""


def reset(cpu: Any, core: Core, scope: int = 0, watchdog: int = 0, empty: Empty = reset_contexts) -> None:
    """Reset state of the registers; thread 0 empties the core's TLBs.

    `scope` goes to DBSR[MRR], the most recent reset, and `watchdog` (TCR[WRC] of one that expired) to TSR[WRS], as the
    PPC440 manual has it; both are 0 after power-on. `empty` is `reset_contexts`, or its native code.
    """
    kept = {name: getattr(cpu, name) for name in KEPT}
    ctypes.memset(cpu.address, 0, Vcpu.size)
    for name, value in kept.items():
        setattr(cpu, name, value)
    if int(cpu.thread) == 0:
        ctypes.memset(cpu.tlb.address, 0, Tlb.size)
    for number, value in core.sprs.items():
        cpu.spr[number] = value
    cpu.spr[SPR.PVR] = core.pvr
    cpu.spr[SPR.SVR] = int(cpu.core.svr)
    cpu.spr[SPR.PIR] = int(cpu.index)
    cpu.spr[SPR.TIR] = int(cpu.thread)
    cpu.disabled = ThreadState.STOPPED if cpu.thread else ThreadState.ENABLED
    cpu.spr[SPR.HID0] = HID0_RESET
    cpu.vscr = VSCR_RESET
    cpu.spr[SPR.DBSR] = scope << MRR_SHIFT
    cpu.spr[SPR.TSR] = watchdog << WRS_SHIFT
    cpu.next_deadline = (1 << 64) - 1
    cpu.dec_deadline = cpu.fit_deadline = cpu.wdt_deadline = (1 << 64) - 1
    empty(cpu)
    update_mode(cpu)
