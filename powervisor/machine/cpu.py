"""A vCPU as the API shows it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PowervisorError
from ..hv.exits import Debug, Kick, Watched
from ..hv.fields import RegisterValue, Sprs
from ..hv.registers import Registers
from ..hv.tlb import TlbView
from ..hv.vcpu import Vcpu
from ..insns import disassemble
from ..isa.cores import Core
from .memory import EffectiveMemory, Unmapped

if TYPE_CHECKING:
    from .machine import Machine


class Instruction(NamedTuple):
    """An instruction in memory."""

    address: int
    word: int
    text: str

    def __str__(self) -> str:
        return f"0x{self.address:x}: {self.word:08x}  {self.text}"


class Cpu:
    """A vCPU, `machine.cpus[n]`.

    Registers, TLBs and memory are those of the moment between two instructions: look at them while the machine is
    held (after `run`, or `machine.hold()`) or in a hook, which has its vCPU stopped.
    """

    def __init__(self, machine: Machine, vcpu: Vcpu) -> None:
        self.machine, self.vcpu = machine, vcpu
        self.regs = Registers(vcpu, machine.changed)
        """Registers by name: `regs["r3"]`, "pc", "cr", "f1", "v2", "srr0"; they can be assigned. Raises UserError."""
        self.memory = EffectiveMemory(vcpu, machine.memory)
        """Memory by effective addresses: `cpu.memory.read32(ea)`."""

    def __repr__(self) -> str:
        state = "held" if self.halted else "waiting" if self.waiting else "running"
        return f"<cpu{self.index} {self.core.name} pc=0x{self.pc:x} {state}>"

    @property
    def index(self) -> int:
        """Its number, from 0."""
        return self.vcpu.index

    @property
    def core(self) -> Core:
        """The core model as the guest sees it."""
        return self.vcpu.core

    @property
    def spr(self) -> Sprs:
        """Special-purpose registers with named fields: `spr.tcr.DIE`, `spr.tcr = spr.tcr.replace(DIE=1)`."""
        return Sprs(self.vcpu, self.regs)

    @property
    def msr(self) -> RegisterValue:
        """The machine state register with named fields; assign `regs["msr"]` to change it."""
        return RegisterValue("MSR", self.vcpu.regs["msr"])

    @property
    def pc(self) -> int:
        """Effective address of the next instruction; it can be assigned."""
        return self.vcpu.regs["pc"]

    @pc.setter
    def pc(self, address: int) -> None:
        self.regs["pc"] = address

    @property
    def lpid(self) -> int:
        """The partition whose program runs: LPIDR in guest state, 0 for the hypervisor or where there is none."""
        return int(self.vcpu.regs["lpidr"]) if self.msr.GS else 0

    @property
    def tlb(self) -> TlbView:
        """The core's TLBs: iterate over the valid entries, or `lookup(ea)`."""
        return TlbView(self.vcpu)

    @property
    def halted(self) -> bool:
        """Held in reset or by the spin table, or a thread that is not enabled."""
        return self.vcpu.halted

    @property
    def waiting(self) -> bool:
        """Whether it idles in `wait` until an interrupt comes."""
        return bool(int(self.vcpu.state.waiting))

    @property
    def instructions(self) -> int:
        """Instructions executed since it was made."""
        return self.vcpu.instructions

    def translate(self, ea: int) -> int | None:
        """The physical address behind an effective one, page tables walked where there are any; None without one."""
        return self.vcpu.translate(ea)

    def disassemble(self, address: int | None = None, count: int = 1) -> list[Instruction]:
        """`count` instructions from an effective address, PC by default; fewer where memory ends.

        Raises Unmapped when nothing is there.
        """
        start = self.pc if address is None else address & ~3
        data = self.memory.read(start, 4 * count)
        found: list[Instruction] = []
        for (word,) in struct.iter_unpack(">I", data[: len(data) & ~3]):
            at = start + 4 * len(found)
            found.append(Instruction(at, word, disassemble(word, at, self.core)))
        return found

    def instruction_text(self) -> str:
        """The instruction at PC as text, or that there is none."""
        try:
            return self.disassemble()[0].text
        except (Unmapped, IndexError):
            return "no instruction there"

    def stop(self) -> None:
        """Hold the machine and have `run` return, from a hook or any other thread."""
        self.machine.stop_run()

    def step(self, count: int = 1) -> int:
        """Execute `count` instructions of this vCPU alone, and hold the machine; the new PC.

        Interrupts that are due come before them, as on hardware; time passes by a nanosecond an instruction. Hooks are
        called, on this thread; a debugger's breakpoint ends it. Raises PowervisorError for a vCPU that is held, and
        HookError.
        """
        self.machine.hooks.refuse("cpu.step")
        if self.halted:
            raise PowervisorError(f"cpu{self.index} is held in reset: it executes nothing until the guest releases it")
        self.machine.hold()
        end = self.instructions + count
        while (left := end - self.instructions) > 0:
            exit_ = self.machine.run_held(self.vcpu, left)
            self.machine.hooks.raise_error()
            asleep = isinstance(exit_, Kick) and self.waiting
            if self.machine.ended or self.halted or asleep or isinstance(exit_, Debug | Watched):
                break
        return self.pc
