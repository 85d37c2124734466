"""A board as a guest of an ePAPR hypervisor finds it: /hypervisor, and serial lines that are byte channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from powervisor.boards.board import ROOT, SERIAL, Board, Context, Nodes, Part
from powervisor.boards.devicetree import Node
from powervisor.devices.device import Device
from powervisor.errors import UserError
from powervisor.isa.epapr import INSTRUCTIONS
from powervisor.paravirt.byte_channel import ByteChannel
from powervisor.paravirt.doorbell import Doorbell
from powervisor.properties import choice, number, prop

DOORBELLS = 2
"""The most there can be."""
FIRST_CHANNEL, FIRST_DOORBELL = 1, 0x101
"""Handles; each has its own."""
EDGE_RISING, LEVEL_HIGH = 0, 2
"""How the guest is told of an interrupt's sense."""
HANDLES = "handles"
BYTE_CHANNEL, UART = "byte-channel", "uart"


@dataclass(frozen=True)
class BoardProperties:
    """What -M takes after the board's name."""

    hypervisor: bool = prop(False, "on: Powervisor is the guest's hypervisor (ePAPR; docs/paravirtualisation.md)")
    serial: str = prop("", "what -serial lines are; default byte-channel", choice(BYTE_CHANNEL, UART))
    doorbells: int | None = prop(None, "how many doorbells; default 1", number(0, DOORBELLS))


def configured(board: Board, properties: BoardProperties, where: str) -> Board:
    """The board with these properties. Raises UserError, beginning with `where`, when it cannot be had."""
    if not properties.hypervisor:
        if properties.serial or properties.doorbells is not None:
            name = "serial" if properties.serial else "doorbells"
            raise UserError(f"{where}: {name}= is of hypervisor=on; add that, or leave {name}= out")
        return board
    if board.virtual is None:
        raise UserError(f"{where}: {board.name} cannot have hypervisor=on; leave it out")
    doorbells = 1 if properties.doorbells is None else properties.doorbells
    parts = list(board.parts)
    handles = Part(name=HANDLES, node=HANDLES, under="hypervisor", compatible=("simple-bus",))
    added = [_hypervisor(board), handles]
    if properties.serial != UART:
        parts = [part for part in parts if not part.name.startswith(SERIAL)]
        levels = board.virtual.levels
        pairs = zip(levels[::2], levels[1::2], strict=True)
        added += [_channel(board, index, *pair) for index, pair in enumerate(pairs)]
    for index, source in enumerate(board.virtual.edges[:doorbells]):
        added += _doorbell(board, index, source)
    return board._replace(parts=(*parts, *added), hypercalls=True)


def has_uarts(board: Board) -> bool:
    """Whether -serial lines are UARTs, which every guest can use."""
    return any(part.name.startswith(SERIAL) and part.under != HANDLES for part in board.parts)


def _hypervisor(board: Board) -> Part:
    """`linux,kvm` because its call for features is answered; Linux looks into a `simple-bus` for devices."""
    return Part(
        name="hypervisor",
        node="hypervisor",
        under=ROOT,
        compatible=("epapr,hypervisor-1.1", "linux,kvm", "simple-bus"),
        properties={
            "hcall-instructions": INSTRUCTIONS,
            "guest-id": (0,),
            "guest-name": (board.name,),
            "has-idle": (),
            "has-msgsnd-hcall": (),
        },
    )


def _interrupts(parent: str, *sources: tuple[int, int]) -> Callable[[Node, Part, Nodes], None]:
    """What writes a node's interrupts: sources with their senses."""

    def describe(node: Node, part: Part, nodes: Nodes) -> None:
        node.set("interrupts", *(cell for source in sources for cell in source))
        node.set("interrupt-parent", nodes[parent])

    return describe


def _channel(board: Board, index: int, receive: int, transmit: int) -> Part:
    """Serial line `index`; first receive, then transmit."""
    name = f"{SERIAL}{index}"

    def make(context: Context, devices: dict[str, Device]) -> ByteChannel:
        return ByteChannel(name, FIRST_CHANNEL + index, console=name == board.stdout)

    return Part(
        name=name,
        make=make,
        pins={"rx": receive, "tx": transmit},
        node=f"byte-channel{index}",
        under=HANDLES,
        alias=name,
        described=lambda context: context.chardev(index) is not None,
        describe=_interrupts(board.interrupt_parent, (receive, LEVEL_HIGH), (transmit, LEVEL_HIGH)),
    )


def _doorbell(board: Board, index: int, source: int) -> list[Part]:
    """Both ends: a handle to send, an interrupt to receive."""

    def make(context: Context, devices: dict[str, Device]) -> Doorbell:
        return Doorbell(f"doorbell{index}", FIRST_DOORBELL + index)

    send = Part(name=f"doorbell{index}", make=make, pins={"irq": source}, node=f"send-doorbell{index}", under=HANDLES)
    receive = Part(
        name=f"receive-doorbell{index}",
        node=f"receive-doorbell{index}",
        under=HANDLES,
        compatible=("epapr,hv-receive-doorbell",),
        describe=_interrupts(board.interrupt_parent, (source, EDGE_RISING)),
    )
    return [send, receive]
