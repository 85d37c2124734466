"""Words of every entry for the tests of assembler and disassembler."""

from __future__ import annotations

import random
from collections.abc import Iterator

from powervisor.isa.insn import Insn, Table


def fields_at_random(entry: Insn, rng: random.Random) -> int:
    """A word of an entry; fields are zero, all ones or random."""
    word = entry.match
    for field in entry.fields.values():
        for piece in field.pieces:
            ones = (1 << piece.width) - 1
            word |= rng.choice((0, ones, rng.getrandbits(piece.width))) << piece.shift
    return word


def words(table: Table, count: int, seed: int = 1) -> Iterator[tuple[Insn, int]]:
    """`count` words of each entry of a table, with the entry each decodes to (a more exact one may take a few)."""
    rng = random.Random(seed)
    for entry in table:
        for _ in range(count):
            word = fields_at_random(entry, rng)
            found = table.decode(word)
            assert found is not None
            yield found, word
