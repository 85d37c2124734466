"""QEMU's names of things."""

from __future__ import annotations


def cpu_type(core: str) -> str:
    """The type of a core."""
    return f"{core}-powerpc-cpu"


def cpu_path(index: int) -> str:
    """A vCPU's place in the tree of objects."""
    return f"/machine/unattached/cpu{index}"
