"""The platform bus: addresses and interrupts that the board hands out to devices plugged into no other bus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from powervisor.devices.device import Device, TreeNode
from powervisor.devices.irq import IrqLine, IrqOutput
from powervisor.devices.services import Services
from powervisor.memory.space import PhysicalSpace, Target
from powervisor.properties import prop

LEVEL_HIGH = 2
"""How the guest is told that an interrupt is active-high and level-sensitive."""


class PlatformBus(Device):
    """`length` bytes of physical memory from `base`; `lines` are the controller's inputs by source.

    A card claims what it needs in `PlatformCard.attach`. Offsets count from the bus's beginning, as its node says.
    """

    def __init__(self, name: str, space: PhysicalSpace, base: int, length: int, lines: Mapping[int, IrqLine]) -> None:
        super().__init__(name)
        self.base, self.length = base, length
        self.cards: list[PlatformCard] = []
        self._space = space
        self._free_lines = dict(lines)
        self._claimed: list[range] = []
        self._node: TreeNode | None = None

    def fdt(self, node: TreeNode) -> None:
        """Cards that are attached from now on describe themselves below `node`."""
        self._node = node

    def parts(self) -> list[Device]:
        """The cards."""
        return list(self.cards)

    def attach(self, card: PlatformCard) -> None:
        """Give `card` its place. Raises ValueError when the bus has too little left."""
        card.attach(self)
        self.cards.append(card)

    def claim_window(self, name: str, size: int, target: Target, at: int | None = None) -> int:
        """Let `target` answer `size` bytes; answers their offset, aligned to a power of two of at least `size`.

        They begin at the offset `at`, or where there is room first. Raises ValueError.
        """
        alignment = 1 << (size - 1).bit_length()
        for offset in range(0, self.length, alignment) if at is None else (at,):
            if offset + size <= self.length and not any(
                offset < taken.stop and taken.start < offset + size for taken in self._claimed
            ):
                self._space.map(self.base + offset, size, target, name)
                self._claimed.append(range(offset, offset + size))
                return offset
        place = "" if at is None else f" at 0x{at:x}"
        raise ValueError(f"{self.name} has no {size} bytes left{place}")

    def claim_interrupts(self, *pins: IrqOutput) -> list[int]:
        """Lead each pin to a source of its own; answers the cells of the property `interrupts`. Raises ValueError."""
        if len(pins) > len(self._free_lines):
            raise ValueError(f"{self.name} has {len(self._free_lines)} interrupts left, {len(pins)} are needed")
        cells: list[int] = []
        for pin in pins:
            source = next(iter(self._free_lines))
            pin.connect(self._free_lines.pop(source))
            cells += [source, LEVEL_HIGH]
        return cells

    def add_node(self, name: str) -> TreeNode:
        """A node for a card below the bus's, whose addresses and sizes have one cell."""
        assert self._node is not None, "the board describes its bus before anything is plugged in"
        node: TreeNode = self._node.child(name)
        return node


@dataclass(frozen=True)
class PlatformOptions:
    """Properties of every device on the platform bus."""

    id: str = prop("", "its name in messages and statistics")
    bus: str = prop("platform", "the bus it sits on")


class PlatformCard(Device, ABC):
    """Base of devices that a user can plug into the platform bus."""

    model: ClassVar[str]
    """As it is called after -device."""
    summary: ClassVar[str]
    options_type: ClassVar[type[PlatformOptions]]

    def __init__(self, name: str, options: Any, services: Services) -> None:
        """`options` is of `options_type`. Raises UserError for what cannot be had together."""
        super().__init__(name)

    @abstractmethod
    def attach(self, bus: PlatformBus) -> None:
        """Claim windows and interrupts of `bus`, and add a node. Raises ValueError, as the bus does."""
