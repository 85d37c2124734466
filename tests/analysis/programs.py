"""Bare-metal programs for tests, with symbols."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from powervisor import Machine
from tests.support.waiting import until
from tests.system.bare import results

COMPILER = "powerpc-linux-gnu-gcc"
needs_compiler = pytest.mark.skipif(not shutil.which(COMPILER), reason=f"{COMPILER} is not installed")
FLAGS = "-nostdlib -nostartfiles -static -ffreestanding -mbig -mcpu=powerpc -O1 -g -fno-inline -fno-pic -no-pie".split()
START = """
asm(".globl _start\\n_start: lis 1, 0x20\\n li 0, 0\\n stwu 0, -16(1)\\n bl main\\n .globl done\\ndone: b done\\n");
#define DONE ((volatile unsigned *)0x100000)
"""


def compiled(directory: Path, source: str, *flags: str) -> Path:
    """An ELF file of a C program at 0x10000, whose `main` is called with a stack."""
    path = directory / "program.c"
    path.write_text(START + textwrap.dedent(source))
    output = directory / "program.elf"
    command = [COMPILER, *FLAGS, *flags, "-Wl,-Ttext=0x10000,-e,_start,--build-id=none", "-o", output, path]
    subprocess.run(command, check=True, capture_output=True)
    return output


def until_done(machine: Machine) -> None:
    """Start a program, and wait until it has left something in its first result."""
    machine.start()
    until(lambda: results(machine, 1)[0] != 0 or machine.ended)
    assert not machine.ended, machine.wait(0)
