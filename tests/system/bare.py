"""Bare-metal guests for tests: assembled from source, loaded at ORIGIN, entered by CPU 0."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from powervisor import Machine
from powervisor.insns import assemble_source
from powervisor.isa import cores
from powervisor.machine import LoaderDevice

ORIGIN = 0x1000
MIB = 1 << 20
MAPPED = 64 * MIB
"""Bytes that a test's machine has and a CPU enters with mapped."""
RESULTS = 0x10_0000
"""Where programs leave words for the test."""

COUNTS = """
    load32 r3, RESULTS
    li    r4, 0
loop:
    addi  r4, r4, 1
    stw   r4, 0(r3)
    b     loop
"""
"""Counts for ever, in the first word of RESULTS."""
POWERS_OFF = """
    devices
    load32 r4, DEVICES + 0xFF000  # GPIO
    load32 r3, 1 << (31 - 0)
    stw   r3, 0(r4)               # direction
    stw   r3, 8(r4)               # data: the line that switches off
    b     .
"""

MACROS = """
    .set RESULTS, 0x100000
    .set DEVICES, 0xE0000000    # where `devices` maps CCSR: serial, MPIC, GUTS
    .set SPIN, 0xE8000000       # and the spin table

    .macro load32 reg, value
    lis   \\reg, (\\value) >> 16
    ori   \\reg, \\reg, (\\value) & 0xFFFF
    .endm

    .macro vector spr, to       # IVPR stays 0
    load32 r31, \\to
    mtspr \\spr, r31
    .endm

    # TLB1 entry n: effective ea to physical high:low, 1 KiB << size, every permission
    .macro map n, ea, high, low, size, wimge
    load32 r31, 0x10000000 | \\n << 16
    mtspr 624, r31
    load32 r31, 0xC0000000 | \\size << 7
    mtspr 625, r31
    load32 r31, (\\ea) | \\wimge
    mtspr 626, r31
    load32 r31, (\\low) | 0x3F
    mtspr 627, r31
    li    r31, \\high
    mtspr 944, r31
    isync
    tlbwe
    isync
    .endm

    .macro devices
    map 14, DEVICES, 0xF, 0xE0000000, 10, 0xA
    map 15, SPIN, 0xF, 0xEF000000, 4, 0xA
    .endm

    .macro done                 # the first result is 1; nothing more is done
    load32 r6, RESULTS
    li    r5, 1
    stw   r5, 0(r6)
    b     .
    .endm

    # The first UART's interrupts to CPU 0: r4 is the MPIC, r6 the UART; source 42, level, priority 8, vector 0x33
    .macro uart_interrupts
    devices
    load32 r4, DEVICES + 0x40000
    load32 r31, 0x20000000        # GCR: mixed mode
    stw   r31, 0x1020(r4)
    load32 r5, DEVICES + 0x50000 + 42 * 0x20
    load32 r31, 0x00480033        # IVPR42
    stw   r31, 0(r5)
    li    r31, 1
    stw   r31, 0x10(r5)           # IDR42
    li    r31, 0
    stw   r31, 0x80(r4)           # CTPR
    load32 r6, DEVICES + 0x4500
    .endm

    # Start CPU n at an address, and hold it again through the MPIC
    .macro release n, address
    load32 r30, SPIN + \\n * 32
    load32 r31, \\address
    stw   r31, 4(r30)
    .endm
"""


@contextmanager
def bare_machine(source: str, cpu: str = "e5500", **options: Any) -> Iterator[Machine]:
    """A machine whose CPU 0 will run `source`; closed at the end."""
    program = assemble_source(MACROS + source, ORIGIN, cores.get(cpu))
    with TemporaryDirectory() as directory:
        path = Path(directory) / "program.bin"
        path.write_bytes(program.data)
        options = {"memory": MAPPED, "serial": [None], **options}
        with Machine(cpu=cpu, loaders=[LoaderDevice(str(path), ORIGIN, 0)], **options) as machine:
            machine.symbols = program.symbols  # type: ignore[attr-defined]
            yield machine


def results(machine: Machine, count: int) -> tuple[int, ...]:
    """The first words a program left."""
    return struct.unpack(f">{count}I", machine.memory[RESULTS : RESULTS + 4 * count])


def counts(machine: Machine) -> bool:
    """Whether the first of them changes: soon, but for a machine that nobody holds and the host has no time for."""
    before, deadline = results(machine, 1), time.monotonic() + (0.03 if machine.held else 20)
    while results(machine, 1) == before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
