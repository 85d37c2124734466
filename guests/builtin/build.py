"""The built-in guest from its sources: native functions through LLVM, assembly by our assembler, linked to one ELF."""

from __future__ import annotations

from pathlib import Path

from ...insns import assemble_source
from ...isa import registers
from ...isa.cores import CORES
from ...native.struct import Struct
from .compiler import compile_guest
from .linker import Object, executable
from .program import main, state, team
from .program.interrupts import on_interrupt

LOAD_ADDRESS = 0x0010_0000
"""A multiple of 64 KiB: IVPR holds no lower bits."""
COMPILED = LOAD_ADDRESS + 0x2000
SOURCES = ("entry.s", "routines.s", "kernels.s")
MASKS = (registers.MSR,)
ENTRIES = (main.first_cpu, team.other_cpu, on_interrupt)


def names() -> dict[str, int]:
    """What the assembly source takes from the rest: struct layouts, register masks, constants."""
    found = {"STACK_SIZE": state.STACK_SIZE, "E6500": CORES["e6500"].pvr}
    for kind in vars(state).values():
        if isinstance(kind, type) and issubclass(kind, Struct):
            found[f"{kind.__name__}.size"] = kind.size
            found |= {f"{kind.__name__}.{field.name}": field.offset for field in kind.fields.values()}
    for register in MASKS:
        found |= {f"{register.__name__}.{name}": mask for name, mask in register.masks().items()}
    return found


def build() -> bytes:
    """The guest as an ELF executable."""
    code, entries = compile_guest(ENTRIES, (state.Stacks,))
    compiled = Object(code)
    end = compiled.place(COMPILED)
    addresses = compiled.addresses()
    known = names() | {n: a for n, a in addresses.items() if n.startswith("the.")}
    known |= {name: addresses[symbol] for name, symbol in entries.items()}
    head = "".join(f"{name} = {value}\n" for name, value in known.items())
    here = Path(__file__).parent
    text = "\n".join(here.joinpath(name).read_text() for name in SOURCES)
    assembled = assemble_source(head + text, LOAD_ADDRESS, name="builtin")
    labels = {name: value for name, value in assembled.symbols.items() if name not in known}
    data = bytearray(assembled.data)
    for section in compiled.sections.values():
        if section.data:
            data += bytes(section.address - LOAD_ADDRESS - len(data))
            data += compiled.relocated(section, labels)
    return executable(labels["start"], LOAD_ADDRESS, bytes(data), end, {**addresses, **labels})
