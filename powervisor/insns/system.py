"""System linkage, MSR, synchronisation, doorbells (Book III-E 4.3, 9.3; Book II 4.4)."""

from __future__ import annotations

from ..isa.insn import insn
from ..isa.registers import DBCR0, DBSR, ESR, IVOR, MSR, SPR
from ..native.ints import u32, u64
from ..native.lang import Static, atomic_or, fence, field_addr, light_fence, native
from ..vcpu.debug import return_event
from ..vcpu.doorbells import clear, send
from ..vcpu.fpscr import delayed_interrupt, deliver_delayed
from ..vcpu.hypercalls import hypercall
from ..vcpu.interrupts import deliver, raise_program, record
from ..vcpu.modes import set_msr
from ..vcpu.ops import cia, jump, optimistic, require_hypervisor, require_supervisor, to_handler
from ..vcpu.pending import check_pending, following, quiet
from ..vcpu.state import ExitReason, Mode, Request, Vcpu


@native
def supervisor_mode(word: u32, mode: u32) -> u32:
    """Stencils of privileged instructions: in supervisor state only."""
    return mode & Mode.PR ^ Mode.PR


@native(inline=True)
def require_ehv(cpu: Vcpu) -> None:
    """Instruction of category E.HV: illegal for a guest of Powervisor, which has not got it."""
    if cpu.core.virtual:
        raise_program(cpu, ESR.PIL)


# ---- linkage -------------------------------------------------------------------------------------------------------


@insn("17 /:14 lev:7 /:3 1:1 /:1", "sc lev", ends=True)
def sc(cpu: Vcpu, lev: u32) -> None:
    """System Call; level 1 calls the hypervisor"""
    if lev & 1 and cpu.core.virtual:
        hypercall(cpu)
        return
    after = following(cpu)
    if cpu.debug_events & DBCR0.ICMP:  # the instruction completes before it interrupts (EREF, instruction complete)
        record(cpu, DBSR.ICMP, cpu.msr)
        atomic_or(u32, field_addr(cpu, "requests"), u32(Request.LINES))
    if lev & 1:
        deliver(cpu, IVOR.HYPERVISOR_SYSTEM_CALL, after)
    deliver(cpu, IVOR.SYSTEM_CALL, after)


@native
def msr_changed(cpu: Vcpu, next_pc: u64) -> None:
    """The last act of what writes MSR: a floating-point exception or an interrupt that is enabled now."""
    if delayed_interrupt(cpu):
        deliver_delayed(cpu, next_pc)
    check_pending(cpu, next_pc)


@native
def return_from(cpu: Vcpu, save0: Static, save1: Static) -> None:
    """Restore MSR and continue where a pair of save/restore registers says."""
    target = cpu.spr[save0] & ~u64(3)
    set_msr(cpu, u32(cpu.spr[save1]))
    jump(cpu, target)
    msr_changed(cpu, cpu.npc)


@insn("19 /:15 50:10 /:1", "rfi", ends=True)
def rfi(cpu: Vcpu) -> None:
    """Return From Interrupt; in a guest like rfgi"""
    require_supervisor(cpu)
    return_event(cpu, DBCR0.RET, DBSR.RET)
    if cpu.msr & MSR.GS:
        return_from(cpu, SPR.GSRR0, SPR.GSRR1)
    else:
        return_from(cpu, SPR.SRR0, SPR.SRR1)


@insn("19 /:15 102:10 /:1", "rfgi", needs="ehv", ends=True)
def rfgi(cpu: Vcpu) -> None:
    """Return From Guest Interrupt"""
    require_ehv(cpu)
    require_supervisor(cpu)
    return_event(cpu, DBCR0.RET, DBSR.RET)
    return_from(cpu, SPR.GSRR0, SPR.GSRR1)


@insn("19 /:15 51:10 /:1", "rfci", ends=True)
def rfci(cpu: Vcpu) -> None:
    """Return From Critical Interrupt"""
    require_hypervisor(cpu)
    return_event(cpu, DBCR0.CRET, DBSR.CRET)
    return_from(cpu, SPR.CSRR0, SPR.CSRR1)


@insn("19 /:15 39:10 /:1", "rfdi", needs="eed", ends=True)
def rfdi(cpu: Vcpu) -> None:
    """Return From Debug Interrupt"""
    require_hypervisor(cpu)
    return_from(cpu, SPR.DSRR0, SPR.DSRR1)


@insn("19 /:15 38:10 /:1", "rfmci", ends=True)
def rfmci(cpu: Vcpu) -> None:
    """Return From Machine Check Interrupt"""
    require_hypervisor(cpu)
    return_from(cpu, SPR.MCSRR0, SPR.MCSRR1)


