"""Moves from and to special-purpose, performance monitor and thread management registers."""

from __future__ import annotations

from ..isa.insn import insn
from ..isa.registers import ESR, SPR
from ..native.ints import u32, u64
from ..native.lang import native
from ..vcpu.interrupts import raise_program
from ..vcpu.ops import optimistic, require_hypervisor
from ..vcpu.pending import check_pending, finish, following
from ..vcpu.spr_access import (
    guest_register,
    guest_stored,
    permitted_register,
    read_pmr,
    read_spr,
    read_xer,
    stored,
    undefined_register,
    write_pmr,
    write_spr,
    write_xer,
)
from ..vcpu.state import Mode, Vcpu
from ..vcpu.threads import read_tmr, tmr_exists, write_tmr


@native
def direct_register(n: u32) -> u32:
    """Plain registers that a supervisor reads and writes under their own number, guest or not."""
    if n >= SPR.SPRG4 and n <= SPR.SPRG7 or n >= SPR.MAS0 and n <= SPR.MAS4:
        return 1
    return u32(n == SPR.MAS6 or n == SPR.MAS7 or n == SPR.SPRG9)


@native
def renamed_register(n: u32) -> u32:
    """Plain registers that a supervisor reads and writes, and of which a guest has its own."""
    return u32(n >= SPR.SPRG0 and n <= SPR.SPRG3 or n == SPR.SRR0 or n == SPR.SRR1 or n == SPR.DEAR or n == SPR.ESR)


@native
def hypervisor_register(n: u32) -> u32:
    """Plain registers of the hypervisor state that cores without category E.HV have too."""
    if n == SPR.BUCSR:  # the branch predictor's: Linux flushes it at every system call
        return 1
    return u32(n == SPR.CSRR0 or n == SPR.CSRR1 or n == SPR.SPRG8)


@native(inline=True)
def number(word: u32) -> u32:
    """The SPR field."""
    return word >> 16 & 0x1F | word >> 6 & 0x3E0


@native
def reads_by_stencil(word: u32, mode: u32) -> u32:
    """Whether reading the register is nothing but a load, in a mode."""
    n = number(word)
    if n == SPR.VRSAVE or n >= SPR.SPRG3U and n <= SPR.SPRG7U:
        return 1
    if mode & Mode.PR:
        return 0
    if renamed_register(n) or n == SPR.PID or n == SPR.PIR or n == SPR.PVR or n == SPR.EPR:
        return 1
    if mode & Mode.GS == 0 and hypervisor_register(n):
        return 1
    return direct_register(n)


@native
def writes_by_stencil(word: u32, mode: u32) -> u32:
    """Whether writing the register is nothing but a store of the bits it has, in a mode."""
    n = number(word)
    if n == SPR.VRSAVE:
        return 1
    if mode & Mode.PR:
        return 0
    if renamed_register(n) or mode & Mode.GS == 0 and hypervisor_register(n):
        return 1
    return direct_register(n)


@insn("31 rt:5 spr[4:0] spr[9:5] 339:10 /:1", "mfspr rt,spr", hot=True, select=reads_by_stencil)
def mfspr(cpu: Vcpu, rt: u32, spr: u32) -> None:
    """Move From Special Purpose Register"""
    if optimistic():
        cpu.gpr[rt] = cpu.spr[guest_stored(spr)] if cpu.mode & Mode.GS else cpu.spr[stored(spr)]
    else:
        cpu.gpr[rt] = read_spr(cpu, permitted_register(cpu, spr, 0))


@insn("31 rs:5 spr[4:0] spr[9:5] 467:10 /:1", "mtspr spr,rs", hot=True, select=writes_by_stencil)
def mtspr(cpu: Vcpu, rs: u32, spr: u32) -> None:
    """Move To Special Purpose Register"""
    if optimistic():
        if cpu.mode & Mode.GS:
            cpu.spr[guest_register(spr)] = cpu.gpr[rs] & cpu.core.spr_mask[guest_register(spr)]
        else:
            cpu.spr[spr] = cpu.gpr[rs] & cpu.core.spr_mask[spr]
    else:
        context, events = cpu.context, cpu.debug_events
        write_spr(cpu, permitted_register(cpu, spr, 1), cpu.gpr[rs])
        # Translated code holds on to its context and looks at no debug events: a changed one is a matter of dispatch.
        # (Of two instructions executed one at a time, the first still has its events.)
        if cpu.exit_reason != 0 or (events == 0 and (cpu.context != context or cpu.debug_events != 0)):
            finish(cpu, following(cpu))
        check_pending(cpu, following(cpu))


