"""Accesses of a guest where no device or no register is, told to the user: once for each place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..hv.exits import Mmio
from ..hv.vcpu import Vcpu
from .places import Places

if TYPE_CHECKING:
    from .machine import Machine

MOST = 64
"""Places that are told: a guest that scans its address space finds more than anybody reads."""


class UnknownAccesses:
    """Of a machine. Without a `warn`, lines are INFO of the logger "powervisor"."""

    def __init__(self, machine: Machine, warn: Callable[[str], None] | None) -> None:
        self._machine = machine
        self._warn = warn or logging.getLogger("powervisor").info
        self._told: set[tuple[int, bool]] = set()

    def silence(self) -> None:
        """Tell no more: somebody else does."""
        self._warn = lambda line: None

    def met(self, vcpu: Vcpu, access: Mmio) -> None:
        """There was one, which has been answered; not under the machine's lock."""
        key = access.pa, access.write
        if key in self._told or len(self._told) >= MOST:
            return
        place = Places(self._machine.space).find(access.pa, access.size)
        if place is not None and place.known:  # a debugger's, just before
            return
        self._told.add(key)
        where = f"0x{access.pa:x}" if place is None else f"{place.name} (0x{access.pa:x})"
        self._warn(f"cpu{vcpu.index} pc=0x{int(vcpu.state.pc):x}: {_what(access)} {where}: {_outcome(access)}")
        if len(self._told) == MOST:
            self._warn("accesses where no register is: no more are told; -trace unknown tells them")


def _what(access: Mmio) -> str:
    return f"write of 0x{access.value:0{2 * access.size}x} to" if access.write else f"read of {access.size} bytes at"


def _outcome(access: Mmio) -> str:
    if access.failed:
        return "nothing answers, machine check"
    return "no such register, ignored" if access.write else f"no such register, reads 0x{access.value:x}"
