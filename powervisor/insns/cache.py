"""Cache management and cache locking (Book II 4.3, EREF)."""

from __future__ import annotations

from ..isa.insn import insn
from ..isa.registers import ESR, IVOR, L1CSR0, MAS2, MSR, MSRP, SPR
from ..native.ints import u8, u32, u64
from ..native.lang import at, fill, native, unlikely
from ..vcpu.access import soft_entry
from ..vcpu.codemap import invalidate_code
from ..vcpu.debug import debug_data
from ..vcpu.interrupts import deliver, raise_alignment
from ..vcpu.mmu import READ, WRITE, data_space, fill_data, in_ram, physical, soft_tag, storage_fault, translate
from ..vcpu.ops import address, optimistic, require_supervisor, to_handler
from ..vcpu.state import TlbEntry, Vcpu
from .storage import named
from .strings import base


@native(inline=True)
def effective(cpu: Vcpu, ra: u32, rb: u32) -> u64:
    """(RA|0) + (RB)."""
    return address(cpu, base(cpu, ra) + cpu.gpr[rb])


@native(inline=True)
def probe(cpu: Vcpu, ea: u64, kind: u32) -> u64:
    """Physical address behind an address, or the fault an access would cause."""
    return physical(at(TlbEntry, translate(cpu, ea, data_space(cpu), kind, u32(0))), ea)


@native
def zero_line(cpu: Vcpu, ea: u64, size: u64, space: u64, esr: u32) -> None:
    """Set a cache line to zero; alignment interrupt where the page is not cacheable memory."""
    line = ea & ~(size - 1)
    debug_data(cpu, line, u32(size), True)
    entry = at(TlbEntry, translate(cpu, line, space, u32(WRITE), esr))
    pa = physical(entry, line)
    if entry.mas2 & (MAS2.W | MAS2.I) or not in_ram(cpu, pa):
        raise_alignment(cpu, ea, True, esr)
    if space == data_space(cpu):
        fill_data(cpu, line, entry, space)
    if size == 64:
        fill(cpu.vm.ram + pa, u8(0), u64(64))
    else:
        fill(cpu.vm.ram + pa, u8(0), size)


@native(inline=True)
def zero_known_line(cpu: Vcpu, ea: u64) -> None:
    """In a stencil: zero a line of 64 bytes in a page whose soft TLB entry allows it."""
    soft = soft_entry(cpu, ea)
    if unlikely(soft.zero != soft_tag(ea)):
        to_handler()
    fill((ea & ~u64(63)) + soft.addend, u8(0), u64(64))


@native(inline=True)
def zeroed_size(cpu: Vcpu) -> u64:
    """Bytes that dcbz and dcbzep set to zero: the core's line, or 32 with L1CSR0[DCBZ32] (dcbzep: assumed)."""
    return u64(32) if cpu.spr[SPR.L1CSR0] & L1CSR0.DCBZ32 else u64(cpu.core.line_size)