@insn("31 oc:15 270:10 /:1", "ehpriv oc", needs="ehv", ends=True)
def ehpriv(cpu: Vcpu, oc: u32) -> None:
    """Embedded Hypervisor Privilege"""
    require_ehv(cpu)
    deliver(cpu, IVOR.HYPERVISOR_PRIVILEGE, cpu.pc)


@insn("19 dui:5 duis:10 198:10 /:1", "dnh dui,duis", ends=True)
def dnh(cpu: Vcpu, dui: u32, duis: u32) -> None:
    """Debugger Notify Halt: illegal unless an external debugger has set DBCR0[EDM]"""
    if u32(cpu.spr[SPR.DBCR0]) & DBCR0.EDM == 0:
        raise_program(cpu, ESR.PIL)
    cpu.exit_reason = u32(ExitReason.DEBUG)
    cpu.exit_detail = dui


# ---- MSR -----------------------------------------------------------------------------------------------------------


@insn("31 rt:5 /:10 83:10 /:1", "mfmsr rt", hot=True, select=supervisor_mode)
def mfmsr(cpu: Vcpu, rt: u32) -> None:
    """Move From Machine State Register"""
    if not optimistic():
        require_supervisor(cpu)
    cpu.gpr[rt] = u64(cpu.msr)


@insn("31 rs:5 /:10 146:10 /:1", "mtmsr rs", ends=True)
def mtmsr(cpu: Vcpu, rs: u32) -> None:
    """Move To Machine State Register"""
    require_supervisor(cpu)
    set_msr(cpu, u32(cpu.gpr[rs]))
    jump(cpu, following(cpu))  # 32 bits where MSR[CM] was cleared
    msr_changed(cpu, cpu.npc)


@native(inline=True)
def write_ee(cpu: Vcpu, ee: u32) -> None:
    """Set MSR[EE]. An interrupt that it enables comes before the next instruction."""
    if not optimistic():
        require_supervisor(cpu)
    elif ee != 0 and not quiet(cpu):
        to_handler()
    cpu.msr = cpu.msr & ~u32(MSR.EE) | ee
    if not optimistic():
        check_pending(cpu, following(cpu))


@insn("31 rs:5 /:10 131:10 /:1", "wrtee rs", hot=True, select=supervisor_mode)
def wrtee(cpu: Vcpu, rs: u32) -> None:
    """Write MSR External Enable"""
    write_ee(cpu, u32(cpu.gpr[rs]) & MSR.EE)


@insn("31 /:10 e:1 /:4 163:10 /:1", "wrteei e", hot=True, select=supervisor_mode, variants={"e": (0, 1)})
def wrteei(cpu: Vcpu, e: u32) -> None:
    """Write MSR External Enable Immediate"""
    write_ee(cpu, e << 15)


# ---- synchronisation -----------------------------------------------------------------------------------------------


@insn("19 /:15 150:10 /:1", "isync", hot=True, ends=True)
def isync(cpu: Vcpu) -> None:
    """Instruction Synchronize: later accesses stay behind earlier loads, and dropped code is left"""
    light_fence()
    jump(cpu, cia(cpu) + 4)


@insn("31 /:3 lt:2 /:10 598:10 /:1", "sync lt", hot=True)
def sync(cpu: Vcpu, lt: u32) -> None:
    """Synchronize"""
    fence()


@insn("31 /:3 1:2 /:10 598:10 /:1", "lwsync", hot=True)
def lwsync(cpu: Vcpu) -> None:
    """Lightweight Synchronize: everything but stores against later loads"""
    light_fence()


@insn("31 mo:5 /:10 854:10 /:1", "mbar mo", hot=True)
def mbar(cpu: Vcpu, mo: u32) -> None:
    """Memory Barrier"""
    fence()


@insn("31 /:3 wc:2 wh:1 /:9 62:10 /:1", "wait wc,wh", needs="wait", ends=True)
def wait(cpu: Vcpu, wc: u32, wh: u32) -> None:
    """Wait for an interrupt; other wait conditions end at once, as they may"""
    if wc == 0:
        check_pending(cpu, following(cpu))
        cpu.waiting = u32(1)


# ---- doorbells -----------------------------------------------------------------------------------------------------


@insn("31 /:10 rb:5 206:10 /:1", "msgsnd rb", needs="epc")
def msgsnd(cpu: Vcpu, rb: u32) -> None:
    """Message Send"""
    require_hypervisor(cpu)
    fence()
    send(cpu, u32(cpu.gpr[rb]))
    check_pending(cpu, following(cpu))


@insn("31 /:10 rb:5 238:10 /:1", "msgclr rb", needs="epc")
def msgclr(cpu: Vcpu, rb: u32) -> None:
    """Message Clear"""
    require_hypervisor(cpu)
    clear(cpu, u32(cpu.gpr[rb]))
