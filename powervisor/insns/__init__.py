"""The instruction set, a file a family; `TABLE` is all of it, and text of its instructions goes both ways here."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

from ..errors import UserError
from ..isa import cores
from ..isa.cores import Core
from ..isa.insn import Table, declared

if TYPE_CHECKING:
    from ..isa.asm import Assembler
    from ..isa.asm_source import Program
    from ..isa.disasm import Disassembler

FAMILIES = (
    "fixed", "logical", "compare", "rotate", "branch", "condition", "storage", "strings", "atomic", "cache", "external",
    "system", "special", "mmu", "float", "float_move", "float_storage",
    "altivec_integer", "altivec_multiply", "altivec_permute", "altivec_storage", "altivec_float",
)  # fmt: skip

for _family in FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")

TABLE = Table(declared())


@functools.cache
def _disassembler(core: str | None) -> Disassembler:
    from ..isa.disasm import Disassembler

    if core is None:
        return Disassembler(TABLE)
    return Disassembler(TABLE.for_core(cores.get(core).categories), cores.get(core).bits)


@functools.cache
def _assembler(core: str | None) -> Assembler:
    from ..isa.asm import Assembler

    return Assembler(TABLE, cores.get(core) if core else None)


def disassemble(word: int, pc: int = 0, core: Core | None = None) -> str:
    """The text of an instruction at an address, as a core (by default: all of them) understands it."""
    return _disassembler(core.name if core else None).text(word, pc)


def assemble(text: str, pc: int = 0, core: Core | None = None) -> int:
    """The word of one instruction at an address. Raises UserError."""
    try:
        return _assembler(core.name if core else None).encode(text, pc)
    except ValueError as error:
        raise UserError(f"{text}: {error}") from None


def assemble_source(text: str, origin: int = 0, core: Core | None = None, name: str = "source") -> Program:
    """Assemble a program (see isa.asm_source) to run at an address. Raises UserError with `name` and the line."""
    from ..isa import asm_source

    return asm_source.assemble_source(text, origin, _assembler(core.name if core else None), name)
