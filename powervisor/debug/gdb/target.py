"""Target descriptions: which registers gdb sees of a core, in which order and groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from ...isa.cores import Core
from ...vcpu.sprs import GROUPS

_ELSEWHERE = {"XER": "base", "LR": "base", "CTR": "base", "VRSAVE": "altivec"}
"""SPRs that gdb has in features of its own, where a core has the category."""


@dataclass(frozen=True)
class Register:
    """A register: gdb's name, ours, bits, and how gdb shows it."""

    name: str
    ours: str
    bits: int
    kind: str = "int"
    group: str = ""


@dataclass(frozen=True)
class Target:
    """Registers by gdb's number, and the features they are in."""

    architecture: str
    features: tuple[tuple[str, tuple[Register, ...]], ...]

    @property
    def registers(self) -> tuple[Register, ...]:
        """All of them, in order."""
        return tuple(register for _, registers in self.features for register in registers)

    def xml(self) -> str:
        """The description as gdb reads it (gdb manual, "Target Descriptions")."""
        lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', '<target version="1.0">']
        lines.append(f"<architecture>{self.architecture}</architecture>")
        for name, registers in self.features:
            lines.append(f"<feature name={quoteattr(name)}>")
            if any(register.kind == "vec128" for register in registers):
                lines += _VECTOR_TYPES
            for register in registers:
                group = f" group={quoteattr(register.group)}" if register.group else ""
                lines.append(
                    f'<reg name={quoteattr(register.name)} bitsize="{register.bits}" type="{register.kind}"{group}/>'
                )
            lines.append("</feature>")
        return "\n".join([*lines, "</target>"])


_VECTOR_TYPES = [
    '<vector id="v4f" type="ieee_single" count="4"/>', '<vector id="v4i32" type="int32" count="4"/>',
    '<vector id="v8i16" type="int16" count="8"/>', '<vector id="v16i8" type="int8" count="16"/>',
    '<union id="vec128">', '<field name="uint128" type="uint128"/>', '<field name="v4_float" type="v4f"/>',
    '<field name="v4_int32" type="v4i32"/>', '<field name="v8_int16" type="v8i16"/>',
    '<field name="v16_int8" type="v16i8"/>', "</union>",
]  # fmt: skip


def _core(bits: int) -> Iterator[Register]:
    for n in range(32):
        yield Register(f"r{n}", f"r{n}", bits, group="general")
    yield Register("pc", "pc", bits, "code_ptr", "general")
    yield Register("msr", "msr", bits, "int", "general")
    yield Register("cr", "cr", 32, group="general")
    yield Register("lr", "lr", bits, "code_ptr", "general")
    yield Register("ctr", "ctr", bits, group="general")
    yield Register("xer", "xer", 32, group="general")


def target_of(core: Core) -> Target:
    """What gdb sees of a core."""
    fpu = [Register(f"f{n}", f"f{n}", 64, "ieee_double", "float") for n in range(32)]
    features = [
        ("org.gnu.gdb.power.core", tuple(_core(core.bits))),
        ("org.gnu.gdb.power.fpu", (*fpu, Register("fpscr", "fpscr", 32, group="float"))),
    ]
    if "altivec" in core.categories:
        vectors = [Register(f"vr{n}", f"v{n}", 128, "vec128", "vector") for n in range(32)]
        last = (Register("vscr", "vscr", 32, group="vector"), Register("vrsave", "vrsave", 32, group="vector"))
        features.append(("org.gnu.gdb.power.altivec", (*vectors, *last)))
    for group, rows in GROUPS.items():
        registers = tuple(
            Register(row.name.lower(), row.name.lower(), row.bits_on(core), "int", group)
            for row in rows
            if row.on(core) and row.access[0] != "-" and _ELSEWHERE.get(row.name) not in core.categories
        )
        features.append((f"org.powervisor.{core.name}.{group}", registers))
    return Target(f"powerpc:{core.name}", tuple(features))
