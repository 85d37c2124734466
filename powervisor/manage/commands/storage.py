"""Disks."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from ...block.drives import Drive
from ...block.overlay import Overlay
from ..command import command
from ..session import Session
from ..types import struct
from .protocol import Name


@struct
class ImageInfo:
    """An image."""

    filename: str
    format: str
    virtual_size: Annotated[int, "bytes that the guest sees"]
    actual_size: Annotated[int | None, "bytes that the host has for it, of a file"] = None


@struct
class BlockCache:
    """How writes become stable."""

    writeback: bool
    direct: Annotated[bool, "always false"]
    no_flush: bool


@struct(underscores="backing_file_depth")
class BlockNode:
    """Storage."""

    node_name: str
    drv: Annotated[str, "its format, or file or nbd"]
    file: str
    ro: bool
    encrypted: Annotated[bool, "always false"]
    backing_file_depth: Annotated[int, "1 where the image stays as it is (snapshot mode)"]
    cache: BlockCache
    image: ImageInfo


@struct
class BlockInfo:
    """A device for disks, and what is in it."""

    device: Annotated[str, "the -drive's id; empty for -blockdev, as everywhere"]
    qdev: Annotated[str, "the device's place in the tree of objects"]
    type: Literal["unknown"]
    removable: bool
    locked: bool
    io_status: Annotated[Literal["ok"], "errors of the host are the guest's, and do not stop it"]
    inserted: BlockNode


@struct(underscores="rd_bytes wr_bytes rd_operations wr_operations flush_operations unmap_operations failed_operations")
class BlockDeviceStats:
    """What a device has asked for since the machine began."""

    rd_bytes: int
    wr_bytes: int
    rd_operations: int
    wr_operations: int
    flush_operations: int
    unmap_operations: Annotated[int, "discards and zeros"]
    failed_operations: Annotated[int, "those that the host refused"]


@struct
class BlockStats:
    """Counts of a device."""

    device: str
    node_name: str
    qdev: str
    stats: BlockDeviceStats


def _node(drive: Drive) -> BlockNode:
    storage, backend = drive.storage, drive.backend
    name = "" if storage is None else storage.file
    drive_format = "raw" if storage is None else storage.format or "raw"
    cache = BlockCache(
        writeback=storage is None or storage.cache != "writethrough", direct=False,
        no_flush=storage is not None and storage.cache == "unsafe",
    )  # fmt: skip
    actual = os.stat(name).st_blocks * 512 if os.path.isfile(name) else None
    return BlockNode(
        node_name=drive.name, drv=drive_format, file=name, ro=backend.read_only, encrypted=False,
        backing_file_depth=int(isinstance(backend, Overlay)), cache=cache,
        image=ImageInfo(filename=name, format=drive_format, virtual_size=backend.size, actual_size=actual),
    )  # fmt: skip


def _id(drive: Drive) -> str:
    return "" if drive.node else drive.name


def _qdev(drive: Drive) -> str:
    where = "peripheral-anon" if "@" in drive.device else "peripheral"
    return f"/machine/{where}/{drive.device}" + ("" if drive.counts is None else "/virtio-backend")


@command("query-block")
def query_block(session: Session) -> list[BlockInfo]:
    """All devices for disks: virtio, SD cards, flash, EEPROMs."""
    return [
        BlockInfo(
            device=_id(drive), qdev=_qdev(drive), type="unknown", removable=False, locked=False, io_status="ok",
            inserted=_node(drive),
        )
        for drive in session.manager.machine.drives
    ]  # fmt: skip


@command("query-named-block-nodes")
def query_named_block_nodes(
    session: Session, *, flat: Annotated[bool, "without what they are made of, which is never told"] = False
) -> list[BlockNode]:
    """All storage; a format and the file it is in are one node."""
    return [_node(drive) for drive in session.manager.machine.drives]


@command("query-blockstats")
def query_blockstats(
    session: Session, *, query_nodes: Annotated[bool, "the same: each device has one node"] = False
) -> list[BlockStats]:
    """What devices have asked of their storage. Only virtio-blk-pci counts; others are left out."""
    return [
        BlockStats(
            device=_id(drive), node_name=drive.name, qdev=_qdev(drive),
            stats=BlockDeviceStats(
                rd_bytes=counts.read_bytes, wr_bytes=counts.write_bytes, rd_operations=counts.reads,
                wr_operations=counts.writes, flush_operations=counts.flushes, unmap_operations=counts.discards,
                failed_operations=counts.failures,
            ),
        )
        for drive in session.manager.machine.drives
        if (counts := drive.counts) is not None
    ]  # fmt: skip


@command("query-jobs")
def query_jobs(session: Session) -> list[Name]:
    """Work on images that goes on in the background: none is ever under way."""
    return []


@command("query-block-jobs")
def query_block_jobs(session: Session) -> list[Name]:
    """As query-jobs."""
    return []
