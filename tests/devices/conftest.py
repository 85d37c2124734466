"""A whole board with recording ends, for tests that drive devices as a guest would."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from powervisor.boards import registry
from powervisor.boards.board import Built, Context
from powervisor.boards.cpus import CpuTopology
from powervisor.devices.clock import ManualClock
from powervisor.devices.services import Services
from powervisor.memory.ram import Ram
from powervisor.memory.space import Dma, PhysicalSpace
from tests.support.virtio_driver import Immediate

CCSR = 0xF_E000_0000


class Line:
    """An interrupt input that remembers its history."""

    def __init__(self) -> None:
        self.level = False
        self.history: list[bool] = []

    def set(self, level: bool) -> None:
        self.level = level
        self.history.append(level)


class Irqchip:
    """Takes the MPIC's place: lines that remember, registers that store."""

    def __init__(self) -> None:
        self.lines: dict[int, Line] = {}
        self.stores: list[tuple[int, int, int]] = []

    def line(self, source: int) -> Line:
        return self.lines.setdefault(source, Line())

    def read(self, offset: int, size: int, cpu: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self.stores.append((offset, size, value))


class Host:
    """The host's side of a serial line."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> None:
        self.text += data


@dataclass
class Bench:
    """A built ppce500 and everything that came out of it."""

    space: PhysicalSpace
    clock: ManualClock
    irqchip: Irqchip
    hosts: list[Host]
    events: list[object] = field(default_factory=list)
    built: Built | None = None

    def device(self, name: str):
        return self.built.devices[name]

    def buses(self):
        """What devices are plugged into, by name."""
        return registry.get("ppce500").expansion_buses(self.built.devices)

    def read(self, offset: int, size: int = 4) -> int:
        """A guest's load from CCSR."""
        return self.space.read(CCSR + offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """A guest's store to CCSR."""
        self.space.write(CCSR + offset, size, value)


def make_bench(ram: Ram, cores: int = 4, threads: int = 1) -> Bench:
    board = registry.get("ppce500")
    space = PhysicalSpace(ram)
    bench = Bench(space, ManualClock(), Irqchip(), [Host(), Host()])
    context = Context(
        ram=ram,
        space=space,
        dma=Dma(space),
        irqchip=bench.irqchip,
        clock=bench.clock,
        cpus=CpuTopology("e6500", cores, threads, 64, 0x8040_0020, board.core("e6500").svr),
        chardevs=bench.hosts,
        poweroff=lambda: bench.events.append("poweroff"),
        reset=lambda: bench.events.append("reset"),
        release_cpu=lambda *a: bench.events.append(("release", *a)),
        wall_clock=lambda: 1_750_000_000.0 + bench.clock.now_ns() // 1_000_000_000,
    )
    bench.built = board.build(context)
    return bench


@pytest.fixture
def bench():
    ram = Ram(64 << 20)
    yield make_bench(ram)
    ram.close()


@pytest.fixture
def threaded_bench():
    """Two e6500 cores of two threads."""
    ram = Ram(64 << 20)
    yield make_bench(ram, cores=2, threads=2)
    ram.close()


@pytest.fixture
def warnings():
    """What the devices told the user."""
    return []


@pytest.fixture
def services(bench, warnings):
    """What a machine lends to devices that are plugged into the bench; closed with them."""
    found = Services(Dma(bench.space), warn=warnings.append, hire=Immediate)
    yield found
    for device in bench.built.everything():
        device.close()
    found.drives.close()
