"""The machine as a tree of objects with properties, as clients of QEMU look at it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..boards import registry
from ..devices.device import Device
from ..devices.models import MODELS, PORTS
from ..devices.pci.card import PciCard
from ..devices.virtio.balloon import NAMES, VirtioBalloon, VirtioBalloonPci
from ..devices.virtio.pci import VirtioPci
from ..devices.virtio.serial import VirtioSerial
from ..errors import PowervisorError
from ..isa.cores import CORES
from .errors import DeviceNotFound, QmpError
from .names import cpu_path, cpu_type

if TYPE_CHECKING:
    from .manager import Manager

ACCELERATOR = "tcg-accel"
"""QEMU's name of translation to native code: clients ask for it."""
PCI, DEVICE, CPU, ACCEL, MACHINE = "pci-device", "device", "powerpc-cpu", "accel", "machine"
CREATABLE = "user-creatable"
_OBJECTS = (
    "filter-dump", "memory-backend-file", "memory-backend-memfd", "memory-backend-ram", "rng-builtin", "rng-random",
    "secret",
)  # fmt: skip
"""What users make with -object."""
_UNKNOWN = (1 << 64) - 1
_ANSWER_SECONDS = 1.0


class Property(NamedTuple):
    """A property of an object."""

    type: str
    get: Callable[[], Any]
    set: Callable[[Any], None] | None = None


@dataclass
class Node:
    """An object."""

    type: str
    children: dict[str, Node] = field(default_factory=dict)
    properties: dict[str, Property] = field(default_factory=dict)


class BalloonStatistics:
    """What the guest tells of its memory, asked for when somebody wants to know and the last answer is old."""

    def __init__(self, balloon: VirtioBalloon) -> None:
        self._balloon = balloon
        self.interval = 0
        """Seconds after which an answer is old; 0 to ask never."""
        self._told: dict[str, int] = {}
        self._when = 0.0

    def get(self) -> dict[str, Any]:
        """Statistics by QEMU's names; those that the guest does not tell are 2**64-1."""
        if self.interval and time.time() - self._when > self.interval:
            with contextlib.suppress(PowervisorError):  # no driver, or none that runs now: the last answer stays
                self._told, self._when = self._balloon.guest_statistics(_ANSWER_SECONDS), time.time()
        stats = {_STATISTICS[name]: self._told.get(name, _UNKNOWN) for name in NAMES}
        return {"stats": stats, "last-update": int(self._when)}

    def set_interval(self, value: Any) -> None:
        """Seconds. Raises QmpError."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
            raise QmpError("guest-stats-polling-interval: give a number of seconds, 0 for never")
        self.interval = value


_STATISTICS = {name: f"stat-{name}" for name in NAMES} | {
    "hugetlb-allocations": "stat-htlb-pgalloc", "hugetlb-failures": "stat-htlb-pgfail",
}  # fmt: skip


class Objects:
    """Builds the tree, as it is now."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        balloon = manager.balloon
        self._balloon = None if balloon is None else BalloonStatistics(balloon)

    def find(self, path: str) -> Node:
        """The object at an absolute path, or the only one of a name. Raises DeviceNotFound."""
        node = self._root()
        if not path.startswith("/"):
            node, path = node.children["machine"].children["peripheral"], f"/{path}"
        for part in filter(None, path.split("/")):
            if part not in node.children:
                raise DeviceNotFound(f"{path}: there is no such object; qom-list lists those of a path")
            node = node.children[part]
        return node

    def property(self, path: str, name: str) -> Property:
        """A property of an object. Raises QmpError."""
        node = self.find(path)
        if name == "type":
            return Property("string", lambda: node.type)
        if name not in node.properties:
            known = ", ".join(["type", *node.properties])
            raise QmpError(f"{path}: has no property {name!r}; there is {known}")
        return node.properties[name]

    def _root(self) -> Node:
        machine = self._manager.machine
        plugged = tuple(MODELS.values())
        peripheral, anonymous, unattached = Node("container"), Node("container"), Node("container")
        for device in machine.built.everything():
            if isinstance(device, plugged):
                place = anonymous if "@" in device.name else peripheral
                place.children[device.name] = self._device(device)
            elif isinstance(device, VirtioSerial):
                for port in device.ports.values():
                    place = peripheral if port.options.id else anonymous
                    place.children[port.options.id or f"{port.model}@{len(place.children)}"] = Node(port.model)
            elif device.name not in peripheral.children and device.name not in anonymous.children:
                unattached.children[device.name] = self._device(device)
        for vcpu in machine.vcpus:
            unattached.children[cpu_path(vcpu.index).rpartition("/")[2]] = Node(cpu_type(machine.topology.core))
        board = Node(
            f"{machine.board.name}-machine",
            {"peripheral": peripheral, "peripheral-anon": anonymous, "unattached": unattached},
        )
        return Node("container", {"machine": board, "objects": Node("container"), "chardevs": Node("container")})

    def _device(self, device: Device) -> Node:
        kind = getattr(device, "model", type(device).__name__.lower())
        node = Node(kind, properties={"x-statistics": Property("dict", device.statistics)})
        if isinstance(device, VirtioBalloonPci) and self._balloon is not None:
            balloon = self._balloon
            node.properties["guest-stats"] = Property("guest statistics", balloon.get)
            node.properties["guest-stats-polling-interval"] = Property(
                "int", lambda: balloon.interval, balloon.set_interval
            )
        if isinstance(device, VirtioPci):
            node.children["virtio-backend"] = Node(f"{kind.removesuffix('-pci')}-device")
        return node


def types() -> dict[str, tuple[str, ...]]:
    """All types that a user can name, and what each is a kind of."""
    found: dict[str, tuple[str, ...]] = {ACCELERATOR: (ACCEL,)}
    found |= {f"{name}-machine": (MACHINE,) for name in registry.BOARDS}
    found |= {cpu_type(name): (CPU, DEVICE) for name in CORES}
    found |= {name: (PCI, DEVICE) if issubclass(model, PciCard) else (DEVICE,) for name, model in MODELS.items()}
    found |= dict.fromkeys(PORTS, (DEVICE,))
    return found | dict.fromkeys(_OBJECTS, (CREATABLE,))
