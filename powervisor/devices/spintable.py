"""The ePAPR spin table, where secondary cores wait to be told where to start."""

from __future__ import annotations

from collections.abc import Callable

from powervisor.devices.device import Device, state
from powervisor.devices.registers import RegisterArray, Word

ENTRIES = 32
ENTRY_SIZE = 0x20
MAP_SIZE = 64 << 20
"""Bytes that a started core's first TLB1 entry maps (ePAPR's initial mapped area)."""
HOLD = 1

Release = Callable[[int, int, int, int], None]


class SpinTable(Device):
    """One entry per vCPU; a write that leaves bit 0 of an address clear starts that vCPU at once.

    `pirs` gives the PIR of each vCPU that waits here: all but vCPU 0 and the second threads of cores.
    `release(cpu, pc, r3, map_base)` starts one with its first MAP_SIZE of effective addresses mapped to
    physical `map_base`; `pc` is effective. A doubleword write arrives as two words, the high one first,
    so that a 64-bit address is complete when bit 0 goes.
    """

    size = ENTRIES * ENTRY_SIZE

    addr_high = RegisterArray(0x00, Word, ENTRIES, ENTRY_SIZE)
    addr_low = RegisterArray(0x04, Word, ENTRIES, ENTRY_SIZE, reset=HOLD)
    r3_high = RegisterArray(0x08, Word, ENTRIES, ENTRY_SIZE)
    r3_low = RegisterArray(0x0C, Word, ENTRIES, ENTRY_SIZE)
    reserved = RegisterArray(0x10, Word, ENTRIES, ENTRY_SIZE)
    pir = RegisterArray(0x14, Word, ENTRIES, ENTRY_SIZE)

    released: int = state(int)

    def __init__(self, name: str, pirs: dict[int, int], release: Release) -> None:
        self.pirs = pirs
        self.release = release
        super().__init__(name)
        self._fill()

    def reset(self) -> None:
        """Hold every core again."""
        super().reset()
        self._fill()

    def _fill(self) -> None:
        for cpu in range(ENTRIES):
            self.r3_low[cpu].value = self.pir[cpu].value = self.pirs.get(cpu, cpu)

    def hold(self, cpu: int) -> None:
        """vCPU `cpu` was reset (MPIC PIR) and waits in its entry again."""
        self.released &= ~(1 << cpu)
        self.addr_high[cpu].value, self.addr_low[cpu].value = 0, HOLD
        self.r3_high[cpu].value = 0
        self.r3_low[cpu].value = self.pir[cpu].value = self.pirs.get(cpu, cpu)

    @addr_high.written
    @addr_low.written
    @r3_high.written
    @r3_low.written
    @pir.written
    def _on_entry(self, cpu: int, old: int, new: int) -> None:
        if self.addr_low[cpu].value & HOLD or cpu not in self.pirs or self.released >> cpu & 1:
            return
        self.released |= 1 << cpu
        self.pir[cpu].value = self.pirs[cpu]
        address = self.addr_high[cpu].value << 32 | self.addr_low[cpu].value
        r3 = self.r3_high[cpu].value << 32 | self.r3_low[cpu].value
        self.release(cpu, address % MAP_SIZE, r3, address - address % MAP_SIZE)
