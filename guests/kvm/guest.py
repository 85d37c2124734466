"""The RAM disks of guests by name: a Linux whose KVM boots another one on its console."""

from pathlib import Path

from powervisor.guests import catalogue
from powervisor.guests.kvm import ram_disk, vmm
from powervisor.guests.progress import Progress
from powervisor.isa import cores

_CPUS = 2


def parts(outer: str) -> list[catalogue.Artifact]:
    """What the RAM disk of a Linux guest is made of."""
    guest = catalogue.get(outer)
    return [vmm.artifact(cores.get(guest.options["cpu"]).bits), *guest.files.values()]


def installed(outer: str) -> Path | None:
    """No system package has it."""
    return None


def build(outer: str, path: Path, work: Path, progress: Progress) -> None:
    """Pack it: both guests are the same Linux, and the inner one ends in a shell too. Raises UserError."""
    progress.step("packing")
    path.write_bytes(ram_disk.build(outer, ram_disk.Inner(outer, cpus=_CPUS, append=ram_disk.WORDS)))
