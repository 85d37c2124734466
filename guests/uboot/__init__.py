"""U-Boot for the ppce500 board, as Debian packages it (u-boot-qemu)."""

import shutil
from pathlib import Path

from powervisor.guests import debian
from powervisor.guests.progress import Progress

PACKAGE = "u-boot-qemu"
_DIRECTORY = "usr/lib/u-boot/qemu-ppce500"


def installed(name: str) -> Path | None:
    """The file of the installed package, if it is."""
    path = Path("/", _DIRECTORY, name)
    return path if path.is_file() else None


def build(name: str, path: Path, work: Path, progress: Progress) -> None:
    """Take the file out of the downloaded package; nothing is installed. Raises UserError."""
    progress.step(f"downloading {PACKAGE}")
    package = next(file for file in debian.download(PACKAGE, work) if file.suffix == ".deb")
    unpacked = work / "uboot"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        debian.extract(package, unpacked)
        shutil.copyfile(unpacked / _DIRECTORY / name, path)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
