"""-drive and -blockdev: what a user says of a disk's storage, and opening it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from powervisor.block.backend import Backend
from powervisor.block.nbd_server import PORT, NbdServer, parse_server
from powervisor.block.overlay import Changes, Overlay
from powervisor.block.qemu_nbd import FORMATS
from powervisor.block.storage import RAW, Storage, open_storage
from powervisor.errors import UserError, argument
from powervisor.properties import build, check_free, check_known, choice, number, pairs, prop

NONE = "none"
_DEVICES = {"virtio": "virtio-blk-pci", "sd": "sd-card", "pflash": "cfi.pflash01"}
"""What an interface stands for."""
_CACHE = choice("writeback", "none", "writethrough", "directsync", "unsafe")
_DISCARD = choice("ignore", "off", "unmap", "on")
_FILES = ("file", "host_device")


@dataclass(frozen=True)
class DriveOptions:
    """-drive."""

    file: str = prop("", "the image: a file, a block device or nbd://HOST:PORT/EXPORT", required=True)
    interface: str = prop(
        "virtio", "the device that is made for it; none: -device names it", choice(*_DEVICES, NONE), name="if"
    )
    id: str = prop("", "its name, for -device")
    format: str = prop("", "raw, or what qemu-nbd shall read it as; default raw", choice(RAW, *FORMATS))
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
    """-blockdev, or the file.* of one."""

    node_name: str = prop("", "its name, for -device")
    driver: str = prop(
        "", "a file as it is, a server, or the format of a file", choice(*_FILES, "nbd", RAW, *FORMATS), required=True
    )
    filename: str = prop("", "the image, of file and host_device")
    file: str = prop("", "of raw and other formats: the node-name of the file; file.driver=.. says it at once")
    type: str = prop("inet", "of nbd: how the server is reached", choice("inet", "unix"), name="server.type")
    host: str = prop("", "of nbd: the server's host", name="server.host")
    port: int = prop(PORT, "of nbd: its port", number(1, 65535), name="server.port")
    path: str = prop("", "of nbd: its Unix socket", name="server.path")
    export: str = prop("", "of nbd: the name of the export")
    read_only: bool = prop(False, "the guest cannot write")
    discard: str = prop("ignore", "unmap: what the guest discards becomes holes", _DISCARD)
    direct: bool = prop(False, "the host caches it all the same; flushes count", name="cache.direct")
    no_flush: bool = prop(False, "writes are never made stable", name="cache.no-flush")
    locking: bool = prop(True, "of a file: refuse an image that another machine uses")
    auto_read_only: bool = prop(False, "of a file: written to where the format on it is")
    aio: str = prop("threads", "how the host is asked; here always the same", choice("threads", "native", "io_uring"))
    detect_zeroes: str = prop("off", "zeros are written like any bytes", choice("off"))
    backing: str = prop("", "of a format: the node-name of its backing file, which the image itself names")

    @property
    def has_file(self) -> bool:
        """Whether this is a format, on top of a file."""
        return self.driver not in (*_FILES, "nbd")


class Moment(NamedTuple):
    """A drive at one moment. What the guest writes to an image itself is in that image alone."""

    size: int
    stamp: tuple[int, int] | None
    """Of the host's file, see `Drive`."""
    safe: bool
    """Whether the image stays as it is."""
    changes: Changes | None
    """What the guest had changed, in snapshot mode."""


@dataclass
class Counts:
    """What a device has asked of its storage."""

    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0
    flushes: int = 0
    discards: int = 0
    """Zeros that were asked for as well."""
    failures: int = 0


class Drive:
    """Open storage with a name; `device` is who uses it."""

    def __init__(self, name: str, where: str, backend: Backend, file: str = "", storage: Storage | None = None) -> None:
        """`file` is the host's file whose bytes, and time of change, are the storage's; `storage` what was opened."""
        self.name, self.where, self.backend, self.storage = name, where, backend, storage
        self.device = ""
        self.node = False
        """Whether it is -blockdev's, which has no name of its own besides the node's."""
        self.counts: Counts | None = None
        """Of a device that counts."""
        self._file = file

    @property
    def restorable(self) -> bool:
        """Whether `restore` can undo what was written since `keep`."""
        return isinstance(self.backend, Overlay) or self.backend.read_only

    def keep(self) -> Moment:
        """The storage as it is now; nobody uses it meanwhile. Raises UserError when the image is gone."""
        return Moment(
            self.backend.size, self._stamp(), self.restorable,
            self.backend.keep() if isinstance(self.backend, Overlay) else None,
        )  # fmt: skip

    def check(self, moment: Moment) -> None:
        """Raise UserError where the storage cannot be as it was at a moment."""
        if moment.size != self.backend.size:
            what = f"has {self.backend.size} bytes, and had {moment.size} when the snapshot was taken"
            raise UserError(f"{self.where}: {what}; name the image that was used then")
        if moment.stamp != self._stamp():
            remedy = "name the image as it was" if moment.safe else "with snapshot=on it would have been kept"
            raise UserError(f"{self.where}: the image has changed since the snapshot was taken; {remedy}")
        if moment.changes is not None and not isinstance(self.backend, Overlay):
            raise UserError(f"{self.where}: the snapshot has changes of the image; add snapshot=on")

    def restore(self, moment: Moment) -> None:
        """Be as at a moment, for which `check` was done; nobody uses the storage meanwhile."""
        if isinstance(self.backend, Overlay):
            self.backend.restore(moment.changes or Changes.empty(moment.size))

    def _stamp(self) -> tuple[int, int] | None:
        """Size and time of change of the host's file, by which another content is known."""
        if not self._file:
            return None
        try:
            status = os.stat(self._file)
        except OSError as error:
            raise UserError(f"{self.where}: the image is not there any more ({error.strerror})") from None
        return status.st_size, status.st_mtime_ns


