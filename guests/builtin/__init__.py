"""The guest that ships inside the package: a bare-metal program of our own for e500mc, e5500 and e6500.

It prints the core, memory and device tree, tests timers, interrupts, MMU, floating point and SMP, measures speed, and
offers a prompt; commands in the boot arguments are run first.
"""

from __future__ import annotations

from pathlib import Path

from ..kept import digest_of, kept

_ROOMS = ("guests/builtin", "guests/builtin/program", "native", "isa", "insns", "devices", "boards")


def image(bits: int) -> Path:
    """The guest's ELF file for cores of `bits` bits: one 32-bit program serves both kinds."""

    def build() -> bytes:
        from .build import build

        return build()

    return kept("builtin", _key(), build)


def _key() -> str:
    """Hash of everything the guest is made from."""
    return digest_of(_ROOMS)
