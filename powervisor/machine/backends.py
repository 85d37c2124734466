"""The host's side of a machine's devices: drives, directories and networks, opened from the words of their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..block.drives import Drive, Drives
    from ..devices.services import Services
    from ..fsdev.options import Exports
    from ..net.claims import Netdevs
    from ..net.netdev import Port
    from .lockstep import Lockstep


@dataclass(frozen=True)
class BackendOptions:
    """The words after the options of these names; what passes all networks is written to the file `pcap`."""

    drives: Sequence[str] = ()
    blockdevs: Sequence[str] = ()
    snapshot: bool = False
    fsdevs: Sequence[str] = ()
    virtfs: Sequence[str] = ()
    netdevs: Sequence[str] = ()
    objects: Sequence[str] = ()
    pcap: str | None = None


@dataclass
class Backends:
    """What is open; nothing is imported that a machine does not use."""

    drives: Drives | None = field(default=None, init=False)
    exports: Exports | None = field(default=None, init=False)
    netdevs: Netdevs | None = field(default=None, init=False)

    def open(
        self, options: BackendOptions, warn: Callable[[str], None] | None, lockstep: Lockstep | None = None
    ) -> None:
        """Open everything, for a deterministic machine if there is a `lockstep`. Raises UserError; `close` what is open
        then."""
        if options.drives or options.blockdevs:
            from ..block.drives import open_drives

            self.drives = open_drives(options.drives, options.blockdevs, options.snapshot)
        if options.fsdevs or options.virtfs:
            from ..fsdev.options import open_exports

            self.exports = open_exports(options.fsdevs, options.virtfs)
        if options.netdevs or options.objects or options.pcap is not None:
            from ..devices.services import warn_by_log
            from ..net.netdevs import open_netdevs

            words = options.netdevs, options.objects, options.pcap, warn or warn_by_log
            if lockstep is not None:
                self.netdevs = open_netdevs(*words, lockstep.cables.plug, lockstep.wall_clock_ns)
            else:
                self.netdevs = open_netdevs(*words)

    def __bool__(self) -> bool:
        """Whether anything is open."""
        return any(part is not None for part in (self.drives, self.exports, self.netdevs))

    def all_drives(self) -> list[Drive]:
        """The storage of disks."""
        return [] if self.drives is None else list(self.drives.by_name.values())

    def all_netdevs(self) -> list[Port]:
        """The networks."""
        return [] if self.netdevs is None else list(self.netdevs.by_name.values())

    def lend(self, services: Services) -> None:
        """Let devices that are plugged in find them."""
        if self.drives is not None:
            services.drives = self.drives
        if self.exports is not None:
            services.exports = self.exports
        if self.netdevs is not None:
            services.netdevs = self.netdevs

    def close_networks(self) -> None:
        """Before devices are closed: threads of netdevs store in guest memory."""
        if self.netdevs is not None:
            self.netdevs.close()

    def close(self) -> None:
        """After devices are closed: everything else."""
        if self.drives is not None:
            self.drives.close()
        if self.exports is not None:
            self.exports.close()
