"""Devices a user can plug in, by name, and how `NAME,property=value,...` becomes one on its bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from powervisor.devices.e1000.card import E1000Card
from powervisor.devices.etsec.card import EtsecCard
from powervisor.devices.i2c.at24c import At24c, At24cOptions
from powervisor.devices.i2c.fsl import FslI2c
from powervisor.devices.pci.bus import SLOTS, PciBus
from powervisor.devices.pci.card import PciCard, PciOptions
from powervisor.devices.pflash import Pflash
from powervisor.devices.platform import PlatformBus, PlatformCard, PlatformOptions
from powervisor.devices.sd.esdhc import Esdhc
from powervisor.devices.sd.plugged import PluggedSdCard, SdCardOptions
from powervisor.devices.services import Services
from powervisor.devices.virtio.balloon import VirtioBalloonPci
from powervisor.devices.virtio.blk import VirtioBlkPci
from powervisor.devices.virtio.net import VirtioNetPci
from powervisor.devices.virtio.ninep import VirtioNinepPci
from powervisor.devices.virtio.rng import VirtioRngPci
from powervisor.devices.virtio.serial import (
    PortOptions,
    SerialPort,
    VirtConsole,
    VirtioSerialPci,
    VirtSerialPort,
    plug_port,
)
from powervisor.errors import UserError, argument
from powervisor.properties import build, listing, pairs

Card = PciCard | PlatformCard | At24c | PluggedSdCard
Bus = PciBus | PlatformBus | FslI2c | Esdhc
_BUSES: Mapping[type[Card], type[Bus]] = {
    PciCard: PciBus, PlatformCard: PlatformBus, At24c: FslI2c, PluggedSdCard: Esdhc,
}  # fmt: skip
"""What kind of device goes onto what kind of bus."""

MODELS: Mapping[str, type[Card]] = {
    model.model: model
    for model in (
        At24c, E1000Card, EtsecCard, Pflash, PluggedSdCard, VirtioBalloonPci, VirtioBlkPci, VirtioNetPci,
        VirtioNinepPci, VirtioRngPci, VirtioSerialPci,
    )
}  # fmt: skip
PORTS: Mapping[str, type[SerialPort]] = {model.model: model for model in (VirtConsole, VirtSerialPort)}
"""Devices that are put onto another one, not into a slot."""


class Wanted(NamedTuple):
    """A device that was asked for, before there is a bus."""

    model: type[Card]
    options: PciOptions | PlatformOptions | At24cOptions | SdCardOptions
    where: str
    """The option, for messages."""


class WantedPort(NamedTuple):
    """A port that was asked for."""

    model: type[SerialPort]
    options: PortOptions
    where: str


def describe(text: str) -> Wanted | WantedPort:
    """What `NAME,property=value,...` asks for. Raises UserError."""
    name, _, rest = text.partition(",")
    model, where = find(name), f"{argument('devices')} {name}"
    options: Any = build(model.options_type, pairs(rest, where), where)
    return WantedPort(model, options, where) if issubclass(model, SerialPort) else Wanted(model, options, where)


def plug(texts: Sequence[str], buses: Mapping[str, Bus], services: Services) -> list[Card]:
    """Make the devices and put them on their buses: first those with a place of their own. Raises UserError."""
    described = [describe(text) for text in texts]
    wanted = [one for one in described if isinstance(one, Wanted)]
    names: set[str] = set()
    for one in wanted:
        kind = next(kind for base, kind in _BUSES.items() if issubclass(one.model, base))
        there = [name for name, bus in buses.items() if isinstance(bus, kind)]
        if one.options.bus not in there:
            raise UserError(f"{one.where}: no bus {one.options.bus!r}; there is {', '.join(there) or 'none for it'}")
        if one.options.id and one.options.id in names:
            raise UserError(f"{one.where}: id={one.options.id} is taken; give each device its own")
        names.add(one.options.id)
    # Function 0 of a slot comes before the others. Flash is at the beginning of its bus, where guests of QEMU find it.
    wanted.sort(key=lambda one: isinstance(one.options, PciOptions) and one.options.addr or (SLOTS, 0))
    wanted.sort(key=lambda one: one.model is not Pflash)
    cards = [_attach(one, buses[one.options.bus], services) for one in wanted]
    for port in described:
        if isinstance(port, WantedPort):
            plug_port(port.model, port.options, port.where, cards, services)
    return cards


def _attach(wanted: Wanted, bus: Bus, services: Services) -> Card:
    if isinstance(bus, PciBus):
        return _attach_pci(wanted, bus, services)
    number = len(bus.parts())
    card = wanted.model(wanted.options.id or f"{wanted.model.model}@{number}", wanted.options, services)
    try:
        cast(Any, bus).attach(card)
    except ValueError as error:
        raise UserError(f"{wanted.where}: {error}; leave a device out") from None
    return card


def _attach_pci(wanted: Wanted, bus: PciBus, services: Services) -> PciCard:
    model, options = cast("type[PciCard]", wanted.model), cast(PciOptions, wanted.options)
    place = options.addr or (bus.free_slot(), 0)
    if place[0] == SLOTS:
        raise UserError(f"{wanted.where}: all slots of {options.bus} are taken; leave a device out")
    slot, function = place
    shown = f"{slot:x}.{function}" if function else f"{slot:x}"
    if place in bus.functions:
        other = bus.functions[place].name
        raise UserError(f"{wanted.where}: addr={shown} is taken by {other}; choose another or leave addr= out")
    if function and (slot, 0) not in bus.functions:
        raise UserError(f"{wanted.where}: addr={shown} needs a device at addr={slot:x} first; add one, or move this")
    card = model(options.id or f"{model.model}@{shown}", options, services)
    bus.attach(card, slot, function)
    return card


def summaries() -> list[tuple[str, str]]:
    """The devices' names with what they are."""
    cards = [(model.model, model.summary) for model in MODELS.values()]
    return cards + [(model.model, model.summary) for model in PORTS.values()]


def help_text(name: str) -> str:
    """The properties of a device. Raises UserError."""
    model = find(name)
    rows = listing(model.options_type)
    width = max(len(first) for first, _ in rows)
    return "\n".join([f"{name}: {model.summary}", *(f"  {first:{width}}  {text}" for first, text in rows)])


def find(name: str) -> type[Card] | type[SerialPort]:
    """The device called `name`. Raises UserError."""
    known: dict[str, type[Card] | type[SerialPort]] = {**MODELS, **PORTS}
    if name not in known:
        import difflib

        near = ", ".join(difflib.get_close_matches(name, known, 3, 0.5) or known)
        where = argument("devices")
        raise UserError(f"{where} {name}: no device of that name; there is {near} ({where} help lists all)")
    return known[name]
