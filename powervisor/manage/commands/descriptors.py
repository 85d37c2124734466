"""File descriptors that clients hand over."""

from __future__ import annotations

import os
from typing import Annotated

from ..command import command
from ..errors import QmpError
from ..session import Session
from ..types import struct


@struct
class AddfdInfo:
    """Where a descriptor went."""

    fdset_id: int
    fd: Annotated[int, "our number of it"]


@struct
class FdsetFdInfo:
    """A descriptor."""

    fd: int
    opaque: str | None = None


@struct
class FdsetInfo:
    """A set."""

    fdset_id: int
    fds: list[FdsetFdInfo]


@command("getfd")
def getfd(session: Session, *, fdname: Annotated[str, "no number; the client's that has it is closed"]) -> None:
    """Give the descriptor that came with the command (SCM_RIGHTS) a name, which others of this client use once:
    fd:NAME. What has not been used when the client leaves is closed."""
    if not fdname or fdname[0].isdecimal():
        raise QmpError(f"getfd: {fdname!r} is no name; begin it with a letter")
    session.descriptors.name(fdname)


@command("closefd")
def closefd(session: Session, *, fdname: str) -> None:
    """Close one that has a name."""
    os.close(session.descriptors.take(fdname))


@command("add-fd")
def add_fd(
    session: Session,
    *,
    fdset_id: Annotated[int | None, "default: a new set"] = None,
    opaque: Annotated[str | None, "a note, which query-fdsets tells"] = None,
) -> AddfdInfo:
    """Put the descriptor that came with the command into a set; file:/dev/fdset/N stands for it, for all clients."""
    if fdset_id is not None and fdset_id < 0:
        raise QmpError("add-fd: fdset-id is 0 or more")
    fd = session.descriptors.pending()
    return AddfdInfo(fdset_id=session.manager.fd_sets.add(fd, fdset_id, opaque), fd=fd)


@command("remove-fd")
def remove_fd(session: Session, *, fdset_id: int, fd: Annotated[int | None, "default: all of the set"] = None) -> None:
    """Close descriptors of a set."""
    session.manager.fd_sets.remove(fdset_id, fd)


@command("query-fdsets")
def query_fdsets(session: Session) -> list[FdsetInfo]:
    """All sets."""
    return [
        FdsetInfo(fdset_id=number, fds=[FdsetFdInfo(fd=one.fd, opaque=one.opaque) for one in found])
        for number, found in sorted(session.manager.fd_sets.sets.items())
    ]
