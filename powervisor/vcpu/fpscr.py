"""FPSCR: what operations do to it, the program interrupt of enabled exceptions, and results of the host's FPU.

An operation the host computed leaves FPSCR as it was and notes itself in the Vcpu: `fp_pending` holds its FpOp and
`fp_a/b/c` its operands, from which `settle` works out FPRF, FR and FI when somebody looks; the sticky XX of all of
them comes from the host's sticky inexact flag, which AltiVec operations borrow (`fp_foreign`). A compare notes its
FPCC in the top byte of `fp_pending`, since it leaves the C bit, FR and FI to the operation before it; the next
operation overwrites both.
"""

from __future__ import annotations

from ..isa.registers import ESR, FPSCR, IVOR, MSR, SPR
from ..native.ints import u8, u32, u64
from ..native.lang import field_addr, host_fp_clear, host_fp_flags, native, store, unlikely
from .interrupts import deliver, raise_program
from .modes import update_mode
from .ops import optimistic, require_fp, to_handler
from .softfloat import FPRF, is_signalling
from .softfloat_convert import compare
from .softfloat_ops import EFFECTS, INVALID, STICKY, compute
from .state import Vcpu

HOST_INEXACT = 0x20
"""MXCSR[PE]."""
COMPARE_NOTED = 0x10
"""In the top byte of fp_pending: its low four bits are the FPCC of a compare."""
READ_ONLY = FPSCR.FEX | FPSCR.VX | 0x0000_0800
"""Summaries and the reserved bit: moves to FPSCR do not change them."""


@native(inline=True)
def summary(fpscr: u32) -> u32:
    """FPSCR with FEX and VX worked out from the other bits (Book I, 4.2.2)."""
    value = fpscr & ~u32(FPSCR.FEX | FPSCR.VX)
    if value & INVALID:
        value |= FPSCR.VX
    # VX OX UX ZX XX stand in the order of VE OE UE ZE XE, 22 bits higher.
    if value >> 22 & value & (FPSCR.VE | FPSCR.OE | FPSCR.UE | FPSCR.ZE | FPSCR.XE):
        value |= FPSCR.FEX
    return value


@native
def raise_bits(fpscr: u32, status: u32) -> u32:
    """FPSCR after exceptions: sticky bits, FX when one of them is new, the summaries."""
    value = fpscr | status & STICKY
    if value != fpscr:
        value |= FPSCR.FX
    return summary(value)


# ---- the host's FPU --------------------------------------------------------------------------------------------------


@native
def fold_host_flags(cpu: Vcpu) -> None:
    """Take the host's sticky inexact flag over into XX (and FX), and clear it; AltiVec's are nobody's."""
    if cpu.fp_foreign:
        cpu.fp_foreign = u32(0)
        host_fp_clear()
    elif host_fp_flags() & HOST_INEXACT:
        cpu.fpscr = raise_bits(cpu.fpscr, u32(FPSCR.XX))
        host_fp_clear()


@native
def settle(cpu: Vcpu) -> None:
    """Make FPSCR what the guest must see. Before anything reads or changes `cpu.fpscr`, or changes the FPU's mode."""
    fold_host_flags(cpu)
    pending = cpu.fp_pending
    if pending == 0:
        return
    cpu.fp_pending = u32(0)
    fpscr = cpu.fpscr
    op = pending & 0xFFFF
    if op:
        _, status = compute(op, cpu.fp_a, cpu.fp_b, cpu.fp_c, fpscr)
        fpscr = fpscr & ~u32(EFFECTS) | status & EFFECTS
    noted = pending >> 24
    if noted:
        fpscr = fpscr & ~u32(FPRF.FPCC) | (noted & 15) << 12
    cpu.fpscr = fpscr


@native
def settle_outside(cpu: Vcpu) -> None:
    """`settle` for callers outside native code, who may have left flags of their own in the host's FPU."""
    host_fp_clear()
    settle(cpu)


@native
def fp_enter(cpu: Vcpu) -> None:
    """Before native code runs on a host thread: default rounding, no flags left over from Python."""
    host_fp_clear()


@native
def fp_leave(cpu: Vcpu) -> None:
    """Before native code is left: the flags belong to this vCPU, whatever runs next on the thread."""
    fold_host_flags(cpu)


@native(inline=True)
def own_host_flags(cpu: Vcpu) -> None:
    """Before a stencil of the scalar FPU uses the host's: what AltiVec raised there must be forgotten."""
    if unlikely(cpu.fp_foreign != 0):
        to_handler()


@native(inline=True)
def lend_host_flags(cpu: Vcpu) -> None:
    """Before an AltiVec operation uses the host's FPU: take over what scalar operations raised there."""
    if unlikely(cpu.fp_foreign == 0):
        if optimistic():
            to_handler()
        else:
            fold_host_flags(cpu)
            cpu.fp_foreign = u32(1)


