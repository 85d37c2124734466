"""The instruction set, a file a family; `TABLE` is all of it."""

from __future__ import annotations

import importlib

from ..isa.insn import Table, declared

FAMILIES = (
    "fixed", "logical", "compare", "rotate", "branch", "condition", "storage", "strings", "atomic", "cache", "external",
    "system", "mmu", "float", "float_move", "float_storage", "altivec",
)  # fmt: skip

for _family in FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")

TABLE = Table(declared())
