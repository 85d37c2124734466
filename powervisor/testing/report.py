"""What a test's report says of its machine: the console's end, where each vCPU is, and its last exits."""

from __future__ import annotations

from collections import deque

from ..hv.exits import Exit, Mmio
from ..hv.vcpu import Vcpu
from ..machine import Machine
from ..machine.cpu import Cpu
from ..machine.devices import named
from ..machine.memory import Unmapped

CONSOLE_LINES, EXITS = 40, 12
AROUND = 4
"""Instructions shown before PC, and after it."""


class LastExits:
    """An observer that remembers the last exits of each vCPU."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._kept: dict[int, deque[tuple[int, Exit, int]]] = {}
        machine.vm.observe(self)

    def exit(self, vcpu: Vcpu, exit_: Exit, entered: int, left: int, answered: int) -> None:
        """Remember it."""
        kept = self._kept.setdefault(vcpu.index, deque(maxlen=EXITS))
        kept.append((int(vcpu.state.pc), exit_, answered - left))

    def lines(self, index: int) -> list[str]:
        """Those of a vCPU, the last one at the end."""
        return [
            f"  pc=0x{pc:x} {self._text(exit_)}, {took / 1000:.0f} us" for pc, exit_, took in self._kept.get(index, ())
        ]

    def _text(self, exit_: Exit) -> str:
        if not isinstance(exit_, Mmio):
            return str(exit_)
        device, register, offset = named(self._machine, exit_.pa)
        where = f"{device}.{register}" if register else f"{device}+0x{offset:x}"
        answer = ", nothing answered" if exit_.failed else ""
        return f"{'write' if exit_.write else 'read'} of {where} ({exit_.size} bytes) 0x{exit_.value:x}{answer}"


def describe(machine: Machine, exits: LastExits | None = None) -> str:
    """The report, as text. The machine is held afterwards if it was started and has not ended."""
    if not machine.ended:
        machine.hold()
    lines = machine.console.text.splitlines()
    parts = [f"console, the last {min(len(lines), CONSOLE_LINES)} of {len(lines)} lines:"]
    parts += [f"  {line}" for line in lines[-CONSOLE_LINES:]]
    for cpu in machine.cpus:
        parts += ["", *_cpu(cpu)]
        if exits is not None and (kept := exits.lines(cpu.index)):
            parts += ["last exits:", *kept]
    return "\n".join(parts)


def _cpu(cpu: Cpu) -> list[str]:
    state = " (held in reset)" if cpu.halted else " (waiting)" if cpu.waiting else ""
    lines = [f"{cpu.regs.dump()}{state}"]
    if not cpu.halted:
        lines += _code(cpu)
    return lines


def _code(cpu: Cpu) -> list[str]:
    pc = cpu.pc
    for start in range(pc - 4 * AROUND, pc + 4, 4):
        try:
            found = cpu.disassemble(max(start, 0), (pc - max(start, 0)) // 4 + 1 + AROUND)
        except Unmapped:
            continue
        return [f"{'=> ' if instruction.address == pc else '   '}{instruction}" for instruction in found]
    return [f"=> 0x{pc:x}: no translation"]
