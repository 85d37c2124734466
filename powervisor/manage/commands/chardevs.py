"""Chardevs: the host's ends of serial lines."""

from __future__ import annotations

from typing import Annotated

from ...console.chardev import Chardev
from ...console.files import File, Null, Pty
from ...console.recorder import Recorder
from ...console.sockets import SocketServer
from ..command import command
from ..session import Session
from ..types import struct


@struct
class ChardevInfo:
    """A chardev."""

    label: Annotated[str, "its id; serialN for the N-th -serial without one"]
    filename: Annotated[str, "what it is, and where: pty:/dev/pts/3"]
    frontend_open: Annotated[bool, "whether something of the machine listens: to a virtserialport's, a program"]


@struct
class ChardevBackendInfo:
    """A kind of chardev."""

    name: str


@command("query-chardev")
def query_chardev(session: Session) -> list[ChardevInfo]:
    """All chardevs."""
    silent = {
        port.options.chardev
        for serial in session.manager.serials
        for number, port in serial.ports.items()
        if not port.console and not serial.opened[number]
    }
    chardevs = session.manager.identity.chardevs.items()
    return [
        ChardevInfo(label=label, filename=_filename(chardev), frontend_open=label not in silent)
        for label, chardev in chardevs
    ]


@command("query-chardev-backends")
def query_chardev_backends(session: Session) -> list[ChardevBackendInfo]:
    """All kinds."""
    from ...console.named import KINDS

    return [ChardevBackendInfo(name=name) for name in KINDS]


def _filename(chardev: Chardev) -> str:
    """In QEMU's words."""
    if isinstance(chardev, Recorder):
        return "recorder" if chardev.inner is None else _filename(chardev.inner)
    if isinstance(chardev, SocketServer):
        return f"{'' if chardev.connected else 'disconnected:'}{chardev.announcement},server=on"
    if isinstance(chardev, Pty):
        return f"pty:{chardev.announcement}"
    kinds = ((File, "file"), (Null, "null"))
    return next((name for kind, name in kinds if isinstance(chardev, kind)), "stdio")
