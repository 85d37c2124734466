"""The version that clients see."""

from __future__ import annotations

from .. import __version__
from .types import struct


@struct
class QemuVersion:
    """The version of QEMU whose protocol this is."""

    major: int
    minor: int
    micro: int


@struct
class VersionInfo:
    """A version."""

    qemu: QemuVersion
    package: str


VERSION = VersionInfo(qemu=QemuVersion(major=7, minor=2, micro=0), package=f"powervisor {__version__}")