@insn("31 0:5 ra:5 rb:5 1014:10 /:1", "dcbz ra0,rb", hot=True, split="ra")
def dcbz(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Data Cache Block set to Zero"""
    ea = effective(cpu, ra, rb)
    if optimistic():
        if unlikely(cpu.spr[SPR.L1CSR0] & L1CSR0.DCBZ32 != 0):
            to_handler()
        zero_known_line(cpu, ea)
    else:
        zero_line(cpu, ea, zeroed_size(cpu), data_space(cpu), u32(0))


@insn("31 1:5 ra:5 rb:5 1014:10 /:1", "dcbzl ra0,rb", hot=True, split="ra")
def dcbzl(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Data Cache Block set to Zero by Line: always the core's line"""
    ea = effective(cpu, ra, rb)
    if optimistic():
        zero_known_line(cpu, ea)
    else:
        zero_line(cpu, ea, u64(cpu.core.line_size), data_space(cpu), u32(0))


@insn("31 /:4 l:1 ra:5 rb:5 758:10 /:1", "dcba{l} ra0,rb")
def dcba(cpu: Vcpu, l: u32, ra: u32, rb: u32) -> None:  # noqa: E741
    """Data Cache Block Allocate (a hint: memory keeps its contents)"""


@native(inline=True)
def touched(cpu: Vcpu, ea: u64, kind: u32) -> None:
    """Check an access; free when the soft TLB knows the page."""
    if soft_entry(cpu, ea).read != soft_tag(ea) or kind != READ:
        probe(cpu, ea, kind)


@insn("31 /:5 ra:5 rb:5 86:10 /:1", "dcbf ra0,rb")
def dcbf(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Data Cache Block Flush: memory is always current, only faults remain"""
    touched(cpu, effective(cpu, ra, rb), u32(READ))


@insn("31 /:5 ra:5 rb:5 54:10 /:1", "dcbst ra0,rb")
def dcbst(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Data Cache Block Store"""
    touched(cpu, effective(cpu, ra, rb), u32(READ))


@insn("31 /:5 ra:5 rb:5 470:10 /:1", "dcbi ra0,rb")
def dcbi(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Data Cache Block Invalidate"""
    require_supervisor(cpu)
    touched(cpu, effective(cpu, ra, rb), u32(WRITE))


@insn("31 ct:5 ra:5 rb:5 278:10 /:1", "dcbt ct,ra0,rb", hot=True)
def dcbt(cpu: Vcpu, ct: u32, ra: u32, rb: u32) -> None:
    """Data Cache Block Touch (a hint)"""


@insn("31 ct:5 ra:5 rb:5 246:10 /:1", "dcbtst ct,ra0,rb", hot=True)
def dcbtst(cpu: Vcpu, ct: u32, ra: u32, rb: u32) -> None:
    """Data Cache Block Touch for Store (a hint)"""


@insn("31 /:1 ct:4 ra:5 rb:5 22:10 /:1", "icbt ct,ra0,rb")
def icbt(cpu: Vcpu, ct: u32, ra: u32, rb: u32) -> None:
    """Instruction Cache Block Touch (a hint)"""


@insn("31 /:5 ra:5 rb:5 982:10 /:1", "icbi ra0,rb")
def icbi(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Instruction Cache Block Invalidate: drops translated code of the page"""
    ea = effective(cpu, ra, rb)
    invalidate_code(cpu, probe(cpu, ea, u32(READ)))


# ---- locking: every lock succeeds, since nothing is ever evicted ----------------------------------------------------


@native(inline=True)
def require_locking(cpu: Vcpu, ea: u64, esr: u32, kind: u32) -> None:
    """User mode needs MSR[UCLE] (DSI with DLK or ILK); a guest is stopped by MSRP[UCLEP]."""
    if cpu.msr & MSR.GS and cpu.msr & MSR.PR == 0 and u32(cpu.spr[SPR.MSRP]) & MSRP.UCLEP:
        deliver(cpu, u32(IVOR.HYPERVISOR_PRIVILEGE), cpu.pc)
    if cpu.msr & MSR.PR and cpu.msr & MSR.UCLE == 0:
        storage_fault(cpu, ea, kind, esr)
    probe(cpu, ea, kind)


def locking(name: str, title: str, xo: int, instruction_side: bool, kind: int = READ) -> None:
    """Declare a cache locking instruction. dcbtstls takes the line for storing and is checked as a store, the others
    as loads. From knowledge of Book III-E: no text of it was at hand."""
    syndrome = ESR.ILK if instruction_side else ESR.DLK

    @insn(f"31 /:1 ct:4 ra:5 rb:5 {xo}:10 /:1", f"{name} ct,ra0,rb", needs="ecl")
    @named(name, title)
    def lock(cpu: Vcpu, ct: u32, ra: u32, rb: u32) -> None:
        require_locking(cpu, effective(cpu, ra, rb), u32(syndrome), u32(kind))


locking("dcbtls", "Data Cache Block Touch and Lock Set", 166, False)
locking("dcbtstls", "Data Cache Block Touch for Store and Lock Set", 134, False, WRITE)
locking("dcblc", "Data Cache Block Lock Clear", 390, False)
locking("icbtls", "Instruction Cache Block Touch and Lock Set", 486, True)
locking("icblc", "Instruction Cache Block Lock Clear", 230, True)


def lock_query(name: str, title: str, xo: int) -> None:
    """Declare a lock query: CR0[EQ]=0, the line is never found locked."""

    @insn(f"31 /:1 ct:4 ra:5 rb:5 {xo}:10 1:1", f"{name}. ct,ra0,rb", needs="ecl er")
    @named(f"{name}_dot", title)
    def query(cpu: Vcpu, ct: u32, ra: u32, rb: u32) -> None:
        probe(cpu, effective(cpu, ra, rb), u32(READ))
        cpu.cr[0] = cpu.so


lock_query("dcblq", "Data Cache Block Lock Query", 422)
lock_query("icblq", "Instruction Cache Block Lock Query", 198)
