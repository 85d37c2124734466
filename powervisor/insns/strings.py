"""Load and store multiple and string (Book I, 3.3.6 and 3.3.7)."""

from __future__ import annotations

from ..isa.insn import insn
from ..native.ints import i64, u8, u32, u64
from ..native.lang import bswap, native
from ..native.lang import load as load_host
from ..native.lang import store as store_host
from ..vcpu.access import load, soft_entry, store
from ..vcpu.interrupts import raise_alignment
from ..vcpu.mmu import soft_tag
from ..vcpu.ops import address
from ..vcpu.state import Vcpu

NOWHERE = 0xFFFF_FFFF_FFFF_FFFF


@native(inline=True)
def base(cpu: Vcpu, ra: u32) -> u64:
    """(RA|0)."""
    return cpu.gpr[ra] if ra != 0 else u64(0)


@native(inline=True)
def known_bytes(cpu: Vcpu, ea: u64, size: u32, write: bool) -> u64:
    """Host address of some bytes, at least one, when the soft TLB knows their page; else NOWHERE."""
    where = address(cpu, ea)
    soft = soft_entry(cpu, where)
    tag = soft.write if write else soft.read
    return where + soft.addend if tag == soft_tag(where + u64(size) - 1) else u64(NOWHERE)


@native
def load_words(cpu: Vcpu, rt: u32, start: u64, ra: u32) -> None:
    """Load registers `rt` to 31; one that holds the address is left alone, but for 31."""
    host = known_bytes(cpu, start, 4 * (32 - rt), False)
    ea = start
    for n in range(rt, u32(32)):
        value = u64(0)
        if host == NOWHERE:
            value = u64(load(cpu, u32, ea))
        else:
            value = u64(bswap(load_host(u32, host + (ea - start))))
        if n != ra or n == 31:
            cpu.gpr[n] = value
        ea += 4


@native
def store_words(cpu: Vcpu, rs: u32, start: u64) -> None:
    """Store registers `rs` to 31."""
    host = known_bytes(cpu, start, 4 * (32 - rs), True)
    ea = start
    for n in range(rs, u32(32)):
        if host == NOWHERE:
            store(cpu, u32, ea, u32(cpu.gpr[n]))
        else:
            store_host(u32, host + (ea - start), bswap(u32(cpu.gpr[n])))
        ea += 4


@insn("46 rt:5 ra:5 d:s16", "lmw rt,d(ra)", restartable=True)
def lmw(cpu: Vcpu, rt: u32, ra: u32, d: i64) -> None:
    """Load Multiple Word"""
    ea = base(cpu, ra) + u64(d)
    if ea & 3:
        raise_alignment(cpu, address(cpu, ea), False, u32(0))
    load_words(cpu, rt, ea, ra)


@insn("47 rs:5 ra:5 d:s16", "stmw rs,d(ra)", restartable=True)
def stmw(cpu: Vcpu, rs: u32, ra: u32, d: i64) -> None:
    """Store Multiple Word"""
    ea = base(cpu, ra) + u64(d)
    if ea & 3:
        raise_alignment(cpu, address(cpu, ea), True, u32(0))
    store_words(cpu, rs, ea)


@native
def load_string(cpu: Vcpu, rt: u32, start: u64, count: u32, ra: u32, rb: u32) -> None:
    """Load `count` bytes into successive registers, four in each; a register that holds the address is left alone."""
    if count == 0:
        return
    host = known_bytes(cpu, start, count, False)
    n = rt
    done = u32(0)
    while done < count:
        word = u32(0)
        if host != NOWHERE and count - done >= 4:
            word = bswap(load_host(u32, host + u64(done)))
            done += 4
        else:
            for _ in range(u32(4)):
                word = word << 8
                if done < count:
                    word |= u32(load(cpu, u8, start + u64(done)))
                    done += 1
        if n != ra and n != rb:
            cpu.gpr[n] = u64(word)
        n = (n + 1) & 31


@native
def store_string(cpu: Vcpu, rs: u32, start: u64, count: u32) -> None:
    """Store `count` bytes of successive registers."""
    if count == 0:
        return
    host = known_bytes(cpu, start, count, True)
    n = rs
    done = u32(0)
    while done < count:
        word = u32(cpu.gpr[n])
        if host != NOWHERE and count - done >= 4:
            store_host(u32, host + u64(done), bswap(word))
            done += 4
        else:
            for _ in range(u32(4)):
                if done < count:
                    store(cpu, u8, start + u64(done), u8(word >> 24))
                    word = word << 8
                    done += 1
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
