"""The hypervisor and its partitions' program from their sources to one ELF file."""

from __future__ import annotations

from pathlib import Path

from ...devices.mpic_registers import Offset
from ...insns import assemble_source
from ...isa import registers
from ...isa.asm_source import Program
from ..builtin import build as builtin
from ..builtin.program import state as board
from .program import layout, main, state
from .program.exits import crash

HERE = Path(__file__).parent
SOURCES = (HERE / "entry.s", HERE / "world.s", builtin.HERE / "routines.s", HERE / "registers.s")
REGISTERS = (registers.MSR, registers.MSRP, registers.EPLC, registers.MAS0, registers.MAS1, registers.MAS3)
ENTRIES = (main.first_cpu, main.other_cpu, crash)
PARTITION = builtin.LOAD_ADDRESS + 0x2000
"""Where the partitions' program waits to be copied."""
COMPILED = PARTITION + layout.PROGRAM_SIZE


def constants(bits: int) -> dict[str, int]:
    """What both assembly programs know."""
    known = {name: value for name, value in vars(layout).items() if name.isupper()}
    return known | builtin.masks(*REGISTERS) | {"WIDE": int(bits == 64), "EOI": Offset.EOI, "IACK": Offset.IACK}


def partition(bits: int) -> Program:
    """The program of both partitions, for effective address 0."""
    head = "".join(f"{name} = {value}\n" for name, value in constants(bits).items())
    return assemble_source(head + HERE.joinpath("partition.s").read_text(), 0, name="partition")


def build(bits: int) -> bytes:
    """The whole as an ELF executable."""
    data = partition(bits).data
    assert len(data) <= layout.PROGRAM_SIZE
    known = constants(bits) | builtin.names(board, state)
    text = "\n".join(path.read_text() for path in SOURCES)
    text += f"\n.org {PARTITION:#x}\npartition_program:\n.byte {','.join(map(str, data))}\n"
    return builtin.link("hypervisor-demo", ENTRIES, (state.Stacks, board.Board), text, known, COMPILED)
