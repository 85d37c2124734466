"""The networks of a machine by name, and which device is in front of each."""

from __future__ import annotations

from collections.abc import Sequence

from powervisor.errors import UserError, argument
from powervisor.net.capture import Capture
from powervisor.net.netdev import Nic, Port
from powervisor.properties import check_free, check_known

_DEFAULT_MAC = 0x52_54_00_12_34_56


class Netdevs:
    """All networks of a machine by name, and the addresses of its network devices."""

    def __init__(self) -> None:
        self.by_name: dict[str, Port] = {}
        self._captures: list[Capture] = []
        self._macs: set[int] = set()

    def claim(self, name: str, device: str, where: str, nic: Nic) -> Port:
        """The netdev `name` for `device`, which becomes its only user. Raises UserError, beginning with `where`."""
        check_known(self.by_name, "netdev", name, where, f"add {argument('netdevs')} user,id={name}")
        netdev = self.by_name[name]
        check_free("netdev", name, where, netdev.device)
        netdev.device, netdev.nic = device, nic
        return netdev

    def mac(self, chosen: bytes | None) -> bytes:
        """A device's address: the chosen one, or QEMU's first that no device has."""
        if chosen is None:
            free = _DEFAULT_MAC
            while free in self._macs:
                free += 1
            chosen = free.to_bytes(6, "big")
        self._macs.add(int.from_bytes(chosen, "big"))
        return chosen

    def check_used(self) -> None:
        """Raise UserError for a netdev that no device uses."""
        for netdev in self.by_name.values():
            if not netdev.device:
                device = f"{argument('devices')} virtio-net-pci,netdev={netdev.name}"
                raise UserError(f"{netdev.where}: no device uses it; add {device}")

    def capture(self, names: Sequence[str], capture: Capture) -> None:
        """Record what passes these netdevs, from now on."""
        self._captures.append(capture)
        for name in names:
            self.by_name[name].captures.append(capture)

    def start(self) -> None:
        """Let frames in."""
        for netdev in self.by_name.values():
            netdev.start()

    def close(self) -> None:
        """Let go of the host. Not under the machine's lock; devices need not be closed before."""
        for netdev in self.by_name.values():
            netdev.close()
        for capture in self._captures:
            capture.close()
