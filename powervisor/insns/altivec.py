"""Forms of AltiVec instructions (Book I, chapter 6): what the families declare their entries with.

An `operation` is an inline native function of a vector type and operands of that type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..isa.insn import insn
from ..native.ints import u32, u128
from ..vcpu.ops import require_altivec
from ..vcpu.state import Vcpu
from ..vcpu.vector import record6, saturates
from .storage import named

WIDTHS = {8: "Byte", 16: "Halfword", 32: "Word"}
"""The manual's names of lane widths."""


def declared_by(operation: Any, name: str, title: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Name an entry's body, and count it among those of the file its operation is in."""

    def rename(body: Callable[..., None]) -> Callable[..., None]:
        body.__module__ = operation.__module__
        return named(name, title)(body)

    return rename


def vx(name: str, title: str, xo: int, T: Any, operation: Any, hot: bool = False) -> None:
    """Two registers to one: `operation(T, a, b) -> T`."""

    @insn(f"4 vrt:5 vra:5 vrb:5 {xo}:11", f"{name} vrt,vra,vrb", needs="altivec", hot=hot)
    @declared_by(operation, name, title)
    def two(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = u128(operation(T, T(cpu.vr[vra]), T(cpu.vr[vrb])))


def vx_saturating(name: str, title: str, xo: int, T: Any, operation: Any, hot: bool = False) -> None:
    """Two registers to one: `operation(T, a, b) -> (u128, u128)`, the result and what saturation changed."""

    @insn(f"4 vrt:5 vra:5 vrb:5 {xo}:11", f"{name} vrt,vra,vrb", needs="altivec", hot=hot)
    @declared_by(operation, name, title)
    def two_saturating(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32) -> None:
        require_altivec(cpu)
        result, lost = operation(T, T(cpu.vr[vra]), T(cpu.vr[vrb]))
        saturates(cpu, lost)
        cpu.vr[vrt] = result


def vx_unary(name: str, title: str, xo: int, T: Any, operation: Any, hot: bool = False) -> None:
    """One register to one: `operation(T, b) -> u128`."""

    @insn(f"4 vrt:5 /:5 vrb:5 {xo}:11", f"{name} vrt,vrb", needs="altivec", hot=hot)
    @declared_by(operation, name, title)
    def one(cpu: Vcpu, vrt: u32, vrb: u32) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = operation(T, T(cpu.vr[vrb]))


def va(name: str, title: str, xo: int, T: Any, operation: Any, hot: bool = False) -> None:
    """Three registers to one: `operation(T, a, b, c) -> T`."""

    @insn(f"4 vrt:5 vra:5 vrb:5 vrc:5 {xo}:6", f"{name} vrt,vra,vrb,vrc", needs="altivec", hot=hot)
    @declared_by(operation, name, title)
    def three(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, vrc: u32) -> None:
        require_altivec(cpu)
        cpu.vr[vrt] = u128(operation(T, T(cpu.vr[vra]), T(cpu.vr[vrb]), T(cpu.vr[vrc])))


def va_saturating(name: str, title: str, xo: int, T: Any, operation: Any) -> None:
    """Three registers to one: `operation(T, a, b, c) -> (u128, u128)`, the result and what saturation changed."""

    @insn(f"4 vrt:5 vra:5 vrb:5 vrc:5 {xo}:6", f"{name} vrt,vra,vrb,vrc", needs="altivec")
    @declared_by(operation, name, title)
    def three_saturating(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, vrc: u32) -> None:
        require_altivec(cpu)
        result, lost = operation(T, T(cpu.vr[vra]), T(cpu.vr[vrb]), T(cpu.vr[vrc]))
        saturates(cpu, lost)
        cpu.vr[vrt] = result


def vc(name: str, title: str, xo: int, T: Any, operation: Any) -> None:
    """A comparison of lanes, `operation(T, a, b) -> T`, with CR6 when Rc=1."""

    @insn(f"4 vrt:5 vra:5 vrb:5 rc:1 {xo}:10", f"{name}{{rc}} vrt,vra,vrb", needs="altivec", hot=True)
    @declared_by(operation, name, title)
    def compare(cpu: Vcpu, vrt: u32, vra: u32, vrb: u32, rc: u32) -> None:
        require_altivec(cpu)
        mask = u128(operation(T, T(cpu.vr[vra]), T(cpu.vr[vrb])))
        cpu.vr[vrt] = mask
        if rc:
            record6(cpu, mask)
