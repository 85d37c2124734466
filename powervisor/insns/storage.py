"""Fixed-point loads and stores (Book I, 3.3.2 - 3.3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..isa.insn import insn
from ..native.ints import i16, i32, i64, u8, u16, u32, u64
from ..native.lang import Static, bswap, native
from ..vcpu.access import load, store
from ..vcpu.state import Vcpu

if TYPE_CHECKING:
    T = Any  # the type a static parameter names


@native(inline=True)
def zero_extend(T: Static, value: T) -> u64:
    """Unsigned loads."""
    return u64(value)


@native(inline=True)
def halfword_algebraic(T: Static, value: u16) -> u64:
    """lha: sign-extended."""
    return u64(i64(i16(value)))


@native(inline=True)
def word_algebraic(T: Static, value: u32) -> u64:
    """lwa: sign-extended."""
    return u64(i64(i32(value)))


@native(inline=True)
def byte_reversed(T: Static, value: T) -> u64:
    """lhbrx and its like."""
    return u64(bswap(value))


def named(name: str, title: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a body made in a loop the instruction's own name."""

    def rename(body: Callable[..., None]) -> Callable[..., None]:
        body.__name__, body.__qualname__, body.__doc__ = name, name, title
        return body

    return rename


def load_forms(
    name: str, title: str, T: Any, extend: Any, d: str | None, du: str | None, x: int | None, ux: int | None,
    needs: str = "", hot: bool = True,
) -> None:  # fmt: skip
    """Declare the D, D-with-update, X and X-with-update forms of a load; `d` and `du` are encodings' heads."""
    if d is not None:
        head, field = d.split("|")

        @insn(f"{head} rt:5 ra:5 {field}", f"{name} rt,d(ra)", needs=needs, hot=hot, split="ra")
        @named(name, f"Load {title}")
        def load_d(cpu: Vcpu, rt: u32, ra: u32, d: i64) -> None:
            if ra == 0:
                cpu.gpr[rt] = extend(T, load(cpu, T, u64(d)))
            else:
                cpu.gpr[rt] = extend(T, load(cpu, T, cpu.gpr[ra] + u64(d)))

    if du is not None:
        head, field = du.split("|")

        @insn(f"{head} rt:5 ra:5 {field}", f"{name}u rt,d(ra)", needs=needs, hot=hot)
        @named(f"{name}u", f"Load {title} with Update")
        def load_du(cpu: Vcpu, rt: u32, ra: u32, d: i64) -> None:
            ea = cpu.gpr[ra] + u64(d)
            value = extend(T, load(cpu, T, ea))
            cpu.gpr[ra] = ea
            cpu.gpr[rt] = value

    if x is not None:

        @insn(f"31 rt:5 ra:5 rb:5 {x}:10 /:1", f"{name}x rt,ra0,rb", needs=needs, hot=hot, split="ra")
        @named(f"{name}x", f"Load {title} Indexed")
        def load_x(cpu: Vcpu, rt: u32, ra: u32, rb: u32) -> None:
            if ra == 0:
                cpu.gpr[rt] = extend(T, load(cpu, T, cpu.gpr[rb]))
            else:
                cpu.gpr[rt] = extend(T, load(cpu, T, cpu.gpr[ra] + cpu.gpr[rb]))

    if ux is not None:

        @insn(f"31 rt:5 ra:5 rb:5 {ux}:10 /:1", f"{name}ux rt,ra,rb", needs=needs, hot=hot)
        @named(f"{name}ux", f"Load {title} with Update Indexed")
        def load_ux(cpu: Vcpu, rt: u32, ra: u32, rb: u32) -> None:
            ea = cpu.gpr[ra] + cpu.gpr[rb]
            value = extend(T, load(cpu, T, ea))
            cpu.gpr[ra] = ea
            cpu.gpr[rt] = value


load_forms("lbz", "Byte and Zero", u8, zero_extend, "34|d:s16", "35|d:s16", 87, 119)
load_forms("lhz", "Halfword and Zero", u16, zero_extend, "40|d:s16", "41|d:s16", 279, 311)
load_forms("lha", "Halfword Algebraic", u16, halfword_algebraic, "42|d:s16", "43|d:s16", 343, 375)
load_forms("lwz", "Word and Zero", u32, zero_extend, "32|d:s16", "33|d:s16", 23, 55)


def doubleword(name: str, title: str, kind: int, T: Any, extend: Any, x: int, ux: int) -> None:
    """Declare DS-form loads: two low bits of the displacement are an opcode."""
    updates = name != "lwa"

    @insn(f"58 rt:5 ra:5 d:s14<<2 {kind}:2", f"{name} rt,d(ra)", needs="64", hot=True, split="ra")
    @named(name, f"Load {title}")
    def load_ds(cpu: Vcpu, rt: u32, ra: u32, d: i64) -> None:
        if ra == 0:
            cpu.gpr[rt] = extend(T, load(cpu, T, u64(d)))
        else:
            cpu.gpr[rt] = extend(T, load(cpu, T, cpu.gpr[ra] + u64(d)))

    if updates:

        @insn(f"58 rt:5 ra:5 d:s14<<2 {kind + 1}:2", f"{name}u rt,d(ra)", needs="64", hot=True)
        @named(f"{name}u", f"Load {title} with Update")
        def load_dsu(cpu: Vcpu, rt: u32, ra: u32, d: i64) -> None:
            ea = cpu.gpr[ra] + u64(d)
            value = extend(T, load(cpu, T, ea))
            cpu.gpr[ra] = ea
            cpu.gpr[rt] = value

    load_forms(name, title, T, extend, None, None, x, ux, "64")


