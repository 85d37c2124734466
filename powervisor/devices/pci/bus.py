"""A PCI bus: functions by slot, address decoding, interrupt lines."""

from __future__ import annotations

from typing import NamedTuple

from powervisor.devices.irq import IrqOutput, OrGate
from powervisor.devices.pci.function import COMMAND_MASTER, HEADER_TYPE, PciFunction
from powervisor.memory.space import BusError, Dma

SLOTS = 32
FUNCTIONS = 8
_MULTIFUNCTION = 0x80


class _Claim(NamedTuple):
    start: int
    end: int
    function: PciFunction
    bar: int


class PciBus:
    """`dma` is the memory behind the host bridge; `intx` its four interrupt lines, INTA first."""

    def __init__(self, dma: Dma, intx: list[IrqOutput]) -> None:
        self.dma = dma
        self.functions: dict[tuple[int, int], PciFunction] = {}
        self._gates = [OrGate(pin) for pin in intx]
        self._claims: dict[bool, list[_Claim]] = {False: [], True: []}

    def free_slot(self) -> int:
        """The first slot from 1 where nothing is; SLOTS when there is none."""
        used = {taken for taken, _ in self.functions}
        return next((free for free in range(1, SLOTS) if free not in used), SLOTS)

    def attach(self, function: PciFunction, slot: int | None = None, number: int = 0) -> int:
        """Put `function` into `slot` (the first free from 1 when None); answers the slot. Raises ValueError."""
        if slot is None:
            slot = self.free_slot()
        if not (0 <= slot < SLOTS and 0 <= number < FUNCTIONS) or (slot, number) in self.functions:
            raise ValueError(f"{function.name}: PCI slot {slot:02x}.{number} is taken or does not exist")
        self.functions[slot, number] = function
        if number:
            first = self.functions.get((slot, 0))
            if first is None:
                raise ValueError(f"{function.name}: PCI slot {slot:02x} needs a function 0 first")
            first.declare(HEADER_TYPE, 1, _MULTIFUNCTION)
            first.config[HEADER_TYPE] |= _MULTIFUNCTION
        function.bus = self

        def translate(address: int, length: int, write: bool) -> tuple[int, int]:
            if not function.command & COMMAND_MASTER:
                raise BusError(address, length, write)
            return address, length

        function.dma = self.dma.behind(translate)
        if function.interrupt_pin:
            function.irq.connect(self._gates[(slot + function.interrupt_pin - 1) % 4].input())
        self.remap()
        return slot

    def remap(self) -> None:
        """Decode anew, after a base address or command register changed."""
        self._claims = {False: [], True: []}
        for function in self.functions.values():
            for index, bar in function.bars.items():
                start = function.bar_address(index)
                if start is not None:
                    self._claims[bar.io].append(_Claim(start, start + bar.size, function, index))

    def config_read(self, slot: int, number: int, offset: int, size: int) -> int:
        """Configuration read; all ones where no function is."""
        function = self.functions.get((slot, number))
        return function.config_read(offset, size) if function else (1 << 8 * size) - 1

    def config_write(self, slot: int, number: int, offset: int, size: int, value: int) -> None:
        """Configuration write; ignored where no function is."""
        if function := self.functions.get((slot, number)):
            function.config_write(offset, size, value)

    def decode(self, io: bool, address: int, size: int) -> tuple[PciFunction, int, int] | None:
        """Who claims a memory or I/O access: the function, its base address register and the offset behind that."""
        for claim in self._claims[io]:
            if claim.start <= address and address + size <= claim.end:
                return claim.function, claim.bar, address - claim.start
        return None

    def read(self, io: bool, address: int, size: int) -> int:
        """Memory or I/O read; all ones when nobody claims it."""
        if (found := self.decode(io, address, size)) is None:
            return (1 << 8 * size) - 1
        function, bar, offset = found
        function.counters.reads += 1
        return function.bar_read(bar, offset, size)

    def write(self, io: bool, address: int, size: int, value: int) -> None:
        """Memory or I/O write; lost when nobody claims it."""
        if (found := self.decode(io, address, size)) is not None:
            function, bar, offset = found
            function.counters.writes += 1
            function.bar_write(bar, offset, size, value)
