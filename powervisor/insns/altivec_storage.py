"""AltiVec loads, stores, alignment masks and data streams (Book I, 6.7, 6.8.2)."""

from __future__ import annotations

from typing import Any

from ..isa.insn import insn
from ..native.ints import u8, u16, u32, u64, u128
from ..native.lang import native
from ..native.vectors import splat, u8x16, u16x8, u32x4, u64x2
from ..vcpu.access import load, store
from ..vcpu.ops import address, require_altivec
from ..vcpu.state import Vcpu
from ..vcpu.vector import element_place, load_vector, store_vector
from .altivec import WIDTHS
from .altivec_permute import COUNTING
from .storage import named


@native(inline=True)
def indexed(cpu: Vcpu, ra: u32, rb: u32) -> u64:
    """(ra|0) + rb."""
    if ra == 0:
        return cpu.gpr[rb]
    return cpu.gpr[ra] + cpu.gpr[rb]


def quadword(name: str, tail: str, load_xo: int, store_xo: int) -> None:
    """Declare the load and the store of a quadword; the last use (LRU) forms differ for caches only."""

    @insn(f"31 vrt:5 ra:5 rb:5 {load_xo}:10 /:1", f"l{name} vrt,ra0,rb", needs="altivec", hot=True, split="ra")
    @named(f"l{name}", f"Load Vector Indexed{tail}")
    def load_quadword(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = load_vector(cpu, indexed(cpu, ra, rb))

    @insn(f"31 vrs:5 ra:5 rb:5 {store_xo}:10 /:1", f"st{name} vrs,ra0,rb", needs="altivec", hot=True, split="ra")
    @named(f"st{name}", f"Store Vector Indexed{tail}")
    def store_quadword(cpu: Vcpu, vrs: u32, ra: u32, rb: u32) -> None:
        require_altivec(cpu)
        store_vector(cpu, indexed(cpu, ra, rb), cpu.vr[vrs])


quadword("vx", "", 103, 231)
quadword("vxl", " Last", 359, 487)


def element(T: Any, V: Any, load_xo: int, store_xo: int) -> None:
    """Declare the load and the store of one element, at the place in the register that its address says.

    The other elements of a load are undefined by the architecture: here all take the value, whatever its place.
    """
    width = WIDTHS[T.bits]
    letter = width[0].lower()

    @insn(f"31 vrt:5 ra:5 rb:5 {load_xo}:10 /:1", f"lve{letter}x vrt,ra0,rb", needs="altivec", hot=True, split="ra")
    @named(f"lve{letter}x", f"Load Vector Element {width} Indexed")
    def load_element(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = u128(splat(V, load(cpu, T, indexed(cpu, ra, rb) & ~u64(T.size - 1))))

    @insn(f"31 vrs:5 ra:5 rb:5 {store_xo}:10 /:1", f"stve{letter}x vrs,ra0,rb", needs="altivec", hot=True, split="ra")
    @named(f"stve{letter}x", f"Store Vector Element {width} Indexed")
    def store_element(cpu: Vcpu, vrs: u32, ra: u32, rb: u32) -> None:
        require_altivec(cpu)
        ea = address(cpu, indexed(cpu, ra, rb)) & ~u64(T.size - 1)
        from_end = 16 - u64(T.size) - element_place(cpu, ea, u32(T.size))
        store(cpu, T, ea, T(cpu.vr[vrs] >> u128(from_end * 8)))


element(u8, u8x16, 7, 135)
element(u16, u16x8, 39, 167)
element(u32, u32x4, 71, 199)


@native(inline=True)
def bytes_from(first: u64) -> u128:
    """Sixteen bytes that count up from `first`."""
    return u128(COUNTING + u8x16(splat(u64x2, first * 0x0101_0101_0101_0101)))


@insn("31 vrt:5 ra:5 rb:5 6:10 /:1", "lvsl vrt,ra0,rb", needs="altivec", hot=True, split="ra")
def lvsl(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
    """Load Vector for Shift Left Indexed"""
    require_altivec(cpu)
    cpu.vr[vrt] = bytes_from(indexed(cpu, ra, rb) & 15)


@insn("31 vrt:5 ra:5 rb:5 38:10 /:1", "lvsr vrt,ra0,rb", needs="altivec", hot=True, split="ra")
def lvsr(cpu: Vcpu, vrt: u32, ra: u32, rb: u32) -> None:
    """Load Vector for Shift Right Indexed"""
    require_altivec(cpu)
    cpu.vr[vrt] = bytes_from(16 - (indexed(cpu, ra, rb) & 15))


def stream(name: str, title: str, transient: int, xo: int) -> None:
    """Declare a data stream hint. e6500 takes them as no-operations, whatever MSR[VEC] (EREF, 5.4)."""

    @insn(f"31 {transient}:1 /:2 strm:2 ra:5 rb:5 {xo}:10 /:1", f"{name} ra,rb,strm", needs="altivec")
    @named(name, title)
    def touch(cpu: Vcpu, strm: u32, ra: u32, rb: u32) -> None:
        pass


stream("dst", "Data Stream Touch", 0, 342)
stream("dstt", "Data Stream Touch Transient", 1, 342)
stream("dstst", "Data Stream Touch for Store", 0, 374)
stream("dststt", "Data Stream Touch for Store Transient", 1, 374)


@insn("31 0:1 /:2 strm:2 /:5 /:5 822:10 /:1", "dss strm", needs="altivec")
def dss(cpu: Vcpu, strm: u32) -> None:
    """Data Stream Stop"""


@insn("31 1:1 /:2 /:2 /:5 /:5 822:10 /:1", "dssall", needs="altivec")
def dssall(cpu: Vcpu) -> None:
    """Data Stream Stop All"""