class Drives:
    """All drives of a machine by name; `devices` are the words after -device for those that bring their own."""

    def __init__(self) -> None:
        self.by_name: dict[str, Drive] = {}
        self.devices: list[str] = []

    def claim(self, name: str, device: str) -> Drive:
        """The drive `name` for a device, which becomes its only user. Raises UserError, beginning with the device."""
        check_known(self.by_name, "drive", name, device, f"add {argument('drives')} file=FILE,if=none,id={name}")
        drive = self.by_name[name]
        check_free("drive", name, device, drive.device)
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
        nodes = _blockdevs(blockdevs)
        for name, storage, interface in [*_drives(drives), *nodes]:
            if name in found.by_name:
                raise UserError(f"{storage.where}: the name {name} is taken; give each drive its own")
            backend = open_storage(storage, snapshot)
            plain = storage.format in ("", RAW) or isinstance(backend, Overlay) or backend.read_only
            file = storage.file if plain and storage.server is None else ""  # qemu-nbd writes when it likes to
            found.by_name[name] = drive = Drive(name, storage.where, backend, file, storage)
            drive.node = any(storage is node for _, node, _ in nodes)
            if interface != NONE:
                found.devices.append(f"{_DEVICES[interface]},drive={name.replace(',', ',,')}")
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
        where = f"{option} file={given.file}"
        storage = Storage(
            where, given.file, parse_server(given.file, where), given.format, given.readonly or given.read_only,
            given.snapshot, given.cache, given.discard, given.locking,
        )  # fmt: skip
        found.append((given, storage))
    found.sort(key=lambda one: 256 if one[0].index is None else one[0].index)
    names = {given.id for given, _ in found}

    def numbered(interface: str) -> str:
        """The first name of this kind that nobody has."""
        name = next(name for n in range(2 * len(found)) if (name := f"{interface}{n}") not in names)
        names.add(name)
        return name

    return [(given.id or numbered(given.interface), storage, given.interface) for given, storage in found]


def _blockdevs(texts: Sequence[str]) -> list[tuple[str, Storage, str]]:
    option = argument("blockdevs")
    nodes: dict[str, BlockdevOptions] = {}
    inner: dict[str, BlockdevOptions] = {}
    for text in texts:
        words = pairs(text, f"{option} {text}")
        given = build(BlockdevOptions, _without_prefix(words, ""), f"{option} {text}")
        if not given.node_name:
            raise UserError(f"{option} {text}: node-name= is missing; add node-name=TEXT")
        if given.node_name in nodes:
            raise UserError(f"{option} {text}: node-name={given.node_name} is taken; give each its own")
        nodes[given.node_name] = given
        if below := _without_prefix(words, "file."):
            inner[given.node_name] = build(BlockdevOptions, below, f"{option} {text}: file")
    below_others = {name for given in nodes.values() for name in (given.file, given.backing)}
    return [(name, _storage(nodes, inner, name), NONE) for name in nodes if name not in below_others]


def _without_prefix(words: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Words that begin with `prefix`, without it; with none those that do not begin with "file."."""
    if not prefix:
        return {key: value for key, value in words.items() if not key.startswith("file.")}
    return {key.removeprefix(prefix): value for key, value in words.items() if key.startswith(prefix)}


def _storage(nodes: Mapping[str, BlockdevOptions], inner: Mapping[str, BlockdevOptions], name: str) -> Storage:
    given = nodes[name]
    where = f"{argument('blockdevs')} node-name={name}"
    file, server, prefix = given, None, ""
    if given.has_file:
        if name in inner:
            file, prefix = inner[name], "file."
        elif given.file:
            if given.file not in nodes:
                raise UserError(
                    f"{where}: file={given.file} is no -blockdev of driver=file; add one, or file.filename="
                )
            file = nodes[given.file]
        else:
            raise UserError(f"{where}: no image; add file.filename=FILE,file.driver=file")
        if file.has_file:
            raise UserError(f"{where}: its file is a {file.driver}, which has a file itself; use driver=file or nbd")
    elif name in inner:
        raise UserError(f"{where}: a {given.driver} has no file; leave file.* out")
    if file.driver == "nbd":
        server = _server(file, where, prefix)
    elif not file.filename:
        raise UserError(f"{where}: no image; add {prefix}filename=FILE")
    unmap = "unmap" if {given.discard, file.discard} & {"unmap", "on"} else "ignore"
    cache = "unsafe" if given.no_flush or file.no_flush else "writeback"
    read_only = given.read_only or file.read_only
    image_format = given.driver if given.driver in FORMATS else RAW if given.driver == RAW or server else ""
    return Storage(where, file.filename, server, image_format, read_only, False, cache, unmap, file.locking)


def _server(file: BlockdevOptions, where: str, prefix: str) -> NbdServer:
    if file.type == "unix":
        if not file.path:
            raise UserError(f"{where}: no server; add {prefix}server.path=SOCKET")
        return NbdServer(path=file.path, export=file.export)
    if not file.host:
        raise UserError(f"{where}: no server; add {prefix}server.type=inet,{prefix}server.host=HOST")
    return NbdServer(file.host, file.port, export=file.export)
