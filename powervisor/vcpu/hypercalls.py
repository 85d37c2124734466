"""sc 1 where Powervisor itself is the guest's hypervisor: short calls are answered here, the others leave."""

from __future__ import annotations

from ..isa.epapr import Hcall, Status
from ..isa.registers import ESR, MSR
from ..native.ints import u32, u64
from ..native.lang import fence, native
from .doorbells import send
from .interrupts import raise_program
from .pending import IDLE, check_pending, following
from .state import ExitReason, Stat, Vcpu
from .trace import Trace, TraceEvent, emit


@native
def hypercall(cpu: Vcpu) -> None:
    """Do what r11 asks for; the instruction is complete. Users may not call (as with Linux's KVM)."""
    if cpu.msr & MSR.PR:
        raise_program(cpu, ESR.PPR)
    cpu.stats[Stat.HYPERCALLS] = cpu.stats[Stat.HYPERCALLS] + 1
    token = u32(cpu.gpr[11])
    if cpu.trace & Trace.HCALL and (token == Hcall.IDLE or token == Hcall.MSGSND):  # others are seen where they exit to
        emit(cpu, u32(TraceEvent.HCALL), token, cpu.pc, cpu.gpr[3], cpu.gpr[4], cpu.gpr[5], cpu.gpr[6], u64(0))
    if token == Hcall.IDLE:
        cpu.gpr[3] = u64(Status.SUCCESS)
        check_pending(cpu, following(cpu))
        cpu.waiting = u32(IDLE)
    elif token == Hcall.MSGSND:
        message = u32(cpu.gpr[3])
        cpu.gpr[3] = u64(Status.SUCCESS)
        fence()
        send(cpu, message)
        check_pending(cpu, following(cpu))
    else:
        cpu.exit_reason = u32(ExitReason.HCALL)
