"""The guest's memory: balloon, sizes, dumps."""

from __future__ import annotations

from typing import Annotated, Literal

from ...devices.virtio.balloon import VirtioBalloon
from ..channel import open_channel
from ..command import Waiting, command
from ..errors import DeviceNotActive, QmpError
from ..events import DumpProgress
from ..session import Session
from ..types import struct

_PAGE = 4096


@struct
class BalloonInfo:
    """The balloon."""

    actual: Annotated[int, "bytes of RAM that the guest has now"]


@struct
class MemoryInfo:
    """Bytes of RAM."""

    base_memory: int
    plugged_memory: Annotated[int, "always 0"]


@struct
class DumpCapability:
    """Formats of dumps."""

    formats: list[Literal["elf"]]


def _balloon(session: Session) -> VirtioBalloon:
    balloon = session.manager.balloon
    if balloon is None:
        raise DeviceNotActive("the machine has no balloon; it needs -device virtio-balloon-pci")
    return balloon


@command("query-balloon")
def query_balloon(session: Session) -> BalloonInfo:
    """How much memory the guest has."""
    return BalloonInfo(actual=_balloon(session).memory)


@command("balloon")
def balloon(session: Session, *, value: Annotated[int, "bytes of RAM that the guest should make do with"]) -> None:
    """Ask the guest's driver to give memory back, or let it have memory again; BALLOON_CHANGE tells when it does."""
    _balloon(session).target = value


@command("query-memory-size-summary")
def query_memory_size_summary(session: Session) -> MemoryInfo:
    """How much RAM the machine has."""
    return MemoryInfo(base_memory=session.manager.machine.ram.size, plugged_memory=0)


@command("dump-guest-memory")
def dump_guest_memory(
    session: Session,
    *,
    paging: Annotated[bool, "RAM is where the TLBs of cpu0 show it, not at its physical addresses"],
    protocol: Annotated[str, "fd:NAME (see getfd) or file:PATH"],
    detach: Annotated[bool, "answer at once; DUMP_COMPLETED tells of the end"] = False,
    begin: Annotated[int | None, "the first physical address; with `length`"] = None,
    length: Annotated[int | None, "bytes; with `begin`"] = None,
    format: Annotated[Literal["elf"] | None, "an ELF core"] = None,
) -> None:
    """Write the machine's memory as it is now, with the registers of each vCPU, for gdb; crash reads dumps only of the
    architecture it was built for, in Debian the host's. The guest stands still for a moment only."""
    manager = session.manager
    if manager.dump.running:
        raise QmpError("a dump is under way already; query-dump tells how far it is")
    size = manager.machine.ram.size
    if (begin is None) != (length is None):
        raise QmpError("dump-guest-memory: begin and length need each other; give both or none")
    start = 0 if begin is None else begin
    count = size if length is None else length
    if not 0 <= start < size or not 0 < count <= size - start or start % _PAGE:
        raise QmpError(f"dump-guest-memory: RAM is 0 to 0x{size:x}, and begin is where a page of {_PAGE} bytes begins")
    channel = open_channel(session, protocol, writing=True)
    try:
        wait = manager.dump.begin(channel, start, count, paging, detach)
    except BaseException:
        channel.close()
        raise
    return None if detach else Waiting(wait)  # type: ignore[return-value]


@command("query-dump")
def query_dump(session: Session) -> DumpProgress:
    """How far the last dump is."""
    return session.manager.dump.progress


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability(session: Session) -> DumpCapability:
    """Formats that dumps can have."""
    return DumpCapability(formats=["elf"])
