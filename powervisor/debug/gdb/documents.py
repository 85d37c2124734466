"""Documents that gdb reads besides the target description (gdb manual, "Memory Map Format", "Process list")."""

from __future__ import annotations

from xml.sax.saxutils import escape

from ...machine.memory import PAGE
from ..control import Control
from .processes import GUEST, Processes

_MAP = '"+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "http://sourceware.org/gdb/gdb-memory-map.dtd"'


def memory_map(control: Control) -> str:
    """What lies at effective addresses: anything, as the TLBs have it at a time; a debugger may write flash as RAM."""
    length = min(1 << control.vcpus[0].core.bits, (1 << 64) - PAGE)
    return (
        f'<?xml version="1.0"?>\n<!DOCTYPE memory-map PUBLIC {_MAP}>\n'
        f'<memory-map><memory type="ram" start="0x0" length="0x{length:x}"/></memory-map>\n'
    )


def _table(kind: str, rows: list[dict[str, str]]) -> str:
    """A table for `info os`."""
    items = "".join(
        "<item>" + "".join(f'<column name="{name}">{escape(text)}</column>' for name, text in row.items()) + "</item>"
        for row in rows
    )
    return f'<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "osdata.dtd">\n<osdata type="{kind}">{items}</osdata>\n'


def types_table() -> str:
    """`info os`."""
    rows = [
        {"Type": "processes", "Description": "the guest, and partitions of a hypervisor in it", "Title": "Processes"},
        {"Type": "memory", "Description": "the physical address space", "Title": "Physical memory"},
    ]
    return _table("types", rows)


def processes_table(control: Control, processes: Processes) -> str:
    """`info os processes`: the guest, and partitions that are attached or executed now."""
    rows = []
    for process in sorted(processes.attached | processes.present() | {GUEST}):
        cores = [str(vcpu.index) for vcpu in control.vcpus if processes.partition(vcpu) == process]
        command = "guest" if process == GUEST else f"partition with LPID {process - 1}"
        rows.append({"pid": str(process), "command": command, "cores": ",".join(cores)})
    return _table("processes", rows)


def memory_table(control: Control) -> str:
    """`info os memory`: physical addresses of RAM and devices."""
    machine = control.machine
    windows = [(0, machine.ram.size, "RAM")] + [(w.base, w.size, w.name) for w in machine.space.windows]
    return _table("memory", [{"base": f"0x{b:x}", "size": f"0x{s:x}", "name": name} for b, s, name in sorted(windows)])
