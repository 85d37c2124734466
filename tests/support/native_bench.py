"""The bench with native code in place of the oracle: the same vCPUs, one instruction of the engine at a time."""

from __future__ import annotations

from typing import Any

from powervisor.insns import assemble
from powervisor.isa.registers import MAS1, MSR
from powervisor.translate.engine import Engine
from powervisor.vcpu import fpscr
from powervisor.vcpu.state import ExitReason, Request
from tests.support.bench import Bench

CODE = 0xF_F000
"""Physical page of the instruction that is executed."""
ENTRY = 63
"""Of TLB1: maps that page where PC is, while the instruction is executed."""
CODE_SPACE = 64 << 20


class NativeBench(Bench):
    """vCPUs that an engine executes; each is used by one test after the other."""

    def __init__(self, core: str, cpus: int, threads: int) -> None:
        super().__init__(core, cpus, threads)
        self.engine = Engine(self.core, self.vm, [fpscr.settle_outside], tier1="off", code_space=CODE_SPACE)

    def forget(self, cpu: Any) -> None:
        self.engine.forget_all(cpu.address)

    def run(self, instructions: int) -> None:
        """Execute so many instructions; with none, only what is pending is taken."""
        cpu = self.cpu
        cpu.exit_reason = cpu.exit_detail = 0
        cpu.left, cpu.slice, cpu.budget = instructions, 0, 0
        self.engine.run(cpu.address)
        if cpu.exit_reason == ExitReason.BUDGET:
            cpu.exit_reason = 0

    def do(self, text: str, **registers: int) -> Any:
        cpu = self.cpu
        for name, value in registers.items():
            cpu.gpr[int(name[1:])] = value & 0xFFFF_FFFF_FFFF_FFFF
        pc = int(cpu.pc)
        self.oracle.ram[CODE | pc & 0xFFF : (CODE | pc & 0xFFF) + 4] = assemble(text, pc).to_bytes(4, "big")
        entry = cpu.tlb.tlb1[ENTRY]
        entry.ea, entry.pa, entry.mask = pc & ~0xFFF, CODE, 0xFFF
        entry.mas1 = MAS1.V | MAS1.IPROT | 2 << 7 | (MAS1.TS if cpu.msr & MSR.IS else 0)
        entry.mas2, entry.mas3, entry.mas8 = 0, 0x30, 0x8000_0000 if cpu.msr & MSR.GS else 0
        entry.valid, cpu.tlb.tlb1_used = 1, ENTRY + 1
        self.forget(cpu)
        self.run(1)
        entry.valid = 0
        self.forget(cpu)
        return int(cpu.gpr[3])

    def close(self) -> None:
        """Free native code."""
        self.engine.close()

    def fetch(self, ea: int) -> None:
        self.cpu.pc = ea
        self.run(1)

    def poll(self) -> None:
        self.cpu.requests = int(self.cpu.requests) | Request.LINES
        self.run(0)

    def step(self, text: str, **registers: int) -> None:
        self.do(text, **registers)
