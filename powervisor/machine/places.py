"""Which device and register a physical address is, by name, and what a value says in its fields."""

from __future__ import annotations

from typing import NamedTuple

from ..devices.device import Device
from ..devices.pci.host import Aperture, swap
from ..devices.registers import NamedRegister, Reg
from ..devices.silent import Silent
from ..memory.space import PhysicalSpace


class Place(NamedTuple):
    """What answers at a physical address: `offset` counts from its window, or behind its base address register."""

    device: str
    offset: int
    register: NamedRegister | None
    little: bool = False
    """Its registers are little-endian, as those of PCI are: values that the CPU sees are turned around."""
    bar: int | None = None

    @property
    def name(self) -> str:
        """`serial0.lcr`, or `soc+0x2010` where no register has a name."""
        if self.register is None:
            return f"{self.device}{'' if self.bar is None else f'.bar{self.bar}'}+0x{self.offset:x}"
        within = self.offset - self.register.offset
        return f"{self.device}.{self.register.name}{f'+{within}' if within else ''}"

    @property
    def known(self) -> bool:
        """Whether a register is there; behind a base address register that cannot be told."""
        return self.register is not None or self.bar is not None

    def describe(self, value: int, size: int, write: bool) -> str:
        """A value of so many bytes with the fields it has in the register."""
        if self.little:
            value = swap(value, size)
        text = f"0x{value:0{2 * size}x}"
        register = self.register
        kind = None if register is None else register.write_kind if write else register.read_kind
        if kind is None or register is None or (self.offset, size) != (register.offset, register.bytes):
            return text
        return f"{text} {fields(kind, value)}".rstrip()


def fields(kind: type[Reg], value: int) -> str:
    """The fields of a register's value that are not zero, by name; none of one that has but one for all its bits."""
    whole = (1 << kind.width) - 1
    if len(kind.fields) < 2 and any(field.mask == whole for field in kind.fields.values()):
        return ""
    shown = []
    for name, field in kind.fields.items():
        if got := value >> field.lo & field.ones:
            shown.append(name if field.ones == 1 else f"{name}={got}")
    return " ".join(shown)


class Places:
    """The places of a physical address space. Windows move, so nothing is remembered."""

    def __init__(self, space: PhysicalSpace) -> None:
        self._space = space

    def find(self, pa: int, size: int) -> Place | None:
        """What answers an access, None where nothing does."""
        window = self._space.find(pa)
        if window is None or pa + size > window.end:
            return None
        target, offset = window.target, pa - window.base
        if isinstance(target, Aperture):
            found = target.decode(offset, size)
            if found is None:
                return Place(window.name, offset, None)
            function, bar, behind = found
            return Place(function.name, behind, function.bar_register(bar, behind), True, bar)
        if isinstance(target, Silent):
            return Place(bus_of(target), target.base + offset, None)
        if isinstance(target, Device):
            return Place(target.name, offset, target.register_at(offset))
        return Place(window.name, offset, None)


def bus_of(gap: Silent) -> str:
    """The bus that a gap between devices is in: offsets there count from the bus's beginning, as in the manual."""
    return gap.name.partition("+")[0]
