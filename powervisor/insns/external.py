"""External process ID loads, stores and cache operations (Book III-E 5.4.3): the space of EPLC or EPSC."""

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..isa.registers import ESR, SPR
from ..native.ints import u8, u16, u32, u64, u128
from ..native.lang import at, native
from ..vcpu.access import load_space, store_space
from ..vcpu.codemap import invalidate_code
from ..vcpu.mmu import READ, epid_space, physical, translate
from ..vcpu.ops import require_altivec, require_fp, require_supervisor
from ..vcpu.state import TlbEntry, Vcpu
from .cache import effective, zero_line, zeroed_size
from .storage import named


@native(inline=True)
def load_epid(cpu: Vcpu, ea: u64, size: u32) -> u64:
    """Load in EPLC's space."""
    return load_space(cpu, ea, size, epid_space(u32(cpu.spr[SPR.EPLC])), u32(ESR.EPID))


@native(inline=True)
def store_epid(cpu: Vcpu, ea: u64, value: u64, size: u32) -> None:
    """Store in EPSC's space."""
    store_space(cpu, ea, value, size, epid_space(u32(cpu.spr[SPR.EPSC])), u32(ESR.EPID))


def forms(T: Any, letter: str, title: str, load_xo: int, store_xo: int, needs: str) -> None:
    """Declare the external PID load and store of a width."""

    @insn(f"31 rt:5 ra:5 rb:5 {load_xo}:10 /:1", f"l{letter}epx rt,ra0,rb", needs=needs)
    @named(f"l{letter}epx", f"Load {title} by External PID Indexed")
    def lepx(cpu: Vcpu, rt: u32, ra: u32, rb: u32) -> None:
        require_supervisor(cpu)
        cpu.gpr[rt] = load_epid(cpu, effective(cpu, ra, rb), u32(T.size))

    @insn(f"31 rs:5 ra:5 rb:5 {store_xo}:10 /:1", f"st{letter}epx rs,ra0,rb", needs=needs)
    @named(f"st{letter}epx", f"Store {title} by External PID Indexed")
    def stepx(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
        require_supervisor(cpu)
        store_epid(cpu, effective(cpu, ra, rb), u64(T(cpu.gpr[rs])), u32(T.size))


forms(u8, "b", "Byte", 95, 223, "epd")
forms(u16, "h", "Halfword", 287, 415, "epd")
forms(u32, "w", "Word", 31, 159, "epd")
forms(u64, "d", "Doubleword", 29, 157, "epd 64")


@insn("31 frt:5 ra:5 rb:5 607:10 /:1", "lfdepx frt,ra0,rb", needs="epd fp")
def lfdepx(cpu: Vcpu, frt: u32, ra: u32, rb: u32) -> None:
    """Load Floating-Point Double by External PID Indexed"""
    require_supervisor(cpu)
    require_fp(cpu)
    cpu.fpr[frt] = load_epid(cpu, effective(cpu, ra, rb), u32(8))


@insn("31 frs:5 ra:5 rb:5 735:10 /:1", "stfdepx frs,ra0,rb", needs="epd fp")
def stfdepx(cpu: Vcpu, frs: u32, ra: u32, rb: u32) -> None:
    """Store Floating-Point Double by External PID Indexed"""
    require_supervisor(cpu)
    require_fp(cpu)
    store_epid(cpu, effective(cpu, ra, rb), cpu.fpr[frs], u32(8))


def vector_forms(name: str, load_xo: int, store_xo: int) -> None:
    """Declare the AltiVec external PID loads and stores (the l forms differ by a cache hint only)."""

    @insn(f"31 vrt:5 ra:5 rb:5 {load_xo}:10 /:1", f"lv{name} vrt,ra0,rb", needs="epd altivec")
    @named(f"lv{name}", "Load Vector by External PID Indexed")
    def lvepx(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
        require_supervisor(cpu)
        require_altivec(cpu)
        ea = effective(cpu, ra, rb) & 0xFFFF_FFFF_FFFF_FFF0
        high = load_epid(cpu, ea, u32(8))
        cpu.vr[vrt] = u128(high) << 64 | u128(load_epid(cpu, ea + 8, u32(8)))

    @insn(f"31 vrs:5 ra:5 rb:5 {store_xo}:10 /:1", f"stv{name} vrs,ra0,rb", needs="epd altivec")
    @named(f"stv{name}", "Store Vector by External PID Indexed")
    def stvepx(cpu: Vcpu, vrs: u32, ra: u32, rb: u32) -> None:
        require_supervisor(cpu)
        require_altivec(cpu)
        ea = effective(cpu, ra, rb) & 0xFFFF_FFFF_FFFF_FFF0
        store_epid(cpu, ea, u64(cpu.vr[vrs] >> 64), u32(8))
        store_epid(cpu, ea + 8, u64(cpu.vr[vrs]), u32(8))


vector_forms("epx", 295, 807)
vector_forms("epxl", 263, 775)


@native(inline=True)
def probe_epid(cpu: Vcpu, ea: u64, context: u32) -> u64:
    """Physical address in an external PID's space, or the fault of a load."""
    entry = at(TlbEntry, translate(cpu, ea, epid_space(context), u32(READ), u32(ESR.EPID)))
    return physical(entry, ea)


def cache_forms(name: str, title: str, xo: int, hint: bool, store_context: bool) -> None:
    """Declare a cache operation by external PID; a hint does nothing, others may fault."""
    context = SPR.EPSC if store_context else SPR.EPLC

    @insn(f"31 ct:5 ra:5 rb:5 {xo}:10 /:1", f"{name} ct,ra0,rb" if hint else f"{name} ra0,rb", needs="epd")
    @named(name, title)
    def cache_op(cpu: Vcpu, ct: u32, ra: u32, rb: u32) -> None:
        require_supervisor(cpu)
        if not hint:
            probe_epid(cpu, effective(cpu, ra, rb), u32(cpu.spr[context]))


cache_forms("dcbstep", "Data Cache Block Store by External PID", 63, False, False)
cache_forms("dcbtep", "Data Cache Block Touch by External PID", 319, True, False)
cache_forms("dcbfep", "Data Cache Block Flush by External PID", 127, False, False)
cache_forms("dcbtstep", "Data Cache Block Touch for Store by External PID", 255, True, True)


@insn("31 /:4 l:1 ra:5 rb:5 1023:10 /:1", "dcbz{l}ep ra0,rb", needs="epd")
def dcbzep(cpu: Vcpu, l: u32, ra: u32, rb: u32) -> None:  # noqa: E741
    """Data Cache Block set to Zero by External PID"""
    require_supervisor(cpu)
    space = epid_space(u32(cpu.spr[SPR.EPSC]))
    size = u64(cpu.core.line_size) if l else zeroed_size(cpu)
    zero_line(cpu, effective(cpu, ra, rb), size, space, u32(ESR.EPID))


@insn("31 /:5 ra:5 rb:5 991:10 /:1", "icbiep ra0,rb", needs="epd")
def icbiep(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Instruction Cache Block Invalidate by External PID"""
    require_supervisor(cpu)
    invalidate_code(cpu, probe_epid(cpu, effective(cpu, ra, rb), u32(cpu.spr[SPR.EPLC])))
