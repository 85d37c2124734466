"""Snapshots of machines in files and streams: what is in the sections and the header of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..boot.loader import BootPlan, EntryState
from ..errors import UserError
from ..hv.saved import layout_text
from ..memory.contents import Base, Contents
from ..snapshots import file
from ..snapshots.file import Progress

if TYPE_CHECKING:
    from ..block.drives import Moment
    from .snapshot import Snapshot

Path = str | os.PathLike[str]
_LAYOUT = sha256(layout_text().encode()).hexdigest()[:16]
MEMORY, BLOBS, DISK = "memory", "boot", "disk:"


class Source(Protocol):
    """What has a header and sections: a file, or a stream, where sections come in the order of `parts`."""

    @property
    def header(self) -> dict[str, Any]:
        """Plain values."""

    def read(self, section: str, store: Callable[[int, bytes], object], progress: Progress | None = None) -> None:
        """Have each piece of a section stored. Raises UserError for a damage."""


def save(snapshot: Snapshot, path: Path, progress: Progress | None) -> None:
    """As `Snapshot.save`."""
    file.write(path, *parts(snapshot), progress)


def parts(snapshot: Snapshot) -> tuple[dict[str, Any], dict[str, file.Pieces]]:
    """Header and sections of a snapshot."""
    plan = snapshot.plan
    starts, blobs = [], []
    at = 0
    for pa, data in plan.blobs:
        starts.append((pa, at, len(data)))
        blobs += [(at + n, bytes(data[n : n + file.CHUNK])) for n in range(0, len(data), file.CHUNK)]
        at += len(data)
    header = {
        "powervisor": __version__, "layout": _LAYOUT, "taken": snapshot.taken, "options": snapshot.options,
        "state": snapshot.state,
        "disks": {name: (d.size, d.stamp, d.safe, d.changes is not None) for name, d in snapshot.disks.items()},
        "plan": {
            "blobs": starts, "zeros": plan.zeros, "placed": plan.placed, "device-tree": plan.device_tree,
            "entries": [(cpu, e.pc, list(e.gpr.items()), e.map_size) for cpu, e in plan.entries.items()],
        },
    }  # fmt: skip
    sections: dict[str, file.Pieces] = {MEMORY: snapshot.memory.pieces(file.CHUNK), BLOBS: blobs}
    for name, disk in snapshot.disks.items():
        if disk.changes is not None:
            sections[DISK + name] = disk.changes.pieces()
    return header, sections


def load(path: Path, progress: Progress | None) -> Snapshot:
    """As `Snapshot.load`."""
    return build(file.read(path), path, progress)


def build(found: Source, where: Path, progress: Progress | None = None) -> Snapshot:
    """The snapshot whose `parts` these are. Raises UserError, beginning with `where`."""
    from .snapshot import Snapshot

    header = found.header
    try:
        if header["layout"] != _LAYOUT:
            raise UserError(
                f"{os.fspath(where)}: a snapshot of Powervisor {header['powervisor']}, whose vCPUs have other fields "
                f"than those of this one ({__version__}); restore it with the one that took it"
            )
        options = header["options"]
        base = Base(options["memory"])
        found.read(MEMORY, _bounded(base), progress)
        plan = _plan(found)
        disks = {name: _disk(found, name, *values) for name, values in header["disks"].items()}
        return Snapshot(options, header["state"], Contents(base), plan, disks, header["taken"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise file.damaged(where, f"{type(error).__name__} in its header") from None


def _bounded(base: Base) -> Callable[[int, bytes], None]:
    def store(offset: int, data: bytes) -> None:
        if offset + len(data) > base.size:
            raise ValueError(f"RAM at {offset:#x}")
        base.write(offset, data)

    return store


def _disk(found: Source, name: str, size: int, stamp: list[int] | None, safe: bool, changed: bool) -> Moment:
    from ..block.drives import Moment
    from ..block.overlay import Changes

    changes = Changes.empty(size) if changed else None
    if changes is not None:
        found.read(DISK + name, changes.put)
    return Moment(size, (stamp[0], stamp[1]) if stamp else None, safe, changes)


def _plan(found: Source) -> BootPlan:
    kept = found.header["plan"]
    parts: dict[int, bytes] = {}
    found.read(BLOBS, parts.__setitem__)
    lying = b"".join(parts[at] for at in sorted(parts))
    plan = BootPlan()
    plan.blobs = [(pa, lying[at : at + length]) for pa, at, length in kept["blobs"]]
    plan.zeros = [(pa, length) for pa, length in kept["zeros"]]
    plan.placed = [(what, pa, size) for what, pa, size in kept["placed"]]
    plan.device_tree = kept["device-tree"]
    plan.entries = {cpu: EntryState(pc, dict(gpr), size) for cpu, pc, gpr, size in kept["entries"]}
    return plan


def describe(path: Path) -> dict[str, Any]:
    """What a file holds, for people, by name. Raises UserError as `load`."""
    found = file.read(path)
    options = found.header["options"]
    return {
        "taken": found.header["taken"], "powervisor": found.header["powervisor"], "options": options,
        "guest-seconds": found.header["state"]["guest-ns"] / 1e9,
        "devices": [name for name, _, _ in found.header["state"]["devices"]],
        "file-bytes": found.size, "sections": found.sections,
    }  # fmt: skip
