"""-drive and -blockdev: what a user says of a disk's storage, and opening it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from powervisor.block.backend import Backend
from powervisor.block.file import RawFile
from powervisor.block.locks import lock
from powervisor.block.overlay import Overlay, nameless
from powervisor.errors import UserError, argument
from powervisor.properties import build, choice, number, pairs, prop

VIRTIO, NONE = "virtio", "none"
_CACHE = choice("writeback", "writethrough", "unsafe")
_DISCARD = choice("ignore", "off", "unmap", "on")
_MAGIC = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vpc",
    b"# Disk DescriptorFile": "vmdk",
}
"""How images that are not raw begin."""


@dataclass(frozen=True)
class Storage:
    """What -drive and -blockdev both come to; `where` is the option, for messages."""

    where: str
    file: str
    read_only: bool = False
    snapshot: bool = False
    cache: str = "writeback"
    discard: str = "ignore"
    locking: bool = True
    probe: bool = True
    """Whether the user left open that the image is raw."""


@dataclass(frozen=True)
class DriveOptions:
    """-drive."""

    file: str = prop("", "the image: a file or block device", required=True)
    interface: str = prop(VIRTIO, "a virtio-blk-pci for it, or none: -device names it", choice(VIRTIO, NONE), name="if")
    id: str = prop("", "its name, for -device")
    format: str = prop("", "raw; other formats are refused", choice("raw"))
    media: str = prop("disk", "what it stands for", choice("disk"))
    index: int | None = prop(None, "its place among the drives", number(0, 255))
    readonly: bool = prop(False, "the guest cannot write")
    read_only: bool = prop(False, "the same")
    snapshot: bool = prop(False, "what the guest writes is gone with the machine")
    cache: str = prop("writeback", "whether writes are stable at the guest's flush, at once, or never", _CACHE)
    discard: str = prop("ignore", "unmap: what the guest discards becomes holes", _DISCARD)
    locking: bool = prop(True, "refuse an image that another machine uses", name="file.locking")


@dataclass(frozen=True)
class BlockdevOptions:
    """-blockdev."""

    node_name: str = prop("", "its name, for -device", required=True)
    driver: str = prop(
        "", "raw on top of a file, or a file as it is", choice("raw", "file", "host_device"), required=True
    )
    filename: str = prop("", "the image, of file and host_device")
    file: str = prop("", "of raw: the node-name of its file")
    file_driver: str = prop("", "of raw: what its file is", choice("file", "host_device"), name="file.driver")
    file_filename: str = prop("", "of raw: the image", name="file.filename")
    read_only: bool = prop(False, "the guest cannot write")
    discard: str = prop("ignore", "unmap: what the guest discards becomes holes", _DISCARD)
    no_flush: bool = prop(False, "writes are never made stable", name="cache.no-flush")
    locking: bool = prop(True, "of a file: refuse an image that another machine uses")


class Drive:
    """Open storage with a name; `device` is who uses it."""

    def __init__(self, name: str, where: str, backend: Backend) -> None:
        self.name, self.where, self.backend = name, where, backend
        self.device = ""


class Drives:
    """All drives of a machine by name; `devices` are the words after -device for those that bring their own."""

    def __init__(self) -> None:
        self.by_name: dict[str, Drive] = {}
        self.devices: list[str] = []

    def claim(self, name: str, device: str) -> Drive:
        """The drive `name` for a device, which becomes its only user. Raises UserError, beginning with the device."""
        drive = self.by_name.get(name)
        if drive is None:
            there = ", ".join(self.by_name) or f"none; add {argument('drives')} file=FILE,if=none,id={name}"
            raise UserError(f"{device}: drive={name}: no such drive; there is {there}")
        if drive.device:
            raise UserError(f"{device}: drive={name} is used by {drive.device}; give each device a drive of its own")
        drive.device = device
        return drive

    def check_used(self) -> None:
        """Raise UserError for a drive that no device uses."""
        for drive in self.by_name.values():
            if not drive.device:
                device = f"{argument('devices')} virtio-blk-pci,drive={drive.name}"
                raise UserError(f"{drive.where}: no device uses it; add {device}")

    def close(self) -> None:
        """Close everything."""
        for drive in self.by_name.values():
            drive.backend.close()


def open_drives(drives: Sequence[str], blockdevs: Sequence[str] = (), snapshot: bool = False) -> Drives:
    """Open what -drive and -blockdev say; `snapshot` is for all. Raises UserError, with nothing left open."""
    found = Drives()
    try:
        for name, storage, interface in [*_drives(drives), *_blockdevs(blockdevs)]:
            if name in found.by_name:
                raise UserError(f"{storage.where}: the name {name} is taken; give each drive its own")
            found.by_name[name] = Drive(name, storage.where, _open(storage, snapshot))
            if interface == VIRTIO:
                found.devices.append(f"virtio-blk-pci,drive={name.replace(',', ',,')}")
    except BaseException:
        found.close()
        raise
    return found


def check(drives: Sequence[str], blockdevs: Sequence[str] = ()) -> None:
    """Raise UserError for words that are wrong, without opening anything."""
    for _ in [*_drives(drives), *_blockdevs(blockdevs)]:
        pass


def _drives(texts: Sequence[str]) -> list[tuple[str, Storage, str]]:
    option = argument("drives")
    found = []
    for text in texts:
        given = build(DriveOptions, pairs(text, f"{option} {text}"), f"{option} {text}")
        storage = Storage(
            f"{option} file={given.file}", given.file, given.readonly or given.read_only, given.snapshot, given.cache,
            given.discard, given.locking, given.format != "raw",
        )  # fmt: skip
        found.append((given, storage))
    found.sort(key=lambda one: 256 if one[0].index is None else one[0].index)
    names = {given.id for given, _ in found}
    numbered = (name for n in range(2 * len(found)) if (name := f"virtio{n}") not in names)
    return [(given.id or next(numbered), storage, given.interface) for given, storage in found]


def _blockdevs(texts: Sequence[str]) -> list[tuple[str, Storage, str]]:
    option = argument("blockdevs")
    nodes: dict[str, BlockdevOptions] = {}
    for text in texts:
        given = build(BlockdevOptions, pairs(text, f"{option} {text}"), f"{option} {text}")
        if given.node_name in nodes:
            raise UserError(f"{option} {text}: node-name={given.node_name} is taken; give each its own")
        nodes[given.node_name] = given
    below = {given.file for given in nodes.values()}
    return [(name, _storage(given, nodes, option), NONE) for name, given in nodes.items() if name not in below]


def _storage(given: BlockdevOptions, nodes: dict[str, BlockdevOptions], option: str) -> Storage:
    where = f"{option} node-name={given.node_name}"
    file, name = given, given.filename
    if given.driver == "raw":
        if given.file:
            if given.file not in nodes or nodes[given.file].driver == "raw":
                raise UserError(
                    f"{where}: file={given.file} is no -blockdev of driver=file; add one, or file.filename="
                )
            file = nodes[given.file]
        name = file.filename if given.file else given.file_filename
    if not name:
        raise UserError(f"{where}: no image; add {'file.' if given.driver == 'raw' else ''}filename=FILE")
    unmap = "unmap" if {given.discard, file.discard} & {"unmap", "on"} else "ignore"
    cache = "unsafe" if given.no_flush or file.no_flush else "writeback"
    return Storage(
        where, name, given.read_only or file.read_only, False, cache, unmap, file.locking, given.driver != "raw"
    )


def _open(storage: Storage, snapshot: bool) -> Backend:
    snapshot = snapshot or storage.snapshot
    read_only = storage.read_only or snapshot
    try:
        mode = os.stat(storage.file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise UserError(f"{storage.where}: is neither a file nor a block device; name one that is")
        fd = os.open(storage.file, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        remedy = {
            errno.ENOENT: f"; make one with truncate -s 1G {storage.file}",
            errno.EACCES: "; give yourself the right to it, or add readonly=on",
            errno.EROFS: "; add readonly=on or snapshot=on",
        }.get(error.errno or 0, "")
        raise UserError(f"{storage.where}: cannot be opened ({error.strerror}){remedy}") from None
    try:
        _check_image(fd, storage)
        if storage.locking and not lock(fd, read_only):
            raise UserError(f"{storage.where}: another machine uses this image; stop that one, or work on a copy")
        unmap = storage.discard in ("unmap", "on")
        file = RawFile(fd, read_only, storage.cache == "writethrough", storage.cache != "unsafe", unmap)
        if not file.size:
            raise UserError(f"{storage.where}: is empty; give it a size with truncate -s 1G {storage.file}")
        return Overlay(file, nameless(file.size)) if snapshot and not storage.read_only else file
    except OSError as error:
        os.close(fd)
        raise UserError(f"{storage.where}: cannot be used ({error.strerror}); name a file or block device") from None
    except BaseException:
        os.close(fd)
        raise


def _check_image(fd: int, storage: Storage) -> None:
    """Refuse an image of a format with structure, unless the user insists on its bytes."""
    head = os.pread(fd, 32, 0) if storage.probe else b""
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            remedy = "convert it with qemu-img convert -O raw, or add format=raw"
            raise UserError(f"{storage.where}: is a {name} image, and only raw ones are read; {remedy}")
