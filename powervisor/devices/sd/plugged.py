"""SD memory cards that a user can plug in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from powervisor.devices.host_errors import HostErrors
from powervisor.devices.sd import identity
from powervisor.devices.sd.card import SdCard
from powervisor.devices.services import Services
from powervisor.errors import UserError, argument
from powervisor.properties import prop


@dataclass(frozen=True)
class SdCardOptions:
    """Properties of sd-card."""

    id: str = prop("", "its name in messages and statistics")
    bus: str = prop("sd-bus", "the slot it sits in")
    drive: str = prop("", "the -drive's id or the -blockdev's node-name", required=True)


class PluggedSdCard(SdCard):
    """A card on a drive: SDSC up to 2 GiB, SDHC above."""

    model = "sd-card"
    summary = "an SD memory card"
    options_type = SdCardOptions

    def __init__(self, name: str, options: Any, services: Services) -> None:
        """`options` are SdCardOptions. Raises UserError for a drive that no card can be like."""
        where = f"{argument('devices')} {self.model}"
        drive = services.drives.claim(options.drive, where)
        size = drive.backend.size
        if size > identity.MOST_BYTES:
            raise UserError(f"{drive.where}: {size} bytes are more than an SD card has; write at most 2T")
        if (fitting := identity.next_size(size)) != size:
            remedy = f"make it {fitting} (truncate -s {fitting} FILE)"
            raise UserError(f"{drive.where}: no SD card has {size} bytes; {remedy}")
        drive.device = name
        self.services, self.host_errors = services, HostErrors(services, name, drive)
        super().__init__(name, drive.backend)
