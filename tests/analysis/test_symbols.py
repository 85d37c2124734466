"""Symbols by address and by name, and files that have none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from powervisor.analysis.symbols import Symbols
from powervisor.errors import UserError

from .programs import COMPILER, compiled, needs_compiler

SOURCE = "static int twice(int n) { return 2 * n; }\nint main(void) { *DONE = twice(21); return 0; }"
COMPILER64 = "powerpc64-linux-gnu-gcc"


@needs_compiler
def test_addresses_have_names_with_offsets(tmp_path: Path):
    symbols = Symbols([compiled(tmp_path, SOURCE)])
    main = symbols.named("main")
    assert main.end > main.address >= 0x10000
    assert symbols.text(main.address) == " <main>"
    assert symbols.text(main.address + 4) == " <main+0x4>"
    assert symbols.text(symbols.named("done").address) == " <done>"
    assert symbols.text(0) == symbols.text(0xFFFF_FFFF) == ""
    assert symbols.find(symbols.named("twice").end - 1) == symbols.named("twice")


@needs_compiler
def test_a_file_may_be_elsewhere_and_of_one_process(tmp_path: Path):
    program = compiled(tmp_path, SOURCE)
    main = Symbols([program]).named("main").address
    moved = Symbols([f"{program},base=0x1000000,pid=3"])
    assert moved.text(main + 0x1000000, pid=3) == " <main>"
    assert moved.text(main + 0x1000000, pid=4) == moved.text(main, pid=3) == ""


@pytest.mark.skipif(not shutil.which(COMPILER64), reason=f"{COMPILER64} is not installed")
def test_function_descriptors_lead_to_code(tmp_path: Path):
    source, program = tmp_path / "p.c", tmp_path / "p.elf"
    source.write_text("int twice(int n) { return 2 * n; }\nint _start(void) { return twice(21); }")
    flags = ["-mabi=elfv1", "-O1", "-fno-inline", "-nostdlib", "-static", "-no-pie"]
    subprocess.run([COMPILER64, *flags, "-o", program, source], check=True)
    listing = subprocess.run(
        [COMPILER64.replace("gcc", "objdump"), "-d", program], check=True, capture_output=True, text=True
    ).stdout
    begin = next(int(line.split()[0], 16) for line in listing.splitlines() if line.endswith(("<.twice>:", "<twice>:")))
    assert Symbols([program]).text(begin) == " <twice>"


@needs_compiler
def test_files_without_symbols_are_refused_in_a_line(tmp_path: Path):
    program = compiled(tmp_path, SOURCE)
    subprocess.run([COMPILER.replace("gcc", "strip"), program], check=True)
    broken = tmp_path / "broken.elf"
    broken.write_bytes(program.read_bytes()[:300])
    text = tmp_path / "text"
    text.write_text("no program")
    for path, message in (
        (program, "has no symbols; give the file as it was before it was stripped"),
        (broken, "ELF file"),
        (text, "not an ELF file; give the linked program with its symbols"),
        (tmp_path / "none", "cannot be read (No such file or directory)"),
    ):
        with pytest.raises(UserError) as refused:
            Symbols([path])
        assert message in str(refused.value) and "\n" not in str(refused.value)
        assert not Symbols.of_programs([path])


@needs_compiler
def test_a_name_that_nobody_has_is_refused_with_those_like_it(tmp_path: Path):
    with pytest.raises(UserError, match="twise: no such symbol; did you mean twice"):
        Symbols([compiled(tmp_path, SOURCE)]).named("twise")
