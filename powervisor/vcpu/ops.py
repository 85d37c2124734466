"""The operations instruction semantics are written in: program flow, CR, XER, availability checks.

The stencil compiler replaces some of these by what it knows when translating (`mode64`, `optimistic`, `cia`, jumps);
the bodies here are what handlers and the oracle run.
"""

from __future__ import annotations

from ..isa.registers import ESR, IVOR, MSR, SPR
from ..native.ints import i32, i64, u8, u32, u64
from ..native.lang import bswap, field_addr, load, native, store
from .interrupts import deliver, raise_program
from .state import Mode, Vcpu

LT, GT, EQ, SO = u8(8), u8(4), u8(2), u8(1)


@native(inline=True)
def mode64(cpu: Vcpu) -> bool:
    """Whether the core computes in 64-bit mode (MSR[CM])."""
    return cpu.mode & Mode.CM != 0


@native(inline=True)
def optimistic() -> bool:
    """True while a stencil is compiled: whatever is rare may leave with `to_handler()`."""
    return False


@native(cold=True)
def to_handler() -> None:
    """In a stencil: give up, let the handler execute the instruction from its start."""


@native(inline=True)
def address(cpu: Vcpu, ea: u64) -> u64:
    """An effective address: 32 bits in 32-bit mode (Book I, 1.10.3)."""
    return ea if mode64(cpu) else ea & 0xFFFF_FFFF


@native(inline=True)
def cia(cpu: Vcpu) -> u64:
    """Address of the instruction being executed."""
    return cpu.pc


@native(inline=True)
def jump(cpu: Vcpu, target: u64) -> None:
    """Continue at an effective address."""
    cpu.npc = address(cpu, target)


@native(inline=True)
def jump_relative(cpu: Vcpu, displacement: i64) -> None:
    """Continue at a displacement from this instruction; the displacement is an instruction field."""
    cpu.npc = address(cpu, cpu.pc + u64(displacement))


@native(inline=True)
def record0(cpu: Vcpu, value: u64) -> None:
    """Set CR0 from a result, as Rc=1 does: signed comparison with zero, and SO."""
    if mode64(cpu):
        set_signed(cpu, 0, i64(value), 0)
    else:
        set_signed(cpu, 0, i64(i32(value)), 0)


@native(inline=True)
def set_signed(cpu: Vcpu, bf: u32, a: i64, b: i64) -> None:
    """Set a CR field from a signed comparison."""
    cpu.cr[bf] = (LT if a < b else GT if a > b else EQ) | cpu.so


@native(inline=True)
def set_unsigned(cpu: Vcpu, bf: u32, a: u64, b: u64) -> None:
    """Set a CR field from an unsigned comparison."""
    cpu.cr[bf] = (LT if a < b else GT if a > b else EQ) | cpu.so


@native(inline=True)
def set_words(cpu: Vcpu, bf: u32, a: u32, b: u32) -> None:
    """Set a CR field from an unsigned comparison of words: in 64 bits, signed order is their order."""
    set_signed(cpu, bf, i64(u64(a)), i64(u64(b)))


@native(inline=True)
def set_overflow(cpu: Vcpu, overflow: bool) -> None:
    """Set XER[OV], and XER[SO] with it."""
    cpu.ov = u8(overflow)
    cpu.so |= u8(overflow)


@native(field_function=True)
def cr_mask(bit: u32) -> u8:
    """Mask of a CR bit 0..31 inside its field's nibble."""
    return u8(8) >> u8(bit & 3)


@native(field_function=True)
def cr_field(bit: u32) -> u32:
    """The CR field 0..7 that holds a CR bit."""
    return bit >> 2


@native(inline=True)
def cr_bit(cpu: Vcpu, bit: u32) -> bool:
    """A CR bit 0..31."""
    return cpu.cr[cr_field(bit)] & cr_mask(bit) != 0


@native(inline=True)
def read_cr(cpu: Vcpu) -> u32:
    """The whole CR."""
    x = bswap(load(u64, field_addr(cpu, "cr", 0)))  # a nibble in every byte, CR0 first
    x = (x | x >> 4) & 0x00FF_00FF_00FF_00FF
    x = (x | x >> 8) & 0x0000_FFFF_0000_FFFF
    return u32(x | x >> 16)


@native(inline=True)
def write_cr(cpu: Vcpu, value: u32) -> None:
    """Set the whole CR."""
    x = u64(value)
    x = (x | x << 16) & 0x0000_FFFF_0000_FFFF
    x = (x | x << 8) & 0x00FF_00FF_00FF_00FF
    x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F
    store(u64, field_addr(cpu, "cr", 0), bswap(x))


@native(inline=True)
def require_supervisor(cpu: Vcpu) -> None:
    """Privileged instruction: program interrupt in user mode (Book III-E, 7.6.7)."""
    if cpu.msr & MSR.PR:
        raise_program(cpu, ESR.PPR)


@native(inline=True)
def require_hypervisor(cpu: Vcpu) -> None:
    """Hypervisor-privileged instruction: program interrupt in user mode, embedded hypervisor privilege in a guest."""
    if cpu.msr & (MSR.PR | MSR.GS):
        if cpu.msr & MSR.PR:
            raise_program(cpu, ESR.PPR)
        deliver(cpu, IVOR.HYPERVISOR_PRIVILEGE, cpu.pc)


@native(inline=True)
def require_fp(cpu: Vcpu) -> None:
    """Floating-point unavailable interrupt unless MSR[FP]; stencils exist for MSR[FP]=1 only."""
    if not optimistic():
        if cpu.msr & MSR.FP == 0:
            deliver(cpu, IVOR.FP_UNAVAILABLE, cpu.pc)


@native(inline=True)
def require_altivec(cpu: Vcpu) -> None:
    """AltiVec unavailable interrupt unless MSR[VEC]; stencils exist for MSR[VEC]=1 only."""
    if not optimistic():
        if cpu.msr & MSR.VEC == 0:
            cpu.spr[SPR.ESR] = u64(ESR.SPV)
            deliver(cpu, IVOR.ALTIVEC_UNAVAILABLE, cpu.pc)
