"""The oracle: the instruction set run by Python over the same state layout. Slow (about 30k instructions a second),
and independent of the compiler: what native code must agree with."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from ..insns import TABLE
from ..isa import cores
from ..isa.cores import Core
from ..isa.insn import Insn
from ..isa.registers import ESR, MSR
from ..native.ints import u64
from ..native.lang import Abort
from ..vcpu.build import new_core_config, new_vcpu, new_vm
from ..vcpu.interrupts import raise_program
from ..vcpu.modes import update_mode


class Oracle:
    """A vCPU with RAM of its own that executes instruction words given to it."""

    def __init__(self, core: Core | str = "e5500", ram_size: int = 1 << 20) -> None:
        self.core = cores.get(core) if isinstance(core, str) else core
        self.ram = mmap.mmap(-1, ram_size)
        self._pin = (ctypes.c_char * ram_size).from_buffer(self.ram)
        self.vm = new_vm(ctypes.addressof(self._pin), ram_size)
        self.processor = new_vcpu(self.vm, self.core, new_core_config(self.core, 0), 0)
        self.cpu: Any = self.processor.cpu
        self.cpu.msr = int(MSR.FP | (MSR.VEC if "altivec" in self.core.categories else 0) | MSR.ME)
        update_mode(self.cpu)
        self.table = TABLE.for_core(self.core.categories)

    def execute(self, word: int) -> Insn | None:
        """Execute one word at the current PC and advance it; an interrupt leaves PC at its vector."""
        cpu = self.cpu
        entry = self.table.decode(word)
        limit = 0xFFFF_FFFF_FFFF_FFFF if cpu.mode & 1 else 0xFFFF_FFFF
        cpu.npc = (int(cpu.pc) + 4) & limit
        cpu.mmio_cursor = 0
        try:
            if entry is None:
                raise_program(cpu, ESR.PIL)
            else:
                entry.function.body(cpu, *entry.operands(word).values())
        except Abort:
            return entry
        cpu.pc = u64(cpu.npc)
        cpu.mmio_done = 0
        return entry