@native(inline=True)
def note(cpu: Vcpu, op: u32, b: u64) -> None:
    """The host computed `op` from FRB: remember it (see the module's text)."""
    cpu.fp_pending = op
    cpu.fp_b = b


@native(inline=True)
def note_sum(cpu: Vcpu, op: u32, a: u64, b: u64) -> None:
    """The same of FRA and FRB."""
    cpu.fp_pending = op
    cpu.fp_a = a
    cpu.fp_b = b


@native(inline=True)
def note_product(cpu: Vcpu, op: u32, a: u64, c: u64) -> None:
    """The same of FRA and FRC."""
    cpu.fp_pending = op
    cpu.fp_a = a
    cpu.fp_c = c


@native(inline=True)
def note_compare(cpu: Vcpu, field: u8) -> None:
    """The host compared: remember FPCC, keep what is known of the operation before."""
    store(u8, field_addr(cpu, "fp_pending") + 3, field | COMPARE_NOTED)


# ---- exact operations ------------------------------------------------------------------------------------------------


@native(inline=True)
def record1(cpu: Vcpu) -> None:
    """Rc=1: CR1 becomes FX, FEX, VX, OX."""
    fold_host_flags(cpu)
    cpu.cr[1] = u8(cpu.fpscr >> 28)


@native(inline=True)
def interrupt_if_enabled(cpu: Vcpu, fpscr: u32) -> None:
    """Program interrupt when an FPSCR value has FEX and MSR[FE0,FE1] ask for it: precise, SRR0 at this instruction."""
    if fpscr & FPSCR.FEX and cpu.msr & (MSR.FE0 | MSR.FE1):
        raise_program(cpu, u32(ESR.FP))


@native
def execute(cpu: Vcpu, op: u32, frt: u32, a: u64, b: u64, c: u64, rc: u32) -> None:
    """Execute an operation exactly, with everything it does to FRT, FPSCR and CR1 (Book I, 4.4)."""
    require_fp(cpu)
    settle(cpu)
    before = cpu.fpscr
    result, status = compute(op, a, b, c, before)
    caused = status & STICKY
    enabled = summary(caused | before & (FPSCR.VE | FPSCR.OE | FPSCR.UE | FPSCR.ZE | FPSCR.XE))
    if (caused & INVALID and before & FPSCR.VE) or (caused & FPSCR.ZX and before & FPSCR.ZE):
        cpu.fpscr = raise_bits(before & ~u32(FPSCR.FR | FPSCR.FI), caused)  # FRT and FPRF stay
    else:
        cpu.fpr[frt] = result
        cpu.fpscr = raise_bits(before & ~u32(EFFECTS) | status & EFFECTS, caused)
    if rc:
        record1(cpu)
    interrupt_if_enabled(cpu, enabled)


@native
def execute_compare(cpu: Vcpu, bf: u32, a: u64, b: u64, ordered: u32) -> None:
    """fcmpu and fcmpo (Book I, 4.6.8): the CR field and FPCC are set even when an enabled exception interrupts."""
    require_fp(cpu)
    settle(cpu)
    before = cpu.fpscr
    field = compare(a, b)
    caused = u32(0)
    if field == 1:
        if is_signalling(a) or is_signalling(b):
            caused = u32(FPSCR.VXSNAN)
            if ordered and before & FPSCR.VE == 0:
                caused |= FPSCR.VXVC
        elif ordered:
            caused = u32(FPSCR.VXVC)
    cpu.fpscr = raise_bits(before & ~u32(FPRF.FPCC) | u32(field) << 12, caused)
    cpu.cr[bf] = field
    interrupt_if_enabled(cpu, summary(caused | before & FPSCR.VE))


# ---- moves to FPSCR --------------------------------------------------------------------------------------------------


@native
def write_fpscr(cpu: Vcpu, value: u32, rc: u32) -> None:
    """Give a settled FPSCR a new value, FEX and VX worked out, and what depends on it."""
    cpu.fpscr = summary(value & ~u32(READ_ONLY))
    update_mode(cpu)
    if rc:
        record1(cpu)


@native(inline=True)
def delayed_interrupt(cpu: Vcpu) -> bool:
    """After MSR[FE0,FE1] became non-zero: whether FPSCR[FEX] is waiting for it."""
    return cpu.msr & (MSR.FE0 | MSR.FE1) != 0 and cpu.fpscr & FPSCR.FEX != 0


@native(cold=True)
def deliver_delayed(cpu: Vcpu, next_pc: u64) -> None:
    """That program interrupt, imprecise: ESR[PIE], SRR0 at the instruction that would come next (Book III-E, 7.6.7)."""
    cpu.spr[SPR.ESR] = u64(u32(ESR.FP | ESR.PIE))
    deliver(cpu, u32(IVOR.PROGRAM), next_pc)
