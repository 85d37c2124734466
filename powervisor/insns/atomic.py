"""Load and reserve, store conditional (Book II, 4.4.2).

A reservation remembers the host address and the value loaded; the conditional store is a host compare-and-swap
against that value, so it fails when another processor changed the location.
"""

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..isa.registers import MAS2
from ..native.ints import u8, u16, u32, u64
from ..native.lang import Static, at, atomic_cas, atomic_load, bswap, native
from ..vcpu.access import load_slow, soft_entry, store_slow
from ..vcpu.debug import debug_data
from ..vcpu.interrupts import raise_alignment
from ..vcpu.mmu import READ, WRITE, data_space, fill_data, in_ram, physical, soft_tag, translate
from ..vcpu.ops import address, optimistic, to_handler
from ..vcpu.state import TlbEntry, Vcpu
from .storage import named

NOWHERE = 0xFFFF_FFFF_FFFF_FFFF


@native(cold=True)
def plain_host(cpu: Vcpu, ea: u64, kind: u32, size: u32) -> tuple[u64, bool]:
    """Host address behind an address (NOWHERE: a device), and whether its page is little-endian; or the fault."""
    debug_data(cpu, ea, size, kind == WRITE)
    space = data_space(cpu)
    entry = at(TlbEntry, translate(cpu, ea, space, kind, u32(0)))
    pa = physical(entry, ea)
    if not in_ram(cpu, pa):
        return u64(NOWHERE), False
    fill_data(cpu, ea, entry, space)
    return cpu.vm.ram + pa, entry.mas2 & MAS2.E != 0


@native(inline=True)
def reserve(cpu: Vcpu, T: Static, ea: u64) -> u64:
    """Load and set the reservation."""
    where = address(cpu, ea)
    if where & (T.size - 1):
        raise_alignment(cpu, where, False, u32(0))
    soft = soft_entry(cpu, where)
    host = where + soft.addend
    little = False
    if soft.read != soft_tag(where):
        if optimistic():
            to_handler()
        host, little = plain_host(cpu, where, u32(READ), u32(T.size))
        if host == NOWHERE:
            value = load_slow(cpu, where, u32(T.size))
            cpu.reserve_valid = u32(0)
            return value
    raw = atomic_load(T, host)
    cpu.reserve_address = host
    cpu.reserve_value = u64(raw)
    cpu.reserve_size = u32(T.size)
    cpu.reserve_valid = u32(1)
    return u64(raw) if little else u64(bswap(raw))


@native(inline=True)
def conditional(cpu: Vcpu, T: Static, ea: u64, value: u64) -> None:
    """Store if the reservation still holds; CR0 tells."""
    where = address(cpu, ea)
    if where & (T.size - 1):
        raise_alignment(cpu, where, True, u32(0))
    soft = soft_entry(cpu, where)
    host = where + soft.addend
    little = False
    if soft.write != soft_tag(where):
        if optimistic():
            to_handler()
        host, little = plain_host(cpu, where, u32(WRITE), u32(T.size))
    done = u8(0)
    if cpu.reserve_valid and cpu.reserve_size == T.size and cpu.reserve_address == host:
        expected = T(cpu.reserve_value)
        stored = T(value) if little else bswap(T(value))
        if atomic_cas(T, host, expected, stored) == expected:
            done = u8(2)
    cpu.reserve_valid = u32(0)
    cpu.cr[0] = done | cpu.so


def reserve_forms(T: Any, letter: str, title: str, load_xo: int, store_xo: int, needs: str) -> None:
    """Declare the pair of instructions for a width."""

    @insn(f"31 rt:5 ra:5 rb:5 {load_xo}:10 eh:1", f"l{letter}arx rt,ra0,rb", needs=needs, hot=True, split="ra")
    @named(f"l{letter}arx", f"Load {title} And Reserve Indexed")
    def larx(cpu: Vcpu, rt: u32, ra: u32, rb: u32, eh: u32) -> None:
        if ra == 0:
            cpu.gpr[rt] = reserve(cpu, T, cpu.gpr[rb])
        else:
            cpu.gpr[rt] = reserve(cpu, T, cpu.gpr[ra] + cpu.gpr[rb])

    @insn(f"31 rs:5 ra:5 rb:5 {store_xo}:10 1:1", f"st{letter}cx. rs,ra0,rb", needs=needs, hot=True, split="ra")
    @named(f"st{letter}cx_dot", f"Store {title} Conditional Indexed")
    def stcx(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
        if ra == 0:
            conditional(cpu, T, cpu.gpr[rb], cpu.gpr[rs])
        else:
            conditional(cpu, T, cpu.gpr[ra] + cpu.gpr[rb], cpu.gpr[rs])


reserve_forms(u32, "w", "Word", 20, 150, "")
reserve_forms(u64, "d", "Doubleword", 84, 214, "64")
reserve_forms(u8, "b", "Byte", 52, 694, "er")
reserve_forms(u16, "h", "Halfword", 116, 726, "er")


# ---- decorated storage: the decoration in RA means nothing to memory and to devices that define none ----------------


def decorated(T: Any, letter: str, title: str, load_xo: int, store_xo: int, needs: str) -> None:
    """Declare decorated loads and stores of a width."""

    @insn(f"31 rt:5 ra:5 rb:5 {load_xo}:10 /:1", f"l{letter}dx rt,ra,rb", needs=needs)
    @named(f"l{letter}dx", f"Load {title} with Decoration Indexed")
    def ldx(cpu: Vcpu, rt: u32, ra: u32, rb: u32) -> None:
        cpu.gpr[rt] = load_slow(cpu, address(cpu, cpu.gpr[rb]), u32(T.size))

    @insn(f"31 rs:5 ra:5 rb:5 {store_xo}:10 /:1", f"st{letter}dx rs,ra,rb", needs=needs)
    @named(f"st{letter}dx", f"Store {title} with Decoration Indexed")
    def stdx(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
        store_slow(cpu, address(cpu, cpu.gpr[rb]), u64(T(cpu.gpr[rs])), u32(T.size))


decorated(u8, "b", "Byte", 515, 643, "ds")
decorated(u16, "h", "Halfword", 547, 675, "ds")
decorated(u32, "w", "Word", 579, 707, "ds")
decorated(u64, "d", "Doubleword", 611, 739, "ds 64")


@insn("31 /:5 ra:5 rb:5 483:10 /:1", "dsn ra,rb", needs="ds")
def dsn(cpu: Vcpu, ra: u32, rb: u32) -> None:
    """Decorated Storage Notify: checked as a store, otherwise without effect on memory."""
    translate(cpu, address(cpu, cpu.gpr[rb]), data_space(cpu), u32(WRITE), u32(0))
