"""A small hypervisor for people who learn the embedded hypervisor category (E.HV): two partitions that it shows off.

`powervisor run hypervisor-demo`; docs/hypervisor/ explains it page by page. What is assembler: the way into a
partition and out of it (world.s), the start and single registers (entry.s), the partitions themselves (partition.s).
What decides is in program/: `main` runs partitions, `exits` answers what leaves them, `scenes` says what happens next.
"""

from __future__ import annotations

from pathlib import Path

from ..kept import digest_of, kept

_ROOMS = ("guests/hypervisor_demo", "guests/hypervisor_demo/program", "guests/builtin", "guests/builtin/program",
          "native", "isa", "insns", "devices", "boards")  # fmt: skip


def image(bits: int) -> Path:
    """The hypervisor's ELF file for cores of `bits` bits; the two differ in how much of a register is saved."""

    def build() -> bytes:
        from .build import build

        return build(bits)

    return kept(f"hypervisor-demo-{bits}", digest_of(_ROOMS), build)
