"""Load and store multiple and string (Book I, 3.3.6 and 3.3.7)."""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i64, u8, u32, u64
from ..native.lang import native
from ..vcpu.access import load, store
from ..vcpu.interrupts import raise_alignment
from ..vcpu.ops import address
from ..vcpu.state import Vcpu


@native(inline=True)
def base(cpu: Vcpu, ra: u32) -> u64:
    """(RA|0)."""
    return cpu.gpr[ra] if ra != 0 else u64(0)


@insn("46 rt:5 ra:5 d:s16", "lmw rt,d(ra)", restartable=True)
def lmw(cpu: Vcpu, rt: u32, ra: u32, d: i64) -> None:
    """Load Multiple Word"""
    ea = base(cpu, ra) + u64(d)
    if ea & 3:
        raise_alignment(cpu, address(cpu, ea), False)
    for n in range(rt, u32(32)):
        value = u64(load(cpu, u32, ea))
        if n != ra or n == 31:
            cpu.gpr[n] = value
        ea += 4


@insn("47 rs:5 ra:5 d:s16", "stmw rs,d(ra)", restartable=True)
def stmw(cpu: Vcpu, rs: u32, ra: u32, d: i64) -> None:
    """Store Multiple Word"""
    ea = base(cpu, ra) + u64(d)
    if ea & 3:
        raise_alignment(cpu, address(cpu, ea), True)
    for n in range(rs, u32(32)):
        store(cpu, u32, ea, u32(cpu.gpr[n]))
        ea += 4


@native
def load_string(cpu: Vcpu, rt: u32, start: u64, count: u32, ra: u32, rb: u32) -> None:
    """Load `count` bytes into successive registers, four in each; a register that holds the address is left alone."""
    n = rt
    ea = start
    left = count
    while left != 0:
        word = u32(0)
        for _ in range(u32(4)):
            word = word << 8
            if left != 0:
                word |= u32(load(cpu, u8, ea))
                ea += 1
                left -= 1
        if n != ra and n != rb:
            cpu.gpr[n] = u64(word)
        n = (n + 1) & 31


@native
def store_string(cpu: Vcpu, rs: u32, start: u64, count: u32) -> None:
    """Store `count` bytes of successive registers."""
    n = rs
    ea = start
    left = count
    while left != 0:
        word = u32(cpu.gpr[n])
        for _ in range(u32(4)):
            if left != 0:
                store(cpu, u8, ea, u8(word >> 24))
                word = word << 8
                ea += 1
                left -= 1
        n = (n + 1) & 31


@insn("31 rt:5 ra:5 nb:5 597:10 /:1", "lswi rt,ra0,nb", restartable=True)
def lswi(cpu: Vcpu, rt: u32, ra: u32, nb: u32) -> None:
    """Load String Word Immediate"""
    load_string(cpu, rt, base(cpu, ra), nb if nb != 0 else u32(32), ra if ra != 0 else u32(32), u32(32))


@insn("31 rt:5 ra:5 rb:5 533:10 /:1", "lswx rt,ra0,rb", restartable=True)
def lswx(cpu: Vcpu, rt: u32, ra: u32, rb: u32) -> None:
    """Load String Word Indexed"""
    load_string(cpu, rt, base(cpu, ra) + cpu.gpr[rb], u32(cpu.xer_count), ra if ra != 0 else u32(32), rb)


@insn("31 rs:5 ra:5 nb:5 725:10 /:1", "stswi rs,ra0,nb", restartable=True)
def stswi(cpu: Vcpu, rs: u32, ra: u32, nb: u32) -> None:
    """Store String Word Immediate"""
    store_string(cpu, rs, base(cpu, ra), nb if nb != 0 else u32(32))


@insn("31 rs:5 ra:5 rb:5 661:10 /:1", "stswx rs,ra0,rb", restartable=True)
def stswx(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
    """Store String Word Indexed"""
    store_string(cpu, rs, base(cpu, ra) + cpu.gpr[rb], u32(cpu.xer_count))
