"""A bench for the architecture beyond single instructions: oracle vCPUs, instructions as text, a clock by hand."""

from __future__ import annotations

import ctypes
from typing import Any

from powervisor.insns import assemble
from powervisor.isa import cores
from powervisor.isa.registers import IVOR, SPR
from powervisor.native.ints import u32, u64
from powervisor.native.lang import attempt
from powervisor.testing import soft_tlb
from powervisor.translate.oracle import Oracle
from powervisor.vcpu.build import new_vcpu
from powervisor.vcpu.debug import debug_after, debug_before
from powervisor.vcpu.interrupts import ivor_spr
from powervisor.vcpu.mmu import EXECUTE, code_space, translate
from powervisor.vcpu.modes import update_mode
from powervisor.vcpu.pending import take_pending
from powervisor.vcpu.state import CONTEXTS, Context, Tlb, Vcpu
from powervisor.vcpu.timers import check_timers

VECTORS = 0x7000_0000
"""IVPR; interrupt n has its vector at n * 0x100."""
NUMBERS = [n for n in vars(IVOR).values() if isinstance(n, int)]


def interrupts_taken(cpu: Any) -> int:
    """How many interrupts a vCPU has taken."""
    return sum(int(cpu.interrupts[number]) for number in range(len(cpu.interrupts)))


class Bench:
    """vCPUs of one machine, started at address 0x1000 in supervisor state, with time standing still."""

    def __init__(self, core: str = "e5500", cpus: int = 1, threads: int = 1) -> None:
        self.oracle = Oracle(core)
        self.core = cores.get(core)
        self.vm: Any = self.oracle.vm
        self.vm.clock_gettime, self.vm.fixed_ns = 0, 0
        self.cpus: list[Any] = [self.oracle.cpu]
        self.processors = []
        for index in range(1, cpus):
            primary = self.cpus[index - index % threads] if index % threads else None
            made = new_vcpu(
                self.vm, self.core, self.cpus[0].core, index, primary.tlb if primary else None, index % threads
            )
            self.processors.append(made)
            self.cpus.append(made.cpu)
            if primary:
                primary.sibling, made.cpu.sibling = made.cpu.address, primary.address
        self.cpus[0].core.threads = threads
        for cpu in self.cpus:
            cpu.pc = 0x1000
            cpu.spr[SPR.IVPR] = cpu.spr[SPR.GIVPR] = VECTORS
            for n in NUMBERS:
                cpu.spr[ivor_spr(n)] = n * 0x100
            for n, number in ((2, 2), (3, 3), (4, 4), (8, 8), (13, 13), (14, 14)):
                cpu.spr[getattr(SPR, f"GIVOR{n}")] = 0x8000 + number * 0x100
            self.msr(0, cpu)
        self._first = [ctypes.string_at(cpu.address, Vcpu.size) for cpu in self.cpus]

    def reset(self) -> None:
        """As new, for another test."""
        vm = self.vm
        vm.fixed_ns = vm.irqchip_proxy = vm.irqchip_ack = 0
        for cpu, first in zip(self.cpus, self._first, strict=True):
            self.forget(cpu)
            ctypes.memmove(cpu.address, first, Vcpu.size)
            ctypes.memset(cpu.tlb.address, 0, Tlb.size)
        self.use(0)

    def forget(self, cpu: Any) -> None:
        """Drop the translations that a vCPU has cached."""
        for n in range(CONTEXTS):
            if cpu.context_keys[n]:
                soft_tlb.empty(int(cpu.contexts) + n * Context.size)

    @property
    def cpu(self) -> Any:
        """The vCPU that `do` uses."""
        return self.oracle.cpu

    def use(self, index: int) -> Any:
        """Let another vCPU execute."""
        self.oracle.cpu = self.cpus[index]
        return self.oracle.cpu

    def msr(self, value: int, cpu: Any = None) -> None:
        """Set MSR."""
        cpu = cpu or self.cpu
        cpu.msr = value
        update_mode(cpu)

    def do(self, text: str, **registers: int) -> Any:
        """Execute an instruction with general registers set before; r3 after it."""
        for name, value in registers.items():
            self.cpu.gpr[int(name[1:])] = value & 0xFFFF_FFFF_FFFF_FFFF
        self.oracle.execute(assemble(text, int(self.cpu.pc)))
        return int(self.cpu.gpr[3])

    def read(self, spr: int) -> int:
        """mfspr."""
        return int(self.do(f"mfspr r3,{spr}"))

    def write(self, spr: int, value: int) -> None:
        """mtspr."""
        self.do(f"mtspr {spr},r3", r3=value)

    def after(self, ticks: int) -> None:
        """Let time base ticks pass (2.5 ns each), and poll."""
        now = int(self.vm.fixed_ns) * 2 // 5 + ticks
        self.vm.fixed_ns = -(-now * 5 // 2)
        self.poll()

    def poll(self) -> None:
        """What the engine does between blocks: look at the clock, take what is pending."""
        check_timers(self.cpu)
        take_pending(self.cpu)

    def fetch(self, ea: int) -> None:
        """Go on at an address that cannot be fetched from."""
        self.cpu.pc = ea
        assert attempt(translate, self.cpu, u64(ea), code_space(self.cpu), u32(EXECUTE), u32(0)), "it was fetched"

    def step(self, text: str, **registers: int) -> None:
        """Execute as the engine does while debug events are enabled."""
        cpu = self.cpu
        events, taken = cpu.debug_events, interrupts_taken(cpu)
        if events and attempt(debug_before, cpu):
            return
        word = assemble(text, int(cpu.pc))
        self.do(text, **registers)
        if events and interrupts_taken(cpu) == taken:
            debug_after(cpu, u32(word), events)
        self.poll()

    def taken(self) -> int | None:
        """Number of the interrupt whose first instruction comes next, None where PC is elsewhere."""
        pc = int(self.cpu.pc)
        if pc & ~0xFFFF != VECTORS:
            return None
        return (pc & 0x7FFF) >> 8

    def guest_vector(self) -> bool:
        """Whether PC is at a vector of the guest state."""
        return int(self.cpu.pc) & ~0x7FFF == VECTORS + 0x8000

    def outcome(self, text: str, **registers: int) -> int | None:
        """Execute at 0x1000 and tell which interrupt it caused."""
        self.cpu.pc = 0x1000
        self.do(text, **registers)
        return self.taken()
