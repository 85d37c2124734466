"""Breakpoints and watchpoints of a debugger, laid out where native code looks for them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..vcpu.modes import KEY_GS, KEY_LPID, KEY_LPID_AT, KEY_PID
from ..vcpu.state import Stop, Watch
from ..vcpu.stops import READS, WRITES

PIDS = 0x3FFF
"""The bits of PID."""


@dataclass(frozen=True)
class Breakpoint:
    """Stop before the instruction at an effective address: of any program, or of a partition (0: the hypervisor), or
    while PID has a value."""

    address: int
    lpid: int | None = None
    pid: int | None = None

    @property
    def space(self) -> tuple[int, int]:
        """Mask and value of a context's key (`vcpu.modes`) where it stops."""
        mask = value = 0
        if self.lpid is not None:
            mask, value = (KEY_GS | KEY_LPID, KEY_GS | self.lpid << KEY_LPID_AT) if self.lpid else (KEY_GS, 0)
        return (mask, value) if self.pid is None else (mask | KEY_PID, value | KEY_PID // PIDS * self.pid)

    def concerns(self, key: int) -> bool:
        """Whether it stops a vCPU in the context of this key."""
        mask, value = self.space
        return key & mask == value


@dataclass(frozen=True)
class Watchpoint:
    """Stop before accesses to the bytes `address` .. `address + length - 1`, effective."""

    address: int
    length: int
    reads: bool = True
    writes: bool = True

    def covers(self, address: int, write: bool) -> bool:
        """Whether it stops an access to this byte."""
        return self.address <= address < self.address + self.length and (self.writes if write else self.reads)


class Stops:
    """What a debugger set of a virtual machine."""

    def __init__(self, vm: Any) -> None:
        self._vm = vm
        self._memory: ctypes.Array[ctypes.c_char] | None = None

    def set(self, breakpoints: Iterable[Breakpoint], watchpoints: Iterable[Watchpoint]) -> None:
        """Replace all of them. No vCPU may be in native code; translated code and soft TLBs are forgotten then."""
        stops, watches = list(breakpoints), list(watchpoints)
        vm = self._vm
        memory = ctypes.create_string_buffer(Stop.size * len(stops) + Watch.size * len(watches))
        first_stop = ctypes.addressof(memory)
        first_watch = first_stop + Stop.size * len(stops)
        words = [0] * 16
        for n, breakpoint_ in enumerate(stops):
            row = Stop.at(first_stop + n * Stop.size)
            row.ea = breakpoint_.address
            row.space_mask, row.space = breakpoint_.space
            index = breakpoint_.address >> 2 & 1023
            words[index >> 6] |= 1 << (index & 63)
        for n, watch in enumerate(watches):
            row = Watch.at(first_watch + n * Watch.size)
            row.first, row.last = watch.address, watch.address + watch.length - 1
            row.kinds = READS * watch.reads | WRITES * watch.writes
        vm.stops, vm.stop_count = first_stop, len(stops)
        vm.watches, vm.watch_count = first_watch, len(watches)
        for n, word in enumerate(words):
            vm.stop_words[n] = word
        self._memory = memory
