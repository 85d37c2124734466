"""An MPIC with vCPUs made of three words each, run as Python and as compiled code."""

import ctypes

import pytest

from powervisor.devices.clock import ManualClock
from powervisor.devices.mpic import Mpic
from powervisor.devices.mpic_native import ENTRY_POINTS
from powervisor.devices.mpic_registers import Offset
from powervisor.native.codespace import CodeSpace
from powervisor.native.compile import Module
from powervisor.native.elf import Object
from powervisor.native.llvm import compile_object


class Words(ctypes.Structure):
    """What a vCPU shows its interrupt controller."""

    _fields_ = [("lines", ctypes.c_uint32), ("requests", ctypes.c_uint32), ("asleep", ctypes.c_uint32)]

    def attach_to(self, mpic, cpu):
        at = ctypes.addressof(self)
        mpic.attach(cpu, at + Words.lines.offset, at + Words.requests.offset, at + Words.asleep.offset)


class Bench:
    """A controller and its CPUs; register accesses are CPU 0's unless said otherwise."""

    def __init__(self, cpus, addresses):
        self.clock = ManualClock()
        self.resets = []
        self.mpic = Mpic("mpic", cpus, self.clock, on_core_reset=lambda cpu, held: self.resets.append((cpu, held)))
        if addresses:
            self.mpic.bind_addresses(addresses)
        self.words = [Words() for _ in range(cpus)]
        for cpu, words in enumerate(self.words):
            words.attach_to(self.mpic, cpu)

    def read(self, offset, cpu=0):
        return self.mpic.read(offset, 4, cpu)

    def write(self, offset, value, cpu=0):
        self.mpic.write(offset, 4, value, cpu)

    def lines(self, cpu=0):
        return self.words[cpu].lines

    def source(self, n, priority=8, vector=None, cpus=1, sense=0, ilr=0):
        """Set a source up and unmask it, as a driver does; the vector is the source's number."""
        at = Offset.SOURCE + n * Offset.SOURCE_STRIDE
        self.write(at + Offset.IDR, cpus)
        self.write(at + Offset.ILR, ilr)
        self.write(at + Offset.IVPR, priority << 16 | (n if vector is None else vector) | sense)

    def ipi(self, n, priority=10):
        self.write(Offset.IPIVPR + 0x10 * n, priority << 16 | 0x100 + n)

    def iack(self, cpu=0):
        return self.read(Offset.IACK, cpu)

    def eoi(self, cpu=0):
        self.write(Offset.EOI, 0, cpu)

    def ready(self, cpus=None):
        """Mixed mode, every CPU at task priority 0."""
        self.write(Offset.GCR, 0x2000_0000)
        for cpu in range(len(self.words)):
            self.write(Offset.CTPR, 0, cpu)
        return self


def load(functions):
    """Compile native functions; their addresses by symbol, and the memory that holds them."""
    module = Module()
    for function in functions:
        module.require(function, export=True)
    space = CodeSpace(1 << 20)
    return Object(compile_object(module.emit())).load(space.take, lambda name: pytest.fail(name)), space


@pytest.fixture(scope="session")
def loader():
    return load


@pytest.fixture(scope="session")
def addresses():
    symbols, space = load(ENTRY_POINTS.values())
    yield symbols
    space.close()


@pytest.fixture(params=["python", "compiled"])
def bench_of(request):
    """`bench_of(cpus)`: a bench with that many CPUs."""
    compiled = request.getfixturevalue("addresses") if request.param == "compiled" else None
    return lambda cpus: Bench(cpus, compiled)


@pytest.fixture
def pair_of(addresses):
    """`pair_of(cpus)`: a bench run by Python and one run by compiled code."""
    return lambda cpus: (Bench(cpus, None), Bench(cpus, addresses))


@pytest.fixture
def pic(bench_of):
    """Two CPUs, mixed mode, nothing set up."""
    return bench_of(2).ready()
