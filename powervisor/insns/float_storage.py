"""Floating-point loads and stores (Book I, 4.6.2, 4.6.3): singles are kept in registers as doubles."""

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..native.ints import i64, u32, u64
from ..native.lang import host_f32_to_f64, native, unlikely
from ..vcpu.access import load, store
from ..vcpu.ops import optimistic, require_fp, to_handler
from ..vcpu.softfloat import is_zero
from ..vcpu.softfloat_convert import double_of, single_of
from ..vcpu.state import Vcpu
from .storage import named


@native(inline=True)
def load_single(cpu: Vcpu, ea: u64) -> u64:
    """A single from memory in double format."""
    word = load(cpu, u32, ea)
    if optimistic():
        if unlikely(word & 0x7FFF_FFFF > 0x7F80_0000):  # the host would make a signalling NaN quiet
            to_handler()
        return host_f32_to_f64(word)
    return double_of(word)


@native(inline=True)
def load_double(cpu: Vcpu, ea: u64) -> u64:
    """A double from memory."""
    return load(cpu, u64, ea)


@native(inline=True)
def store_single(cpu: Vcpu, ea: u64, value: u64) -> None:
    """Store a register as a single."""
    if optimistic():
        if unlikely(value >> 52 & 0x7FF <= 896) and not is_zero(value):  # denormalised as a single
            to_handler()
        store(cpu, u32, ea, u32(value >> 32 & 0xC000_0000) | u32(value >> 29 & 0x3FFF_FFFF))
    else:
        store(cpu, u32, ea, single_of(value))


@native(inline=True)
def store_double(cpu: Vcpu, ea: u64, value: u64) -> None:
    """Store a register."""
    store(cpu, u64, ea, value)


@native(inline=True)
def store_word(cpu: Vcpu, ea: u64, value: u64) -> None:
    """Store the low word of a register."""
    store(cpu, u32, ea, u32(value))


def load_forms(name: str, title: str, get: Any, d: int, x: int) -> None:
    """Declare the four forms of a load; the update forms' opcodes are one (primary) and 32 (extended) higher."""

    @insn(f"{d} frt:5 ra:5 d:s16", f"{name} frt,d(ra)", needs="fp", hot=True, split="ra")
    @named(name, f"Load Floating-Point {title}")
    def load_d(cpu: Vcpu, frt: u32, ra: u32, d: i64) -> None:
        require_fp(cpu)
        if ra == 0:
            cpu.fpr[frt] = get(cpu, u64(d))
        else:
            cpu.fpr[frt] = get(cpu, cpu.gpr[ra] + u64(d))

    @insn(f"{d + 1} frt:5 ra:5 d:s16", f"{name}u frt,d(ra)", needs="fp", hot=True)
    @named(f"{name}u", f"Load Floating-Point {title} with Update")
    def load_du(cpu: Vcpu, frt: u32, ra: u32, d: i64) -> None:
        require_fp(cpu)
        ea = cpu.gpr[ra] + u64(d)
        cpu.fpr[frt] = get(cpu, ea)
        cpu.gpr[ra] = ea

    @insn(f"31 frt:5 ra:5 rb:5 {x}:10 /:1", f"{name}x frt,ra0,rb", needs="fp", hot=True, split="ra")
    @named(f"{name}x", f"Load Floating-Point {title} Indexed")
    def load_x(cpu: Vcpu, frt: u32, ra: u32, rb: u32) -> None:
        require_fp(cpu)
        if ra == 0:
            cpu.fpr[frt] = get(cpu, cpu.gpr[rb])
        else:
            cpu.fpr[frt] = get(cpu, cpu.gpr[ra] + cpu.gpr[rb])

    @insn(f"31 frt:5 ra:5 rb:5 {x + 32}:10 /:1", f"{name}ux frt,ra,rb", needs="fp", hot=True)
    @named(f"{name}ux", f"Load Floating-Point {title} with Update Indexed")
    def load_ux(cpu: Vcpu, frt: u32, ra: u32, rb: u32) -> None:
        require_fp(cpu)
        ea = cpu.gpr[ra] + cpu.gpr[rb]
        cpu.fpr[frt] = get(cpu, ea)
        cpu.gpr[ra] = ea


load_forms("lfs", "Single", load_single, 48, 535)
load_forms("lfd", "Double", load_double, 50, 599)


def store_indexed(name: str, title: str, put: Any, x: int) -> None:
    """Declare an X-form store."""

    @insn(f"31 frs:5 ra:5 rb:5 {x}:10 /:1", f"{name} frs,ra0,rb", needs="fp", hot=True, split="ra")
    @named(name, f"Store Floating-Point {title} Indexed")
    def store_x(cpu: Vcpu, frs: u32, ra: u32, rb: u32) -> None:
        require_fp(cpu)
        if ra == 0:
            put(cpu, cpu.gpr[rb], cpu.fpr[frs])
        else:
            put(cpu, cpu.gpr[ra] + cpu.gpr[rb], cpu.fpr[frs])


def store_forms(name: str, title: str, put: Any, d: int, x: int) -> None:
    """Declare the four forms of a store, numbered as the loads are."""

    @insn(f"{d} frs:5 ra:5 d:s16", f"{name} frs,d(ra)", needs="fp", hot=True, split="ra")
    @named(name, f"Store Floating-Point {title}")
    def store_d(cpu: Vcpu, frs: u32, ra: u32, d: i64) -> None:
        require_fp(cpu)
        if ra == 0:
            put(cpu, u64(d), cpu.fpr[frs])
        else:
            put(cpu, cpu.gpr[ra] + u64(d), cpu.fpr[frs])

    @insn(f"{d + 1} frs:5 ra:5 d:s16", f"{name}u frs,d(ra)", needs="fp", hot=True)
    @named(f"{name}u", f"Store Floating-Point {title} with Update")
    def store_du(cpu: Vcpu, frs: u32, ra: u32, d: i64) -> None:
        require_fp(cpu)
        ea = cpu.gpr[ra] + u64(d)
        put(cpu, ea, cpu.fpr[frs])
        cpu.gpr[ra] = ea

    store_indexed(f"{name}x", title, put, x)

    @insn(f"31 frs:5 ra:5 rb:5 {x + 32}:10 /:1", f"{name}ux frs,ra,rb", needs="fp", hot=True)
    @named(f"{name}ux", f"Store Floating-Point {title} with Update Indexed")
    def store_ux(cpu: Vcpu, frs: u32, ra: u32, rb: u32) -> None:
        require_fp(cpu)
        ea = cpu.gpr[ra] + cpu.gpr[rb]
        put(cpu, ea, cpu.fpr[frs])
        cpu.gpr[ra] = ea


store_forms("stfs", "Single", store_single, 52, 663)
store_forms("stfd", "Double", store_double, 54, 727)
store_indexed("stfiwx", "as Integer Word", store_word, 983)
