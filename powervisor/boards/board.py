"""Boards as data: a list of parts from which the machine and its device tree are both built."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

from powervisor.boards.cpus import CpuTopology, add_cpu_nodes
from powervisor.boards.devicetree import Node, Value, cells64
from powervisor.devices.clock import Clock, ManualClock
from powervisor.devices.device import Device
from powervisor.devices.i2c.fsl import FslI2c
from powervisor.devices.irq import IrqLine, NoIrq, OrGate
from powervisor.devices.ns16550 import Chardev
from powervisor.devices.pci.bus import PciBus
from powervisor.devices.platform import PlatformBus
from powervisor.devices.sd.esdhc import Esdhc
from powervisor.devices.silent import Silent
from powervisor.devices.spintable import Release
from powervisor.errors import UserError, argument
from powervisor.memory.ram import Ram, describe_size
from powervisor.memory.space import Dma, PhysicalSpace, Target


class Irqchip(Target, Protocol):
    """The interrupt controller: a register window whose inputs are `line(source)`."""

    def line(self, source: int) -> IrqLine:
        """The input `source`."""


@dataclass(eq=False, repr=False)
class Context:
    """Everything a board is built into. `chardevs` are the serial lines in order, None for unconnected."""

    ram: Ram
    space: PhysicalSpace
    dma: Dma
    irqchip: Irqchip
    clock: Clock
    cpus: CpuTopology
    chardevs: Sequence[Chardev | None] = ()
    poweroff: Callable[[], None] = lambda: None
    reset: Callable[[], None] = lambda: None
    release_cpu: Release = lambda cpu, pc, r3, map_base: None
    rng_seed: bytes | None = None
    """32 bytes for the guest's random pool; None takes them from the host."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since 1970, for the real-time clock."""

    def chardev(self, index: int) -> Chardev | None:
        """Serial line `index`, or None."""
        return self.chardevs[index] if index < len(self.chardevs) else None


ExpansionBus = PciBus | PlatformBus | FslI2c | Esdhc
Make = Callable[[Context, dict[str, Device]], Target]
Nodes = dict[str, Node]
NOTHING: Mapping[str, Any] = MappingProxyType({})
ROOT = "/"
SERIAL = "serial"
"""Serial line N is the part of this name and N."""


class Bus(NamedTuple):
    """A range of physical addresses with a node of its own; `silent` fills what no part answers."""

    name: str
    base: int
    size: int
    compatible: tuple[str, ...]
    device_type: str | None = None
    properties: Mapping[str, tuple[Value, ...]] = NOTHING
    silent: bool = False


class Part(NamedTuple):
    """One device: where it is, which interrupts it has, how it is made, what the tree says of it.

    `at` counts from the start of `bus`, or is the address below a node that is no bus (an I2C device).
    `irqs` are the controller's sources of the pin `irq`, told to the guest with `sense`; `pins` are
    sources of other pins, by name. `links` are properties that refer to other parts' nodes.
    """

    name: str
    make: Make | None = None
    bus: str | None = None
    at: int | None = None
    size: int = 0
    reg_size: int | None = None
    """Size in the tree, when it states less than the window has."""
    irqs: Sequence[int] = ()
    sense: int = 2
    pins: Mapping[str, int] = NOTHING
    apertures: Mapping[str, tuple[int, int]] = NOTHING
    """Further windows: physical base and size of `device.apertures[name]`."""
    node: str | None = None
    under: str | None = None
    compatible: tuple[str, ...] = ()
    device_type: str | None = None
    properties: Mapping[str, tuple[Value, ...]] = NOTHING
    links: Mapping[str, tuple[str | int, ...]] = NOTHING
    alias: str | None = None
    describe: Callable[[Node, Part, Nodes], None] | None = None
    """Writes properties that are more than constants."""
    described: Callable[[Context], bool] = lambda context: True


class BoardCore(NamedTuple):
    """What the board says of a core it takes: the chip it stands for, word size, threads per core."""

    chip: str
    svr: int
    bits: int
    max_threads: int = 1


class VirtualSources(NamedTuple):
    """Interrupt sources that no device of the board has."""

    levels: range
    """Level-sensitive: two for each byte channel."""
    edges: tuple[int, ...]
    """Pins that can be edges: one for each doorbell."""


class Built(NamedTuple):
    """A board built into a context. `silent` are the filled gaps; `tree` has no boot parameters yet."""

    devices: dict[str, Device]
    silent: list[Silent]
    tree: Node

    def everything(self) -> list[Device]:
        """All devices and the devices inside them, for reset, snapshots and statistics."""
        found = list(self.devices.values())
        for device in found:  # grows while it is walked
            found += device.parts()
        return found


