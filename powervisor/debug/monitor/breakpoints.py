"""Commands about breakpoints, of all programs, of one, or of one partition."""

from __future__ import annotations

from ...errors import UserError
from ...hv.stops import PIDS, Breakpoint, Watchpoint
from ...vcpu.sprs import LPIDS
from .command import command
from .monitor import Monitor

_KINDS = {"write": (False, True), "read": (True, False), "access": (True, True)}
_LONGEST = 1 << 20
_MOST = {"pid": PIDS, "lpid": LPIDS}


@command("break ADDRESS [pid N] [lpid N]", "stop there; of one PID, or in one partition (0: the hypervisor), only")
def break_(monitor: Monitor, words: list[str]) -> str:
    """Stop where gdb's own breakpoints would, but in one process or partition only."""
    of: dict[str, int] = {}
    while len(words) > 2 and words[-2] in _MOST and words[-2] not in of:
        of[words[-2]] = monitor.number(words[-1])
        words = words[:-2]
    if not words or any(not 0 <= value <= _MOST[name] for name, value in of.items()):
        most = f"PIDs are 0 to {PIDS}; LPID 0 is the hypervisor, partitions are 1 to {LPIDS}"
        raise UserError(f"write break ADDRESS [pid N] [lpid N] ({most})")
    stop = Breakpoint(monitor.number(" ".join(words)) & ~3, of.get("lpid"), of.get("pid"))
    monitor.control.breakpoints.add(stop)
    return _changed(monitor)


@command("watch ADDRESS [LENGTH [read|write|access]]", "stop before accesses to memory: 4 bytes, writes")
def watch(monitor: Monitor, words: list[str]) -> str:
    """Stop before an access."""
    match words:
        case [address]:
            length, kind = "4", "write"
        case [address, length]:
            kind = "write"
        case [address, length, kind] if kind in _KINDS:
            pass
        case _:
            raise UserError("write watch ADDRESS [LENGTH [read|write|access]]")
    size = monitor.number(length)
    if not 0 < size <= _LONGEST:
        raise UserError(f"a watchpoint has 1 to {_LONGEST} bytes")
    monitor.control.watchpoints.add(Watchpoint(monitor.number(address), size, *_KINDS[kind]))
    return _changed(monitor)


@command("delete [ADDRESS]", "take breakpoints and watchpoints away: those there, or all")
def delete(monitor: Monitor, words: list[str]) -> str:
    """Take breakpoints away: of an address, or all."""
    control = monitor.control
    if words:
        address = monitor.number(" ".join(words))
        control.breakpoints.difference_update({b for b in control.breakpoints if b.address == address & ~3})
        control.watchpoints.difference_update({w for w in control.watchpoints if w.address == address})
    else:
        control.breakpoints.clear()
        control.watchpoints.clear()
    return _changed(monitor)


@command("info breakpoints", "breakpoints and watchpoints of this debugger")
def info_breakpoints(monitor: Monitor, _: list[str]) -> str:
    """All there are; in gdb its own as well."""
    lines = sorted(f"0x{b.address:x}{_of('pid', b.pid)}{_of('lpid', b.lpid)}" for b in monitor.control.breakpoints)
    for watch in sorted(monitor.control.watchpoints, key=lambda w: (w.address, w.length)):
        kind = next(kind for kind, found in _KINDS.items() if found == (watch.reads, watch.writes))
        lines.append(f"0x{watch.address:x} {watch.length} {kind}")
    return "\n".join(lines) or "no breakpoints"


def _of(name: str, value: int | None) -> str:
    return "" if value is None else f" {name} {value}"


def _changed(monitor: Monitor) -> str:
    if monitor.terminal is not None:  # gdb applies its own when it lets the machine go on
        monitor.control.apply()
    return info_breakpoints(monitor, [])
