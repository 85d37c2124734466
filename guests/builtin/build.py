"""The built-in guest from its sources: native functions through LLVM, assembly by our assembler, linked to one ELF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from ...insns import assemble_source
from ...isa import registers
from ...isa.cores import CORES
from ...native.lang import NativeFunction
from ...native.struct import Struct
from .compiler import compile_guest
from .linker import Object, executable
from .program import main, state, team
from .program.interrupts import on_interrupt

LOAD_ADDRESS = 0x0010_0000
"""A multiple of 64 KiB: IVPR holds no lower bits."""
COMPILED = LOAD_ADDRESS + 0x2000
HERE = Path(__file__).parent
SOURCES = ("entry.s", "routines.s", "kernels.s")
MASKS = (registers.MSR,)
ENTRIES = (main.first_cpu, team.other_cpu, on_interrupt)


def names(*layouts: ModuleType) -> dict[str, int]:
    """What assembly source takes from a module with structs: sizes, and offsets of fields."""
    found = {}
    for layout in layouts:
        for kind in vars(layout).values():
            if isinstance(kind, type) and issubclass(kind, Struct):
                found[f"{kind.__name__}.size"] = kind.size
                found |= {f"{kind.__name__}.{field.name}": field.offset for field in kind.fields.values()}
    return found


def masks(*chosen: type[registers.Register]) -> dict[str, int]:
    """Masks of the fields of registers, as REGISTER.FIELD."""
    return {f"{kind.__name__}.{name}": mask for kind in chosen for name, mask in kind.masks().items()}


def link(
    name: str,
    entries: tuple[NativeFunction, ...],
    structs: tuple[type[Struct], ...],
    assembly: str,
    known: Mapping[str, int],
    compiled_at: int,
) -> bytes:
    """An ELF executable of native functions and of assembly source, which begins at `start` and knows `known`.

    `compiled_at` is where compiled code begins, behind what is assembled.
    """
    code, symbols = compile_guest(entries, structs)
    compiled = Object(code)
    end = compiled.place(compiled_at)
    addresses = compiled.addresses()
    known = {**known, **{n: a for n, a in addresses.items() if n.startswith("the.")}}
    known |= {entry: addresses[symbol] for entry, symbol in symbols.items()}
    head = "".join(f"{name} = {value}\n" for name, value in known.items())
    assembled = assemble_source(head + assembly, LOAD_ADDRESS, name=name)
    labels = {name: value for name, value in assembled.symbols.items() if name not in known}
    data = bytearray(assembled.data)
    assert len(data) <= compiled_at - LOAD_ADDRESS, f"{name}: {len(data)} bytes of assembly reach the compiled code"
    for section in compiled.sections.values():
        if section.data:
            data += bytes(section.address - LOAD_ADDRESS - len(data))
            data += compiled.relocated(section, labels)
    return executable(labels["start"], LOAD_ADDRESS, bytes(data), end, {**addresses, **labels})


def build() -> bytes:
    """The guest as an ELF executable."""
    known = {"STACK_SIZE": state.STACK_SIZE, "E6500": CORES["e6500"].pvr, **names(state), **masks(*MASKS)}
    text = "\n".join(HERE.joinpath(name).read_text() for name in SOURCES)
    return link("builtin", ENTRIES, (state.Stacks,), text, known, COMPILED)