class Board(NamedTuple):
    """A machine type: limits, parts, and how they become a machine and a tree."""

    name: str
    description: str
    model: str
    compatible: tuple[str, ...]
    cores: Mapping[str, BoardCore]
    default_core: str
    max_cpus: int
    clock_hz: int
    """Core and time-base frequency told to the guest."""
    ram_unit: int
    ram_max: int
    ram_default: int
    interrupt_parent: str
    spin_table: str
    spin_entry: int
    stdout: str
    buses: tuple[Bus, ...]
    parts: tuple[Part, ...]
    expansion: Mapping[str, str] = NOTHING
    """Buses that devices can be plugged into, by the name users give them: the parts that lead to them or are them."""
    virtual: VirtualSources | None = None
    """For what a hypervisor offers; None where the board cannot be a virtual one."""
    hypercalls: bool = False
    """Whether it is: the vCPUs are guests of an ePAPR hypervisor. See boards.hypervisor."""

    def core(self, name: str) -> BoardCore:
        """The board's entry of core `name`; UserError with the nearest names."""
        if name not in self.cores:
            raise UserError(f"{argument('cpu')} {name}: {self.name} takes {nearest(name, self.cores)}")
        return self.cores[name]

    def check(self, core: str, cores: int, threads: int, ram_size: int) -> None:
        """Raise UserError when the board cannot be had with these."""
        limit = self.core(core).max_threads
        if not 1 <= threads <= limit:
            have = "one thread a core" if limit == 1 else f"1 to {limit} threads a core"
            raise UserError(f"{argument('threads')}={threads}: {core} has {have}")
        if not 1 <= cores * threads <= self.max_cpus:
            wanted = f"{cores} x {threads} threads" if threads > 1 else f"{cores}"
            raise UserError(f"{argument('cores')} {wanted}: {self.name} has 1 to {self.max_cpus} CPUs")
        if ram_size % self.ram_unit or not self.ram_unit <= ram_size <= self.ram_max:
            given = f"{argument('memory')} {describe_size(ram_size)}"
            unit, most = describe_size(self.ram_unit), describe_size(self.ram_max)
            raise UserError(f"{given}: {self.name} takes multiples of {unit} up to {most}")

    def check_serials(self, count: int) -> None:
        """Raise UserError when there are not that many serial lines."""
        have = sum(part.name.startswith(SERIAL) for part in self.parts)
        if count > have:
            raise UserError(f"{argument('serial')}: {count} lines given, {self.name} has {have}; leave the others out")

    def part(self, name: str) -> Part:
        """The part called `name`."""
        return next(part for part in self.parts if part.name == name)

    def bus(self, name: str) -> Bus:
        """The bus called `name`."""
        return next(bus for bus in self.buses if bus.name == name)

    def base(self, part: Part) -> int:
        """The physical address of `part`'s window."""
        bus = self.bus(part.bus).base if part.bus not in (None, ROOT) else 0
        return bus + (part.at or 0)

    def build(self, context: Context) -> Built:
        """Make all devices, map and connect them, and write the tree."""
        devices: dict[str, Device] = {}
        for part in self.parts:
            if part.make is None:
                continue
            target = part.make(context, devices)
            if isinstance(target, Device):
                devices[part.name] = target
            if part.bus is not None:
                context.space.map(self.base(part), part.size, target, part.name)
            for name, (base, size) in part.apertures.items():
                context.space.map(base, size, cast(HasApertures, target).apertures[name], f"{part.name}-{name}")
        self._connect(context.irqchip, devices)
        silent = [s for bus in self.buses if bus.silent for s in _fill(context.space, bus)]
        return Built(devices, silent, self._tree(context, devices))

    def expansion_buses(self, devices: Mapping[str, Device]) -> dict[str, ExpansionBus]:
        """The buses of `expansion` among what `build` made."""
        found = {name: devices[part] for name, part in self.expansion.items()}
        return {
            name: part if isinstance(part, PlatformBus | FslI2c | Esdhc) else cast(HasBus, part).bus
            for name, part in found.items()
        }

    def describe(self, cpus: CpuTopology, ram_size: int, serials: int = 1) -> Node:
        """The tree alone, without a machine: as `build` would write it for this much of everything."""
        ram = cast(Ram, _RamSize(ram_size))
        space = PhysicalSpace(ram)
        chardevs = [_NoHost()] * serials
        return self.build(Context(ram, space, Dma(space), NoIrqchip(), ManualClock(), cpus, chardevs)).tree

    def _connect(self, irqchip: Irqchip, devices: dict[str, Device]) -> None:
        """Lead every pin to its source, through an OR gate where several share one."""
        pins: dict[int, list[tuple[Device, str]]] = {}
        for part in self.parts:
            if device := devices.get(part.name):
                for source in part.irqs:
                    pins.setdefault(source, []).append((device, "irq"))
                for pin, source in part.pins.items():
                    pins.setdefault(source, []).append((device, pin))
        for source, users in pins.items():
            line = irqchip.line(source)
            gate = OrGate(line) if len(users) > 1 else None
            for device, pin in users:
                device.irqs()[pin].connect(gate.input() if gate else line)

    def _tree(self, context: Context, devices: dict[str, Device]) -> Node:
        root = Node().set("model", self.model).set("compatible", *self.compatible)
        root.set("#address-cells", 2).set("#size-cells", 2)
        root.child("memory").set("device_type", "memory").set("reg", *cells64(0), *cells64(context.ram.size))
        spin_base = self.base(self.part(self.spin_table))
        add_cpu_nodes(root, context.cpus, self.clock_hz, spin_base, self.spin_entry)
        aliases, nodes = root.child("aliases"), {ROOT: root}
        for bus in self.buses:
            nodes[bus.name] = _bus_node(root, bus)
        described = [part for part in self.parts if part.node and part.described(context)]
        for part in described:
            nodes[part.name] = self._part_node(part, nodes, devices.get(part.name))
            if part.alias:
                aliases.set(part.alias, nodes[part.name].path)
        # References only now, when every node exists.
        for part in described:
            node = nodes[part.name]
            for name, link in part.links.items():
                node.set(name, *(nodes[to] if isinstance(to, str) else to for to in link))
            if part.irqs:
                node.set("interrupt-parent", nodes[self.interrupt_parent])
            if part.describe:
                part.describe(node, part, nodes)
        chosen = root.child("chosen")
        if self.stdout in nodes:
            chosen.set("stdout-path", nodes[self.stdout].path).set("linux,stdout-path", nodes[self.stdout].path)
        chosen.set("rng-seed", context.rng_seed or os.urandom(32))
        return root

    def _part_node(self, part: Part, nodes: Nodes, device: Device | None) -> Node:
        under = part.under or part.bus or ROOT
        parent = nodes[under]
        if part.at is None:
            node = parent.child(cast(str, part.node))
        else:
            address = part.at if under == part.bus or part.bus is None else self.base(part)
            node = parent.child(f"{part.node}@{address:x}")
            node.set("reg", *_reg(parent, address, part.size if part.reg_size is None else part.reg_size))
        compatible = part.compatible or (device.compatible if device else ())
        device_type = part.device_type or (device.device_type if device else None)
        if device_type:
            node.set("device_type", device_type)
        if compatible:
            node.set("compatible", *compatible)
        for name, value in part.properties.items():
            node.set(name, *value)
        if part.irqs:
            node.set("interrupts", *(cell for source in part.irqs for cell in (source, part.sense)))
        if device:
            device.fdt(node)
        return node


