"""Running one vCPU on the calling thread, for a number of instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..hv.exits import Debug, Exit, Watched
from ..hv.vcpu import Vcpu

if TYPE_CHECKING:
    from .machine import Machine


class Counting:
    """Of a machine whose vCPUs have threads otherwise; `lockstep.Lockstep` is that of a deterministic one."""

    def __init__(self, machine: Machine, answer: Callable[[Vcpu, Exit], bool]) -> None:
        """`answer` is given exits."""
        self._machine, self._answer = machine, answer
        self.active = False
        self.due: list[Callable[[], None]] = []
        """What exits left to be done after them."""

    def later(self, call: Callable[[], None]) -> bool:
        """Do something when the exit has been answered, if this thread runs a vCPU; else False."""
        if self.active:
            self.due.append(call)
        return self.active

    def run(self, instructions: int) -> None:
        """Run CPU 0 for so many instructions, or until the machine ends."""
        machine, vcpu = self._machine, self._machine.vcpus[0]
        end = vcpu.instructions + instructions
        while (
            not (machine.ended or machine.failed or machine.life.finished or machine.run_stopped)
            and (left := end - vcpu.instructions) > 0
        ):
            self._go(vcpu, left, debugger=False)

    def execute(self, vcpu: Vcpu, instructions: int) -> Exit | None:
        """As `Machine.run_held`."""
        before = vcpu.instructions
        exit_ = self._go(vcpu, instructions, debugger=True)
        self._machine.vm.move_clock(vcpu.instructions - before)
        return exit_

    def _go(self, vcpu: Vcpu, instructions: int, debugger: bool) -> Exit | None:
        """Run a vCPU and answer its exit, unless that is for the debugger."""
        self.active = True
        try:
            exit_ = self._machine.vm.run(vcpu, instructions)
            if debugger and isinstance(exit_, Debug | Watched):
                exit_ = exit_ if self._machine.stops.look(vcpu, exit_) else None
            elif exit_ is not None:
                self._answer(vcpu, exit_)
            while self.due:
                self.due.pop(0)()
        finally:
            self.active = False
        return exit_
