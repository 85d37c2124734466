"""Answers to what vCPUs came back for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import PowervisorError
from ..hv.exits import Budget, Checkstop, Debug, Exit, Hcall, Interrupt, Kick, Mmio, Reset, Watched
from ..hv.vcpu import Vcpu
from ..memory.space import BusError
from ..paravirt.hypercalls import Hypercalls
from .life import GUEST_ERROR
from .outcome import Outcome

if TYPE_CHECKING:
    from .machine import Machine


class Answers:
    """Called with each exit, on the vCPU's thread; answers False when the machine has ended."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.hypercalls = Hypercalls([])

    def __call__(self, vcpu: Vcpu, exit_: Exit) -> bool:
        self._answer(vcpu, exit_)
        machine = self._machine
        if machine.mpic.events:
            with machine.lock:
                machine.mpic.service()
        if machine.lockstep is None:  # else whoever takes turns does, without its lock
            machine.life.settle()
        machine.vm.answered(vcpu, exit_)
        return not machine.ended

    def _answer(self, vcpu: Vcpu, exit_: Exit) -> None:
        machine = self._machine
        if type(exit_) is Mmio:
            self._mmio(vcpu, exit_)
        elif type(exit_) is Hcall:
            with machine.lock:
                if vcpu.asking:  # not reset while this thread waited for the lock
                    vcpu.complete_hcall(*self.hypercalls.call(exit_.token, exit_.arguments))
        elif isinstance(exit_, Checkstop):
            outcome = Outcome(GUEST_ERROR, f"cpu{vcpu.index}: checkstop: {exit_.reason}", vcpu.regs.dump())
            machine.life.finish(outcome)
        elif isinstance(exit_, Reset):
            machine.power.guest_reset(vcpu, exit_)
        elif isinstance(exit_, Debug | Watched):
            machine.stops.met(vcpu, exit_)
        elif isinstance(exit_, Interrupt):
            machine.hooks.interrupted(vcpu, exit_)
        elif not isinstance(exit_, (Kick, Budget)):
            raise PowervisorError(f"cpu{vcpu.index}: exit {exit_} has no handler")

    def _mmio(self, vcpu: Vcpu, exit_: Mmio) -> None:
        machine = self._machine
        if machine.hooks.mmio_hooks and machine.hooks.accessed(vcpu, exit_):
            return
        space = machine.space
        with machine.lock:
            if not vcpu.asking:  # reset while this thread waited for the lock
                return
            space.met_unknown = False
            try:
                if exit_.write:
                    space.write(exit_.pa, exit_.size, exit_.value, vcpu.index)
                    vcpu.complete_write()
                else:
                    exit_.value = space.read(exit_.pa, exit_.size, vcpu.index)
                    vcpu.complete_read(exit_.value)
            except BusError:
                exit_.failed = True
                vcpu.fail_access()
            unknown = exit_.failed or space.met_unknown
        if unknown:
            machine.unknown.met(vcpu, exit_)
