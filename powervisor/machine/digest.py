"""One number for what a machine has come to: its registers, TLBs and memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..hv.saved import save_tlb

if TYPE_CHECKING:
    from .machine import Machine

BLOCK = 64 << 10
"""Bytes of RAM that count together; zeros do not count."""
_ZEROS = bytes(BLOCK)


def digest(machine: Machine) -> str:
    """SHA-256 over every vCPU's registers by name, the cores' TLBs and RAM, as hexadecimal text. The machine is held.

    Of memory only what was touched is looked at. Device state does not count, but for what it did to these.
    """
    found = hashlib.sha256()
    for vcpu in machine.vcpus:
        for name in vcpu.regs:
            found.update(b"%s=%x;" % (name.encode(), vcpu.regs[name]))
        for name, data in save_tlb(vcpu).items():
            found.update(b"%s=" % name.encode() + data)
    done = 0
    for offset, length in machine.ram.touched():
        for at in range(max(offset // BLOCK * BLOCK, done), offset + length, BLOCK):
            done = at + BLOCK
            block = machine.ram[at : min(done, machine.ram.size)]
            if block != _ZEROS[: len(block)]:
                found.update(b"%x=" % at + block)
    return found.hexdigest()
