"""The state of vCPUs and their TLBs as plain values by field name, derived from the layouts."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..native.struct import ArrayType, Struct, size_of
from ..vcpu.state import Request, Tlb
from ..vcpu.state import Vcpu as State

if TYPE_CHECKING:
    from .vcpu import Vcpu
    from .vm import Vm

NOT_SAVED = {
    State: frozenset(
        # Places in this process, and what is found anew: contexts and everything that is looked up in them.
        "core tlb vm sibling contexts context context_clock context_key context_keys context_used page hot_page "
        "hot_index found found_next fetch_pa fetch_plain fetch_word fetch_owned "
        # Where the vCPU is in the machine.
        "index thread "
        # The run, its thread and its exit.
        "zero requests budget slice left exit_reason exit_detail asleep inside watch_ns clock_time sleep_time stats "
        "interrupts timing "
        # A debugger's.
        "passing watch_address "
        # Who listens to it.
        "trace tracer "
        # A reservation, which may be lost at any time.
        "reserve_valid reserve_size reserve_address reserve_value".split()
    ),
    Tlb: frozenset({"lock"}),
}
"""Fields that mean nothing in another process or at another time."""


def _type_name(kind: Any) -> str:
    """A field's type as text: `u64`, `MmioLog[136]`."""
    if isinstance(kind, ArrayType):
        return f"{_type_name(kind.element)}[{kind.count}]"
    if issubclass(kind, Struct):
        return f"{kind.__name__}:{','.join(f'{name} {_type_name(f.type)}' for name, f in kind.fields.items())}"
    return str(kind.__name__)


def _layout(struct: type[Struct]) -> dict[str, tuple[int, int]]:
    """Offset and size of each field that is saved."""
    skipped = NOT_SAVED[struct]
    return {name: (f.offset, size_of(f.type)) for name, f in struct.fields.items() if name not in skipped}


LAYOUTS = {struct: _layout(struct) for struct in NOT_SAVED}


def layout_text() -> str:
    """What a saved state is made of; states of different layouts cannot be exchanged."""
    return ";".join(
        f"{struct.__name__}.{name} {_type_name(struct.fields[name].type)}"
        for struct, fields in LAYOUTS.items()
        for name in fields
    )


def _save(struct: type[Struct], address: int) -> dict[str, bytes]:
    return {name: ctypes.string_at(address + offset, size) for name, (offset, size) in LAYOUTS[struct].items()}


def _restore(struct: type[Struct], address: int, saved: dict[str, bytes]) -> None:
    layout = LAYOUTS[struct]
    if saved.keys() != layout.keys() or any(len(saved[name]) != size for name, (_, size) in layout.items()):
        raise ValueError(f"the state of a {struct.__name__} has other fields")
    for name, data in saved.items():
        ctypes.memmove(address + layout[name][0], data, len(data))


def save_tlb(vcpu: Vcpu) -> dict[str, bytes]:
    """The TLBs of a core, as they lie there; its first thread's, nothing for the other one."""
    return _save(Tlb, vcpu.state.tlb.address) if int(vcpu.state.thread) == 0 else {}


def save_vcpus(vcpus: Iterable[Vcpu]) -> list[dict[str, Any]]:
    """Each vCPU's fields, with its core's TLBs at first threads; bytes as they lie there. They are stopped."""
    return [
        {
            "fields": _save(State, vcpu.address),
            "tlb": save_tlb(vcpu),
        }
        for vcpu in vcpus
    ]


def restore_vcpus(vm: Vm, saved: list[dict[str, Any]]) -> None:
    """Take what `save_vcpus` returned. Raises ValueError for another number of vCPUs, or other fields."""
    if len(saved) != len(vm.vcpus):
        raise ValueError(f"{len(saved)} vCPUs were saved, there are {len(vm.vcpus)}")
    for vcpu, parts in zip(vm.vcpus, saved, strict=True):
        _restore(State, vcpu.address, parts["fields"])
        if int(vcpu.state.thread) == 0:
            _restore(Tlb, vcpu.state.tlb.address, parts["tlb"])
    for vcpu in vm.vcpus:
        vcpu.state.reserve_valid = vcpu.state.passing = 0
        vcpu.asking = False
        vm.engine.forget_all(vcpu.address)
        vm.engine.update_mode(vcpu.address)
        vcpu.kick(Request.LINES)