@insn("31 rt:5 1:5 0:5 339:10 /:1", "mfxer rt", hot=True)
def mfxer(cpu: Vcpu, rt: u32) -> None:
    """Move From XER"""
    cpu.gpr[rt] = u64(read_xer(cpu))


@insn("31 rs:5 1:5 0:5 467:10 /:1", "mtxer rs", hot=True)
def mtxer(cpu: Vcpu, rs: u32) -> None:
    """Move To XER"""
    write_xer(cpu, u32(cpu.gpr[rs]))


@insn("31 rt:5 8:5 0:5 339:10 /:1", "mflr rt", hot=True)
def mflr(cpu: Vcpu, rt: u32) -> None:
    """Move From Link Register"""
    cpu.gpr[rt] = cpu.spr[SPR.LR]


@insn("31 rs:5 8:5 0:5 467:10 /:1", "mtlr rs", hot=True)
def mtlr(cpu: Vcpu, rs: u32) -> None:
    """Move To Link Register"""
    cpu.spr[SPR.LR] = cpu.gpr[rs]


@insn("31 rt:5 9:5 0:5 339:10 /:1", "mfctr rt", hot=True)
def mfctr(cpu: Vcpu, rt: u32) -> None:
    """Move From Count Register"""
    cpu.gpr[rt] = cpu.spr[SPR.CTR]


@insn("31 rs:5 9:5 0:5 467:10 /:1", "mtctr rs", hot=True)
def mtctr(cpu: Vcpu, rs: u32) -> None:
    """Move To Count Register"""
    cpu.spr[SPR.CTR] = cpu.gpr[rs]


@insn("31 rt:5 tbr[4:0] tbr[9:5] 371:10 /:1", "mftb rt,tbr")
def mftb(cpu: Vcpu, rt: u32, tbr: u32) -> None:
    """Move From Time Base"""
    if tbr != SPR.TBL and tbr != SPR.TBU:
        raise_program(cpu, ESR.PIL)
    cpu.gpr[rt] = read_spr(cpu, tbr)


@insn("31 rt:5 pmrn[4:0] pmrn[9:5] 334:10 /:1", "mfpmr rt,pmrn", needs="epm")
def mfpmr(cpu: Vcpu, rt: u32, pmrn: u32) -> None:
    """Move From Performance Monitor Register"""
    cpu.gpr[rt] = read_pmr(cpu, pmrn)


@insn("31 rs:5 pmrn[4:0] pmrn[9:5] 462:10 /:1", "mtpmr pmrn,rs", needs="epm")
def mtpmr(cpu: Vcpu, rs: u32, pmrn: u32) -> None:
    """Move To Performance Monitor Register"""
    write_pmr(cpu, pmrn, u32(cpu.gpr[rs]))


@insn("31 rt:5 tmr[4:0] tmr[9:5] 366:10 /:1", "mftmr rt,tmr", needs="em")
def mftmr(cpu: Vcpu, rt: u32, tmr: u32) -> None:
    """Move From Thread Management Register"""
    require_hypervisor(cpu)
    if not tmr_exists(tmr):
        undefined_register(cpu, tmr)
    cpu.gpr[rt] = read_tmr(cpu, tmr)


@insn("31 rs:5 tmr[4:0] tmr[9:5] 494:10 /:1", "mttmr tmr,rs", needs="em")
def mttmr(cpu: Vcpu, rs: u32, tmr: u32) -> None:
    """Move To Thread Management Register"""
    require_hypervisor(cpu)
    if not tmr_exists(tmr):
        undefined_register(cpu, tmr)
    write_tmr(cpu, tmr, cpu.gpr[rs])
