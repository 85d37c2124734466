"""PCI functions that a user can plug in: what all of them can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from powervisor.devices.pci.bus import FUNCTIONS, SLOTS
from powervisor.devices.pci.function import PciFunction
from powervisor.devices.services import Services
from powervisor.properties import Kind, number, prop


def _address(text: str) -> tuple[int, int]:
    slot, dot, function = text.partition(".")
    try:
        place = int(slot, 16), int(function, 16) if dot else 0
    except ValueError:
        place = -1, -1
    if not (1 <= place[0] < SLOTS and 0 <= place[1] < FUNCTIONS):
        raise ValueError(f"no slot; write 1 to {SLOTS - 1:x}, or 3.1 for function 1 in slot 3 (hexadecimal)")
    return place


SLOT = Kind("slot[.function]", _address)


@dataclass(frozen=True)
class PciOptions:
    """Properties of every PCI device."""

    id: str = prop("", "its name in messages and statistics")
    bus: str = prop("pci.0", "the bus it sits on")
    addr: tuple[int, int] | None = prop(None, "its place on the bus, hexadecimal; default the first free slot", SLOT)
    bootindex: int | None = prop(
        None, "for firmware that asks; the board's boots what -kernel and -bios say", number(0, 99)
    )


class PciCard(PciFunction):
    """Base of functions that a user can plug in."""

    model: ClassVar[str]
    """As it is called after -device."""
    summary: ClassVar[str]
    options_type: ClassVar[type[PciOptions]]

    def __init__(self, name: str, options: Any, services: Services) -> None:
        """`options` is of `options_type`. Raises UserError for what cannot be had together."""
        super().__init__(name)
