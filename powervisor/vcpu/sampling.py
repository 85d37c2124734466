"""Where a vCPU is and who called, when a profiler asks: PC, LR and the back chain of its stack, as the ABI lays it out.

A vCPU looks at requests at backward jumps and where it leaves a page, so that is where samples lie.
"""

from __future__ import annotations

from ..isa.registers import MSR, SPR
from ..native.ints import u32, u64
from ..native.lang import at, bswap, load, native
from .inspect import UNMAPPED, seen_at
from .mmu import data_space, in_ram
from .state import Vcpu
from .trace import TraceEvent, TraceRing, emit

DEEPEST = 60
"""Return addresses of a sample, at most."""
SAVED_LR32, SAVED_LR64 = 4, 16
"""Where a function saves LR in its caller's frame: offsets of the 32-bit and the 64-bit ABI."""
NOTHING = 0xFFFF_FFFF_FFFF_FFFF


@native
def stack_word(cpu: Vcpu, ea: u64, wide: bool) -> u64:
    """A word of the stack, NOTHING where there is no RAM."""
    pa = seen_at(cpu, ea, data_space(cpu))
    if pa == UNMAPPED or not in_ram(cpu, pa):
        return u64(NOTHING)
    if wide:
        return bswap(load(u64, cpu.vm.ram + pa))
    return u64(bswap(load(u32, cpu.vm.ram + pa)))


@native
def caller(cpu: Vcpu, frame: u64, wide: bool) -> u64:
    """The frame above a stack frame, 0 after the last: stacks grow downwards, and frames are aligned to 16 bytes
    (8 in code that does not keep to the ABI's letter)."""
    above = stack_word(cpu, frame, wide)
    return above if above != NOTHING and above > frame and above & 7 == 0 else u64(0)


@native(cold=True)
def sample(cpu: Vcpu) -> None:
    """Tell where this vCPU is, between two of its instructions."""
    if cpu.tracer == 0:
        return
    ring = at(TraceRing, cpu.tracer)
    wide = cpu.msr & MSR.CM != 0
    emit(cpu, u32(TraceEvent.SAMPLE), u32(0), cpu.pc, cpu.spr[SPR.LR], ring.asked, u64(0), u64(0), u64(0))
    frame = cpu.gpr[1] if wide else cpu.gpr[1] & 0xFFFF_FFFF
    if frame & 7:
        return
    saved = u64(SAVED_LR64) if wide else u64(SAVED_LR32)
    for _ in range(u64(DEEPEST)):
        frame = caller(cpu, frame, wide)
        if frame == 0:
            return
        back = stack_word(cpu, frame + saved, wide)
        if back == NOTHING or back == 0:
            return
        emit(cpu, u32(TraceEvent.FRAME), u32(0), back, u64(0), u64(0), u64(0), u64(0), u64(0))
