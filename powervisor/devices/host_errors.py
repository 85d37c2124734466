"""What the host refuses to a guest's storage: told to the user once for each device."""

from __future__ import annotations

from powervisor.block.drives import Drive
from powervisor.devices.services import Services


class HostErrors:
    """Tells failures of `drive`, which the device `name` uses."""

    def __init__(self, services: Services, name: str, drive: Drive) -> None:
        self._warn, self._where = services.warn, f"{name}: {drive.where}"
        self._told = False

    def tell(self, what: str, error: OSError) -> None:
        """`what` ("read", "write") failed, which the guest has been told too."""
        if not self._told:
            self._told = True
            why = f"{what} failed ({error.strerror}), and the guest got an I/O error; further ones are not told"
            self._warn(f"{self._where}: {why}")
