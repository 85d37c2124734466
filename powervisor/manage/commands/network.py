"""Networks."""

from __future__ import annotations

from typing import Annotated, Literal

from ...devices.virtio import net
from ..command import command
from ..errors import DeviceNotFound, QmpError
from ..session import Session
from ..types import struct

RxState = Literal["normal", "all", "none"]


@struct
class NetdevInfo:
    """A -netdev and the device in front of it."""

    id: str
    type: Annotated[str, "the word after -netdev"]
    device: str
    link_up: bool


@struct
class RxFilterInfo:
    """What a network device receives."""

    name: str
    promiscuous: bool
    multicast: RxState
    unicast: RxState
    vlan: RxState
    broadcast_allowed: bool
    multicast_overflow: bool
    unicast_overflow: bool
    main_mac: str
    vlan_table: list[int]
    unicast_table: list[str]
    multicast_table: list[str]


@command("set_link")
def set_link(
    session: Session,
    *,
    name: Annotated[str, "a netdev's id, or the id of the device in front of it"],
    up: Annotated[bool, "whether the cable is plugged in"],
) -> None:
    """Plug in or pull out a network cable."""
    for netdev in session.manager.machine.backends.all_netdevs():
        if name in (netdev.name, netdev.device):
            netdev.set_link(up)
            return
    raise DeviceNotFound(f"set_link: no netdev and no device of one is called {name!r}")


@command("x-query-netdevs")
def query_netdevs(session: Session) -> list[NetdevInfo]:
    """All networks, and whether the link is up. Not in QEMU."""
    return [
        NetdevInfo(id=netdev.name, type=netdev.kind, device=netdev.device, link_up=netdev.link_up)
        for netdev in session.manager.machine.backends.all_netdevs()
    ]


@command("query-rx-filter")
def query_rx_filter(session: Session, *, name: Annotated[str | None, "this device only"] = None) -> list[RxFilterInfo]:
    """What virtio-net devices receive, as their drivers say."""
    machine = session.manager.machine
    found = [device for device in machine.built.everything() if isinstance(device, net.VirtioNet)]
    if name is not None:
        if name not in {netdev.device for netdev in machine.backends.all_netdevs()}:
            raise DeviceNotFound(f"query-rx-filter: no network device is called {name!r}")
        found = [device for device in found if device.name == name]
        if not found:
            raise QmpError(f"query-rx-filter: {name} is no virtio-net-pci, the others do not tell")
    with machine.lock:
        return [_filter(device) for device in found]


def _filter(device: net.VirtioNet) -> RxFilterInfo:
    modes = device.modes
    vlans = [n for n in range(8 * len(device.vlans)) if device.vlans[n // 8] >> n % 8 & 1]
    filtering = bool(device.has(net.CTRL_VLAN))
    return RxFilterInfo(
        name=device.name, promiscuous=bool(modes & net.PROMISCUOUS),
        multicast=_state(modes, net.ALL_MULTICAST, net.NO_MULTICAST),
        unicast=_state(modes, net.ALL_UNICAST, net.NO_UNICAST),
        vlan="normal" if filtering else "all", broadcast_allowed=not modes & net.NO_BROADCAST,
        multicast_overflow=bool(modes & net.MORE_MULTICAST), unicast_overflow=bool(modes & net.MORE_UNICAST),
        main_mac=_shown(device.mac), vlan_table=vlans if filtering else [],
        unicast_table=_addresses(device.unicast), multicast_table=_addresses(device.multicast),
    )  # fmt: skip


def _state(modes: int, every: int, none: int) -> RxState:
    return "none" if modes & none else "all" if modes & every else "normal"


def _shown(mac: bytes) -> str:
    return mac.hex(":")


def _addresses(group: bytes) -> list[str]:
    return [_shown(group[at : at + 6]) for at in range(0, len(group), 6)]
