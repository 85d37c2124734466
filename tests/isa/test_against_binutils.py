"""Assembler and disassembler against GNU as and objdump: the same spelling, the same words."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from powervisor.insns import TABLE, assemble, assemble_source, disassemble
from powervisor.isa import cores
from powervisor.isa.insn import Insn
from tests.isa.words import words

PREFIX = "powerpc-linux-gnu-"
CORES = ("e500mc", "e5500", "e6500")

SPELLED_OTHERWISE = {
    # entry: why objdump's text differs
    "mfspr": "objdump names fewer registers", "mtspr": "objdump names fewer registers",
    "bclr": "objdump abbreviates forms with BH", "bcctr": "objdump abbreviates forms with BH",
    "dcbtep": "objdump prints TH as a register", "dcbtstep": "objdump prints TH as a register",
    "dcbt": "objdump has dcbtt on some cores", "dcbtst": "objdump has dcbtstt on some cores",
    "sync": "objdump has msync on some cores, and ptesync", "tlbilx": "objdump drops unused registers",
    "wait": "objdump has no WH",
}  # fmt: skip

BO_WITH_MNEMONIC = (0, 2, 4, 6, 7, 8, 10, 12, 14, 15, 16, 18, 20, 24, 25, 26, 27)
START = 0x0800_0000  # high enough for absolute and relative branches not to wrap

SOURCE = r"""
        .set    base, 0x12348765
start:  lis     3, base@ha
        addi    3, 3, base@l
        ori     r4, r3, (base + 4)@l
        lwz     5, base@l(3)
        mtspr   26, 5 ; mtsrr1 5
1:      cmpwi   cr1, 3, 'a'         # a comment
        beq+    cr1, 1f
        bdnz-   1b                  /* another
                                       one */
        bnelr   cr7
        bc      12, 4*cr1+eq, start
1:      b       .
        bl      end
        rlwinm. 3,4,5,6,7
        extrwi  3,4,8,16
        inslwi  3,4,8,16
        insrwi  3,4,8,16
        clrlslwi 3,4,16,4
        subi    3,4,8
        sub.    3,4,5
        crclr   4*cr1+eq
        mtcr    3
        mfocrf  3, 0x80
        twnei   3, 0
        lmw     29, -12(1)
        stwcx.  3, 0, 4
        isel    3, 4, 5, 4*cr7+lt
        mbar    1
        msync
        tlbilxva 0, 3
        .align  3
        .byte   1, 0b11, 017, 'x', '\n'
        .balign 4
        .word   1, -1
        .long   end - start, ~0, 1 << 4 | 3, -(2 + 3) * 4 / 3 % 5
        .quad   0x1122334455667788
        .ascii  "a;b\n\"\101\\"
        .asciz  "z", "#"
        .space  3, 0xff
        .p2align 4
end:    nop
        .p2align 4
        nop
"""


def tool(name: str) -> str:
    found = shutil.which(PREFIX + name)
    if found is None:
        pytest.skip(f"{PREFIX}{name} is not installed")
    return found


def objdump(code: bytes, core: str, where: Path) -> list[str]:
    """The text of each word."""
    file = where / "code"
    file.write_bytes(code)
    machine = "powerpc:common64" if cores.get(core).bits == 64 else "powerpc"
    command = [tool("objdump"), "-D", "-z", "-b", "binary", "-m", machine, "-EB", "-M", core,
               f"--adjust-vma={START:#x}", str(file)]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t", 2)[2] for line in text.splitlines() if re.match(r"\s*[0-9a-f]+:\t", line)]
    assert len(lines) == len(code) // 4
    return [" ".join(line.split()) for line in lines]


def compared(core: str, seed: int, where: Path) -> Iterator[tuple[Insn, int, int, str]]:
    """Entry, address, word and objdump's text of the words whose text should agree."""
    chosen = list(words(TABLE.for_core(cores.get(core).categories), 12, seed))
    texts = objdump(b"".join(struct.pack(">I", word) for _, word in chosen), core, where)
    for n, ((entry, word), text) in enumerate(zip(chosen, texts, strict=True)):
        unknown = text.startswith(".long")  # to objdump, or an invalid form
        values = entry.operands(word)
        odd = "bo" in values and values["bo"] not in BO_WITH_MNEMONIC
        cut = values.get("aa") and min(values.values()) < 0  # it shows absolute addresses as 32 bits
        if not (unknown or odd or cut or entry.name in SPELLED_OTHERWISE):
            yield entry, START + 4 * n, word, text


@pytest.mark.parametrize("core", CORES)
def test_text_is_spelled_as_by_objdump(core: str, tmp_path: Path) -> None:
    model, seen, wrong = cores.get(core), set(), []
    for entry, address, word, text in compared(core, 1, tmp_path):
        seen.add(entry.name)
        mine = disassemble(word, address, model).split("  #")[0]
        if mine != text:
            wrong.append(f"{word:#010x} '{mine}', objdump '{text}'")
    assert wrong == []
    assert len(seen) > 0.8 * len(TABLE.for_core(model.categories))


@pytest.mark.parametrize("core", CORES)
def test_objdumps_text_assembles_to_the_same_word(core: str, tmp_path: Path) -> None:
    for _, address, word, text in compared(core, 2, tmp_path):
        assert assemble(text, address, cores.get(core)) == word, text


def test_a_source_gives_the_bytes_that_gnu_as_gives(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text(SOURCE)
    command = [tool("as"), "-me6500", "-mregnames", "-o", str(tmp_path / "a.o"), str(tmp_path / "a.s")]
    subprocess.run(command, check=True)
    copy = [tool("objcopy"), "-O", "binary", "-j", ".text", str(tmp_path / "a.o"), str(tmp_path / "a.bin")]
    subprocess.run(copy, check=True)
    wanted = (tmp_path / "a.bin").read_bytes()
    got = assemble_source(SOURCE, 0, cores.get("e6500")).data
    for at in range(0, len(wanted), 4):
        word = int.from_bytes(wanted[at : at + 4], "big")
        assert got[at : at + 4] == wanted[at : at + 4], f"at {at:#x}, wanted {disassemble(word, at)}"
    assert len(got) == len(wanted)
