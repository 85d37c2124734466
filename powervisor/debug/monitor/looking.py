"""Commands that look at vCPUs: registers, TLBs, exits, translation."""

from __future__ import annotations

from typing import Any

from ...analysis.tables import exits_text
from ...errors import UserError
from ...hv.vcpu import Vcpu
from ...isa.registers import MAS1, MAS2, MAS3, MAS8, get_field
from ...vcpu.sprs import GROUPS
from .command import COMMANDS, Machine, command, rows
from .monitor import Monitor


@command("help [COMMAND]", "list the commands, or tell of one", Machine.RUNS)
def help_(_: Monitor, words: list[str]) -> str:
    """Every command, or those that begin with the words."""
    name = " ".join(words)
    found = [(c.usage, c.summary) for c in sorted(COMMANDS.values()) if not name or f"{c.name} ".startswith(f"{name} ")]
    if not found:
        raise UserError("no such command; help alone lists them")
    return rows(found)


@command("cpu [N]", "which cpu the others are about, or choose it")
def cpu(monitor: Monitor, words: list[str]) -> str:
    """Choose a vCPU."""
    if words:
        count = len(monitor.control.vcpus)
        if not words[0].isdecimal() or len(words[0]) > 3 or int(words[0]) >= count:
            raise UserError(f"there are cpus 0 to {count - 1}")
        monitor.vcpu = monitor.control.vcpus[int(words[0])]
    return f"cpu{monitor.vcpu.index}"


def state_of(vcpu: Vcpu) -> str:
    """What a vCPU does."""
    return "held" if vcpu.halted else "waits" if int(vcpu.state.waiting) else "runs"


@command("info cpus", "where each cpu is")
def info_cpus(monitor: Monitor, _: list[str]) -> str:
    """Where each vCPU is; * is the one that other commands are about."""
    return "\n".join(
        f"{'*' if vcpu is monitor.vcpu else ' '} cpu{vcpu.index}: pc 0x{vcpu.regs['pc']:x}, {state_of(vcpu)}, "
        f"{vcpu.instructions} instructions"
        for vcpu in monitor.control.vcpus
    )


@command("info registers [NAME...]", "registers, those that are named, or a group of SPRs")
def info_registers(monitor: Monitor, words: list[str]) -> str:
    """General and interrupt registers, or those that are named, or all of a group."""
    if not words:
        return monitor.vcpu.regs.dump()
    regs, core = monitor.vcpu.regs, monitor.vcpu.core
    names: list[str] = []
    for word in words:
        group = GROUPS.get(word)
        names += [word] if group is None else [r.name.lower() for r in group if r.on(core) and r.access[0] != "-"]
    return rows([(name, f"0x{regs[name]:x}") for name in names])


@command("info tlb [0|1]", "valid entries of the cpu's TLBs, or of one")
def info_tlb(monitor: Monitor, words: list[str]) -> str:
    """Valid entries of the core's TLBs."""
    if words and words not in (["0"], ["1"]):
        raise UserError("there are TLBs 0 and 1")
    tlb, core = monitor.vcpu.state.tlb, monitor.vcpu.engine.core
    lines = ["TLB  n    effective         physical     size  as tid  lpid  gs wimge  user sup"]
    for name, entries, count in (("0", tlb.tlb0, core.tlb0_entries), ("1", tlb.tlb1, core.tlb1_entries)):
        if words and words[0] != name:
            continue
        lines += [f"{name:3} {n:4} {_entry(entries[n])}" for n in range(count) if int(entries[n].valid)]
    return "\n".join(lines)


def _entry(entry: Any) -> str:
    mas1, mas2, mas3, mas8 = (int(getattr(entry, name)) for name in ("mas1", "mas2", "mas3", "mas8"))
    size = int(entry.mask) + 1
    shown = next(f"{size >> shift}{unit}" for unit, shift in (("G", 30), ("M", 20), ("K", 10)) if size >> shift)
    rights = [
        "".join(letter if mas3 & bit else "-" for letter, bit in zip("rwx", bits, strict=True))
        for bits in ((MAS3.UR, MAS3.UW, MAS3.UX), (MAS3.SR, MAS3.SW, MAS3.SX))
    ]
    attributes = "".join(
        letter if mas2 & bit else "-"
        for letter, bit in zip("wimge", (MAS2.W, MAS2.I, MAS2.M, MAS2.G, MAS2.E), strict=True)
    )
    return (
        f"{int(entry.ea):016x} {int(entry.pa):010x} {shown:>6}  {get_field(mas1, MAS1.TS):>2} "
        f"{get_field(mas1, MAS1.TID):>4} {get_field(mas8, MAS8.TLPID):>4}  {get_field(mas8, MAS8.TGS):>2} {attributes}"
        f"  {rights[0]}  {rights[1]}{'  indirect' if mas1 & MAS1.IND else ''}"
    )


@command("info exits", "why cpus came back from translated code, and what they count")
def info_exits(monitor: Monitor, _: list[str]) -> str:
    """Why vCPUs came back, and what they count; with times while somebody measures."""
    return exits_text(monitor.machine)


@command("info jit", "translated code: bytes, compiled regions")
def info_jit(monitor: Monitor, _: list[str]) -> str:
    """How guest code was translated."""
    counted = monitor.machine.statistics()
    lines = [("translated code", f"{counted['code-bytes']} bytes")]
    lines.append(("memory of translation", f"{counted['translation-bytes']} bytes"))
    for name, value in counted["regions"].items():
        if isinstance(value, dict):
            lines += [(f"regions {name}: {reason}", str(count)) for reason, count in value.items()]
        else:
            lines.append((f"regions {name.replace('_', ' ')}", str(value)))
    return rows(lines)