doubleword("ld", "Doubleword", 0, u64, zero_extend, 21, 53)
doubleword("lwa", "Word Algebraic", 2, u32, word_algebraic, 341, 373)


def store_forms(
    name: str, title: str, T: Any, op: str | None, opu: str | None, x: int, ux: int, needs: str = ""
) -> None:  # fmt: skip
    """Declare the four forms of a store."""
    if op is not None and opu is not None:
        head, field = op.split("|")
        head_u, field_u = opu.split("|")

        @insn(f"{head} rs:5 ra:5 {field}", f"{name} rs,d(ra)", needs=needs, hot=True, split="ra")
        @named(name, f"Store {title}")
        def store_d(cpu: Vcpu, rs: u32, ra: u32, d: i64) -> None:
            if ra == 0:
                store(cpu, T, u64(d), T(cpu.gpr[rs]))
            else:
                store(cpu, T, cpu.gpr[ra] + u64(d), T(cpu.gpr[rs]))

        @insn(f"{head_u} rs:5 ra:5 {field_u}", f"{name}u rs,d(ra)", needs=needs, hot=True)
        @named(f"{name}u", f"Store {title} with Update")
        def store_du(cpu: Vcpu, rs: u32, ra: u32, d: i64) -> None:
            ea = cpu.gpr[ra] + u64(d)
            store(cpu, T, ea, T(cpu.gpr[rs]))
            cpu.gpr[ra] = ea

    @insn(f"31 rs:5 ra:5 rb:5 {x}:10 /:1", f"{name}x rs,ra0,rb", needs=needs, hot=True, split="ra")
    @named(f"{name}x", f"Store {title} Indexed")
    def store_x(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
        if ra == 0:
            store(cpu, T, cpu.gpr[rb], T(cpu.gpr[rs]))
        else:
            store(cpu, T, cpu.gpr[ra] + cpu.gpr[rb], T(cpu.gpr[rs]))

    @insn(f"31 rs:5 ra:5 rb:5 {ux}:10 /:1", f"{name}ux rs,ra,rb", needs=needs, hot=True)
    @named(f"{name}ux", f"Store {title} with Update Indexed")
    def store_ux(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
        ea = cpu.gpr[ra] + cpu.gpr[rb]
        store(cpu, T, ea, T(cpu.gpr[rs]))
        cpu.gpr[ra] = ea


store_forms("stb", "Byte", u8, "38|d:s16", "39|d:s16", 215, 247)
store_forms("sth", "Halfword", u16, "44|d:s16", "45|d:s16", 407, 439)
store_forms("stw", "Word", u32, "36|d:s16", "37|d:s16", 151, 183)
store_forms("std", "Doubleword", u64, None, None, 149, 181, "64")


@insn("62 rs:5 ra:5 d:s14<<2 0:2", "std rs,d(ra)", needs="64", hot=True, split="ra")
def std(cpu: Vcpu, rs: u32, ra: u32, d: i64) -> None:
    """Store Doubleword"""
    if ra == 0:
        store(cpu, u64, u64(d), cpu.gpr[rs])
    else:
        store(cpu, u64, cpu.gpr[ra] + u64(d), cpu.gpr[rs])


@insn("62 rs:5 ra:5 d:s14<<2 1:2", "stdu rs,d(ra)", needs="64", hot=True)
def stdu(cpu: Vcpu, rs: u32, ra: u32, d: i64) -> None:
    """Store Doubleword with Update"""
    ea = cpu.gpr[ra] + u64(d)
    store(cpu, u64, ea, cpu.gpr[rs])
    cpu.gpr[ra] = ea


# ---- byte-reversed -------------------------------------------------------------------------------------------------

load_forms("lhbr", "Halfword Byte-Reverse", u16, byte_reversed, None, None, 790, None)
load_forms("lwbr", "Word Byte-Reverse", u32, byte_reversed, None, None, 534, None)
load_forms("ldbr", "Doubleword Byte-Reverse", u64, byte_reversed, None, None, 532, None, "64 ldbrx")


def store_reversed(name: str, title: str, T: Any, x: int, needs: str = "") -> None:
    """Declare a byte-reversed store."""

    @insn(f"31 rs:5 ra:5 rb:5 {x}:10 /:1", f"{name} rs,ra0,rb", needs=needs, hot=True, split="ra")
    @named(name, f"Store {title} Byte-Reverse Indexed")
    def store_brx(cpu: Vcpu, rs: u32, ra: u32, rb: u32) -> None:
        if ra == 0:
            store(cpu, T, cpu.gpr[rb], bswap(T(cpu.gpr[rs])))
        else:
            store(cpu, T, cpu.gpr[ra] + cpu.gpr[rb], bswap(T(cpu.gpr[rs])))


store_reversed("sthbrx", "Halfword", u16, 918)
store_reversed("stwbrx", "Word", u32, 662)
store_reversed("stdbrx", "Doubleword", u64, 660, "64 ldbrx")
