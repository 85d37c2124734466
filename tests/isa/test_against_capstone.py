"""What capstone prints for our words assembles to them again, wherever it knows the instruction."""

from __future__ import annotations

import pytest

from powervisor.errors import UserError
from powervisor.insns import TABLE, assemble
from tests.isa.words import words

capstone = pytest.importorskip("capstone")

PRINTED_WRONGLY = ("bc", "bclr", "bcctr", "mfocrf", "mtocrf", "dcbt", "dcbtst")
"""Entries of which capstone prints invalid forms or some operands as others."""


def test_capstones_text_assembles_to_the_same_word() -> None:
    disassembler = capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_BIG_ENDIAN)
    agreed, wrong = set(), []
    for entry, word in words(TABLE, 12, seed=3):
        found = next(disassembler.disasm(word.to_bytes(4, "big"), 0x1000), None)
        if found is None or entry.name in PRINTED_WRONGLY:
            continue
        text = f"{found.mnemonic} {found.op_str}"
        try:
            mine = assemble(text, 0x1000)
        except UserError:
            continue  # it names CR bits in its own way, and some mnemonics of other cores
        if mine == word:
            agreed.add(entry.name)
        else:
            wrong.append(f"{entry.name} {word:#010x}: '{text}' assembles to {mine:#010x}")
    assert wrong == []
    assert len(agreed) > 0.8 * len(TABLE)
