"""The 9P transport (device type 9 of virtio): a directory of the host, by the name of its mount tag."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from powervisor.devices.services import Services
from powervisor.devices.virtio.device import RequestDevice
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import Chain, RingError
from powervisor.errors import UserError, argument
from powervisor.fsdev.server import Server, Unanswerable
from powervisor.properties import prop

MOUNT_TAG = 1 << 0
"""Feature."""
_LONGEST_TAG = 31
_QUEUE_SIZE = 128


@dataclass(frozen=True)
class NinepOptions(VirtioPciOptions):
    """Properties of virtio-9p-pci."""

    fsdev: str = prop("", "the id of a -fsdev", required=True)
    mount_tag: str = prop("", "what the guest mounts it by", required=True, name="mount_tag")


class VirtioNinep(RequestDevice):
    """Carries messages between the driver and a server; one at a time."""

    kind = 9

    def __init__(self, name: str, services: Services, tag: bytes, server: Server, features: int) -> None:
        self.server, self._tag = server, tag
        super().__init__(name, services, (_QUEUE_SIZE,), MOUNT_TAG | features)

    def configuration(self, order: str) -> bytes:
        """The mount tag."""
        return struct.pack(order + "H", len(self._tag)) + self._tag

    def _settle(self) -> None:
        self.server.reset()  # under the lock that keeps the worker out; handles are not saved

    def unsaved(self) -> str:
        """The driver's handles of files, which are the host's."""
        return "it has the directory mounted; unmount it before" if self.server.fids else ""

    def handle(self, queue: Queue, chain: Chain) -> int:
        """One message."""
        try:
            return self.server.answer(chain.readable, chain.writable)
        except Unanswerable as error:
            raise RingError(str(error)) from None


class VirtioNinepPci(VirtioPci):
    """The 9P transport on PCI."""

    model = "virtio-9p-pci"
    summary = "a directory of the host"
    options_type = NinepOptions
    class_code = 0x000200

    def __init__(self, name: str, options: Any, services: Services) -> None:
        where, tag = f"{argument('devices')} {self.model}", options.mount_tag.encode()
        if len(tag) > _LONGEST_TAG:
            raise UserError(f"{where}: mount_tag={options.mount_tag} is too long; write at most {_LONGEST_TAG} bytes")
        server = services.exports.claim(options.fsdev, where)
        super().__init__(name, options, services, VirtioNinep(name, services, tag, server, options.features()))
