"""Symbols by address and by name, and files that have none."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from powervisor.analysis.symbols import Symbols
from powervisor.cli.main import main
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


SYSTEM_MAP = """\
c0000000 T _stext
c0000100 t early
c0000100 T start_kernel
c0000180 W arch_setup
c0000200 D jiffies
c0000204 d hidden
00000007 a a_constant
c0001000 T init_module\t[late]\r
"""


def test_lists_of_a_kernels_symbols_are_files_of_symbols(tmp_path: Path):
    path = tmp_path / "System.map"
    path.write_text(SYSTEM_MAP)
    symbols = Symbols([path])
    assert symbols.text(0xC0000104) == " <start_kernel+0x4>"
    assert symbols.text(0xC0000100) == " <start_kernel>", "rather than a local name"
    assert symbols.text(0xC00001FC) == " <arch_setup+0x7c>"
    assert symbols.text(0xC0000200) == "", "data"
    assert symbols.text(0xC0001000) == " <init_module>"


def test_64_bit_lists_name_functions_and_not_their_descriptors(tmp_path: Path):
    path = tmp_path / "kallsyms"
    path.write_text("c000000000001000 T .start_kernel\nc000000000002000 D start_kernel\n")
    assert Symbols([path]).named("start_kernel").address == 0xC000_0000_0000_1000


@pytest.mark.skipif(not shutil.which("readelf"), reason="there is no readelf")
@pytest.mark.parametrize("bits", [32, 64])
def test_the_elf_file_made_of_a_list_is_what_other_tools_read(tmp_path: Path, bits: int):
    text = SYSTEM_MAP if bits == 32 else re.sub("^", "00000000", SYSTEM_MAP, flags=re.M)
    listed, elf = tmp_path / "System.map", tmp_path / "kernel.elf"
    listed.write_text(text)
    assert main(["symbols", str(listed), str(elf)]) == 0
    done = subprocess.run(["readelf", "-aW", elf], capture_output=True, text=True, check=True)
    assert not done.stderr
    assert re.search(rf"Class: +ELF{bits}\n", done.stdout) and "big endian" in done.stdout
    rows = re.findall(r"^ +\d+: 0*(c\w+) +\d+ (\w+) +(\w+) +DEFAULT +\d+ (\w+)$", done.stdout, re.M)
    assert ("c0000100", "FUNC", "LOCAL", "early") in rows and ("c0000180", "FUNC", "WEAK", "arch_setup") in rows
    assert ("c0000200", "OBJECT", "GLOBAL", "jiffies") in rows and len(rows) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing of that kind", "no list of symbols; give System.map or a copy of /proc/kallsyms"),
        ("00000000 T _stext\n", "all addresses are 0; copy /proc/kallsyms as root, with kernel.kptr_restrict=0"),
    ],
)
def test_what_is_no_list_of_symbols_is_refused_in_a_line(tmp_path: Path, capfd, text: str, message: str):
    path = tmp_path / "map"
    path.write_text(text)
    assert main(["symbols", str(path), str(tmp_path / "elf")]) == 1
    assert message in (said := capfd.readouterr().err) and said.count("\n") == 1
    assert not (tmp_path / "elf").exists()