class HasApertures(Protocol):
    """A device with windows beyond its registers."""

    apertures: Mapping[str, Target]


class HasBus(Protocol):
    """A device with a PCI bus behind it."""

    bus: PciBus


def nearest(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    """The names a person may have meant, for the end of an error message."""
    import difflib

    close = difflib.get_close_matches(name, list(names), 3, 0.5) if len(names) > 1 else []
    return ", ".join(names) + (f" (did you mean {' or '.join(close)}?)" if close else "")


def _bus_node(root: Node, bus: Bus) -> Node:
    node = root.child(f"{bus.name}@{bus.base:x}")
    if bus.device_type:
        node.set("device_type", bus.device_type)
    node.set("compatible", *bus.compatible)
    node.set("#address-cells", 1).set("#size-cells", 1).set("ranges", 0, *cells64(bus.base), bus.size)
    for name, value in bus.properties.items():
        node.set(name, *value)
    return node


def _reg(parent: Node, address: int, size: int) -> list[int]:
    """`reg` in as many cells as `parent` says."""
    out: list[int] = []
    for value, count in ((address, parent.properties["#address-cells"]), (size, parent.properties["#size-cells"])):
        out += [value >> 32 * i & 0xFFFF_FFFF for i in reversed(range(cast(int, count[0])))]
    return out


def _fill(space: PhysicalSpace, bus: Bus) -> list[Silent]:
    """Map a silent window over each gap of `bus`."""
    filled, at = [], bus.base
    inside = [window for window in space.windows if bus.base <= window.base < bus.base + bus.size]
    for start, end in [(w.base, w.end) for w in inside] + [(bus.base + bus.size,) * 2]:
        if at < start:
            silent = Silent(f"{bus.name}+0x{at - bus.base:x}", at - bus.base, start - at)
            space.map(at, start - at, silent, silent.name)
            filled.append(silent)
        at = end
    return filled


class _RamSize(NamedTuple):
    size: int


class _NoHost:
    def write(self, data: bytes) -> None:
        """Nobody listens."""


class NoIrqchip:
    """Stands in where a board is built without a machine: reads 0, its inputs lead nowhere."""

    def read(self, offset: int, size: int, cpu: int) -> int:
        """Always 0."""
        return 0

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        """Ignored."""

    def line(self, source: int) -> IrqLine:
        """A line that leads nowhere."""
        return NoIrq()
