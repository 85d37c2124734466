"""Commands that look at the board: addresses, devices, interrupts, drives, networks, chardevs."""

from __future__ import annotations

from collections.abc import Iterator

from ...boards.board import Part
from ...console.chardev import BaseChardev
from ...console.recorder import Recorder
from ...devices.device import Device
from ...devices.mpic import Mpic
from ...devices.mpic_registers import Ctpr, Ivpr
from ...devices.mpic_state import IPI0, PRIORITIES, TIMER0, Level
from ...devices.pci.function import PciFunction
from ...devices.registers import Field
from ...memory.ram import describe_size
from .command import command, rows
from .monitor import Monitor


@command("info mtree", "the physical address space")
def info_mtree(monitor: Monitor, _: list[str]) -> str:
    """What is where in the physical address space."""
    found = [(0, monitor.machine.ram.size, "RAM")]
    found += [(window.base, window.size, window.name) for window in monitor.machine.space.windows]
    return "\n".join(f"{base:010x}-{base + size - 1:010x} {name}" for base, size, name in sorted(found))


@command("info qtree", "devices, where they are and what is plugged into them")
def info_qtree(monitor: Monitor, _: list[str]) -> str:
    """Every device, those inside others below them."""
    machine = monitor.machine
    lines = [f"{machine.board.name}: {machine.board.description}"]
    lines.append(f"  {machine.topology.vcpus} x {machine.vm.core.name}, {describe_size(machine.ram.size)} RAM")
    for part in machine.board.parts:
        if (device := machine.built.devices.get(part.name)) is not None:
            lines += _tree(device, part, machine.board.base(part) if part.bus else None)
    return "\n".join(lines)


def _tree(device: Device, part: Part | None, base: int | None, depth: int = 1) -> Iterator[str]:
    about = [type(device).__name__]
    if part is not None and base is not None:
        about.append(f"0x{base:x}-0x{base + part.size - 1:x}")
    if part is not None:
        about += [f"irq {source}" for source in (*part.irqs, *part.pins.values())]
    if isinstance(device, PciFunction):
        ids = device.field(0, 2), device.field(2, 2)
        about.append(f"[{ids[0]:04x}:{ids[1]:04x}]")
        bars = [(n, address) for n in device.bars if (address := device.bar_address(n)) is not None]
        about += [f"bar{n} 0x{address:x}" for n, address in bars]
    if device.counters.accesses:
        about.append(f"{device.counters.reads} reads, {device.counters.writes} writes")
    yield f"{'  ' * depth}{device.name}: {', '.join(about)}"
    for inner in device.parts():
        yield from _tree(inner, None, None, depth + 1)


def _sources(monitor: Monitor) -> dict[int, str]:
    """Names of what drives the interrupt controller's sources."""
    names: dict[int, list[str]] = {}
    for part in monitor.machine.board.parts:
        for source in part.irqs:
            names.setdefault(source, []).append(part.name)
        for pin, source in part.pins.items():
            names.setdefault(source, []).append(f"{part.name} {pin}")
    return {source: ", ".join(found) for source, found in names.items()}


def _bits(field: Field, value: int) -> int:
    return value >> field.lo & (1 << field.hi - field.lo + 1) - 1


def _name(number: int) -> str:
    """How an input of the controller is called."""
    if number >= TIMER0:
        return f"timer{number - TIMER0}"
    return f"ipi{number - IPI0}" if number >= IPI0 else str(number)


@command("info mpic", "the interrupt controller: cpus, and inputs that are unmasked or busy")
def info_mpic(monitor: Monitor, _: list[str]) -> str:
    """The interrupt controller's registers as a driver set them."""
    mpic, names = monitor.machine.mpic, _sources(monitor)
    lines: list[tuple[str, ...]] = [("cpu", "CTPR", "in service", "outputs")]
    for index in range(int(mpic.state.cpu_count)):
        cpu = mpic.state.cpus[index]
        priorities = [p for p in range(PRIORITIES) if int(cpu.in_service) >> p & 1]
        served = [f"{_name(int(cpu.service[p]))} (priority {p})" for p in priorities]
        outputs = [word for bit, word in enumerate(("int", "cint", "mcp")) if int(cpu.outputs) >> bit & 1]
        priority = _bits(Ctpr.priority, int(cpu.ctpr))
        lines.append((f"cpu{index}", str(priority), ", ".join(served) or "-", " ".join(outputs) or "-"))
    return rows(lines) + "\n\n" + rows(list(_inputs(mpic, names)))


def _inputs(mpic: Mpic, names: dict[int, str]) -> Iterator[tuple[str, ...]]:
    yield "input", "vector", "priority", "cpus", "state", "device"
    for number in range(len(mpic.state.inputs)):
        found = mpic.state.inputs[number]
        ivpr, level = int(found.ivpr), int(found.level)
        masked = bool(_bits(Ivpr.mask, ivpr))
        states = [word for bit, word in ((Level.PIN, "asserted"), (Level.INSIDE, "message")) if level & bit]
        states += [word for word, on in (("pending", found.pending), ("in service", found.in_service)) if int(on)]
        if masked and not states:
            continue
        cpus = ",".join(str(n) for n in range(32) if int(found.idr) >> n & 1)
        state = ", ".join([*(["masked"] if masked else []), *states])
        vector, priority = _bits(Ivpr.vector, ivpr), _bits(Ivpr.priority, ivpr)
        yield _name(number), str(vector), str(priority), cpus or "-", state or "-", names.get(number, "")


@command("info irq", "how often each interrupt was taken")
def info_irq(monitor: Monitor, _: list[str]) -> str:
    """How often each input of the interrupt controller was acknowledged."""
    mpic, names = monitor.machine.mpic, _sources(monitor)
    lines: list[tuple[str, ...]] = [("input", "taken", "device")]
    for name, count in mpic.delivered.items():
        lines.append((name, str(count), names.get(int(name), "") if name.isdecimal() else ""))
    return f"{rows(lines)}\n{mpic.eois} ended, {mpic.ipis} sent between cpus, {mpic.spurious} spurious"


@command("info block", "drives: images and the devices that use them")
def info_block(monitor: Monitor, _: list[str]) -> str:
    """Every drive."""
    lines = [
        (
            f"{drive.name}:",
            drive.where,
            f"{describe_size(drive.backend.size)}{', read-only' if drive.backend.read_only else ''}",
            f"used by {drive.device}",
        )
        for drive in monitor.machine.drives
    ]
    return rows(lines) if lines else "no drives"


@command("info network", "networks, their devices and links")
def info_network(monitor: Monitor, _: list[str]) -> str:
    """Every network backend."""
    netdevs = monitor.machine.backends.netdevs
    lines = [
        (f"{netdev.name}:", netdev.where, f"link {'up' if netdev.link_up else 'down'}", f"used by {netdev.device}")
        for netdev in (netdevs.by_name.values() if netdevs else ())
    ]
    return rows(lines) if lines else "no networks"


def _shown(chardev: BaseChardev | Recorder) -> str:
    place = None if isinstance(chardev, Recorder) else chardev.announcement
    return f"{chardev.description or type(chardev).__name__.lower()}{f' ({place})' if place else ''}"


@command("info chardev", "serial lines and other chardevs")
def info_chardev(monitor: Monitor, _: list[str]) -> str:
    """Every chardev with where it leads."""
    lines = [
        (f"{name}:", _shown(chardev), "connected" if chardev.connected else "nobody there")
        for name, chardev in monitor.machine.chardevs.items()
        if isinstance(chardev, BaseChardev | Recorder)
    ]
    return rows(lines) if lines else "no chardevs"
