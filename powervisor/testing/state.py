"""Which bytes of a vCPU are architecture, how two vCPUs differ in them, and names for people."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

from ..isa.registers import MAS1, MAS8, SPR
from ..native.struct import ArrayView, Field, Struct, size_of
from ..vcpu.state import Tlb, Vcpu

ENGINE_FIELDS = frozenset(
    (
        "npc hot_page hot_index budget slice left executed context page fetch_pa fetch_plain fetch_word fetch_owned "
        "zero requests "
        "exit_reason exit_detail debug_pc debug_lr debug_ctr mmio_pa mmio_data mmio_size mmio_write mmio_done "
        "mmio_cursor mmio_log clock_time sleep_time core tlb vm index thread sibling contexts context_clock "
        "context_key context_keys context_used stats interrupts timing asleep fp_foreign inside found_next found "
        "fp_pending fp_a fp_b fp_c reserve_size reserve_address reserve_value"
    ).split()
)
"""Fields of Vcpu that belong to the execution engine. A pending floating-point result is settled before comparing;
a reservation is compared by `reservation`."""

_SPR_NAMES = {int(number): name for name, number in vars(SPR).items() if name.isupper()}


def _runs(fields: list[Field]) -> list[tuple[int, int]]:
    """Offsets and sizes of the runs that fields make."""
    runs: list[tuple[int, int]] = []
    for field in sorted(fields, key=lambda f: f.offset):
        size = size_of(field.type)
        if runs and sum(runs[-1]) == field.offset:
            runs[-1] = runs[-1][0], runs[-1][1] + size
        else:
            runs.append((field.offset, size))
    return runs


ARCHITECTURE = tuple(field for name, field in Vcpu.fields.items() if name not in ENGINE_FIELDS)
RUNS = _runs(list(ARCHITECTURE))


def architecture(address: int) -> bytes:
    """The architectural bytes of the vCPU at an address."""
    return b"".join([ctypes.string_at(address + offset, size) for offset, size in RUNS])


def reservation(cpu: Any) -> tuple[int, ...]:
    """The reservation, independent of where RAM is in the host."""
    if not cpu.reserve_valid:
        return ()
    return int(cpu.reserve_address) - int(cpu.vm.ram), int(cpu.reserve_size), int(cpu.reserve_value)


@cache
def _element_name(field: str, index: int) -> str:
    if field == "spr":
        return _SPR_NAMES.get(index, f"SPR{index}").lower()
    short = {"gpr": "r", "fpr": "f", "vr": "v", "cr": "cr"}
    return f"{short[field]}{index}" if field in short else f"{field}[{index}]"


def values(cpu: Any) -> Iterator[tuple[str, int]]:
    """Every architectural value of a vCPU under its name."""
    for field in ARCHITECTURE:
        yield from _leaves(field.name, getattr(cpu, field.name))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """The integers of a field: itself, its elements, the fields of its structs."""
    if isinstance(value, Struct):
        for inner in type(value).fields:
            yield from _leaves(f"{name}.{inner}", getattr(value, inner))
    elif isinstance(value, ArrayView):
        for index in range(len(value)):
            yield from _leaves(_element_name(name, index), value[index])
    else:
        yield name, int(value)


def tlb_values(tlb: Any) -> Iterator[tuple[str, int]]:
    """Every value of the TLBs under its name."""
    for field in Tlb.fields.values():
        if field.offset < TLB_COMPARED:
            yield from _leaves(field.name, getattr(tlb, field.name))


def ambiguous(tlb: Any) -> bool:
    """Whether two valid entries may translate the same address, which software must not let happen."""
    entries = [entry for array in (tlb.tlb0, tlb.tlb1) for n in range(len(array)) if (entry := array[n]).valid]
    rows = sorted(
        (int(e.ea), int(e.ea) | int(e.mask), int(e.mas1) & _SAME_SPACE, int(e.mas8) & MAS8.TGS) for e in entries
    )
    latest: dict[tuple[int, int], int] = {}
    for first, last, *space in rows:
        key = space[0], space[1]
        if first <= latest.get(key, -1):
            return True
        latest[key] = max(last, latest.get(key, -1))
    return False


_SAME_SPACE = MAS1.TS | MAS1.IND
"""Entries of different TID or LPID count as ambiguous: one of the two may be zero, for any."""
TLB_COMPARED = Tlb.offset("lock")
"""Bytes of a Tlb that are compared: all before its lock."""
