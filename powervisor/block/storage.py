"""Opening what a user calls a disk: raw files and block devices, NBD servers, images that qemu-nbd reads."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from powervisor.block import nbd_server, qemu_nbd
from powervisor.block.backend import Backend
from powervisor.block.file import RawFile
from powervisor.block.locks import lock
from powervisor.block.nbd_server import NbdServer
from powervisor.block.overlay import Overlay, nameless
from powervisor.errors import UserError, argument
from powervisor.fdsets import FDSETS, open_path

RAW = "raw"
_MAGIC = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vpc",
    b"# Disk DescriptorFile": "vmdk",
    b"QED\0": "qed",
    b"WithoutFreeSpace": "parallels",
    b"WithouFreSpacExt": "parallels",
}
"""How images that are not raw begin."""
_VDI_AT, _VDI = 64, b"\x7f\x10\xda\xbe"


@dataclass(frozen=True)
class Storage:
    """What -drive and -blockdev both come to; `where` is the option, for messages."""

    where: str
    file: str
    server: NbdServer | None = None
    """An NBD server in place of a file."""
    format: str = ""
    """RAW, one for qemu-nbd, or "": raw, unless it looks like another."""
    read_only: bool = False
    snapshot: bool = False
    cache: str = "writeback"
    discard: str = "ignore"
    locking: bool = True

    @property
    def modes(self) -> tuple[bool, bool, bool]:
        """Whether writes are stable at once, whether flushes flush, whether discards are passed on."""
        return self.cache in ("writethrough", "directsync"), self.cache != "unsafe", self.discard in ("unmap", "on")


def open_storage(storage: Storage, snapshot: bool) -> Backend:
    """Open it; with `snapshot` it is left as it is. Raises UserError."""
    snapshot = snapshot or storage.snapshot
    read_only = storage.read_only or snapshot
    found = _opened(storage, read_only)
    if not snapshot or storage.read_only:
        return found
    try:
        return Overlay(found, nameless(found.size))
    except BaseException:
        found.close()
        raise


def _opened(storage: Storage, read_only: bool) -> Backend:
    sync, flushes, unmap = storage.modes
    sync = sync and not read_only
    where, server = storage.where, storage.server
    if storage.format in ("", RAW):
        if server:
            return nbd_server.open_disk(server, where, read_only, sync, flushes, unmap)
        return _raw(storage, read_only)
    if server:
        place = qemu_nbd.on_server(server)
    else:
        fd = _descriptor(storage, read_only)
        place = qemu_nbd.on_file(storage.file, stat.S_ISBLK(os.fstat(fd).st_mode), storage.locking)
        os.close(fd)
    return qemu_nbd.open_image(place, storage.format, where, read_only, sync, flushes, unmap)


def _descriptor(storage: Storage, read_only: bool) -> int:
    try:
        if not storage.file.startswith(FDSETS):
            _check_kind(os.stat(storage.file), storage)  # opening a pipe would wait
        fd = open_path(storage.file, os.O_RDONLY if read_only else os.O_RDWR)
        _check_kind(os.fstat(fd), storage)
        return fd
    except OSError as error:
        make = "truncate -s 1G" if storage.format in ("", RAW) else f"qemu-img create -f {storage.format}"
        remedy = {
            errno.ENOENT: f"; make one with {make} {storage.file}" + ("" if "truncate" in make else " 1G"),
            errno.EACCES: "; give yourself the right to it, or add readonly=on",
            errno.EROFS: "; add readonly=on or snapshot=on",
        }.get(error.errno or 0, "")
        raise UserError(f"{storage.where}: cannot be opened ({error.strerror}){remedy}") from None


def _check_kind(status: os.stat_result, storage: Storage) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise UserError(f"{storage.where}: is neither a file nor a block device; name one that is")


def _raw(storage: Storage, read_only: bool) -> Backend:
    fd = _descriptor(storage, read_only)
    try:
        _check_image(fd, storage)
        if storage.locking and not lock(fd, read_only):
            raise UserError(f"{storage.where}: another machine uses this image; stop that one, or work on a copy")
        file = RawFile(fd, read_only, *storage.modes)
        if not file.size:
            raise UserError(f"{storage.where}: is empty; give it a size with truncate -s 1G {storage.file}")
        return file
    except OSError as error:
        os.close(fd)
        raise UserError(f"{storage.where}: cannot be used ({error.strerror}); name a file or block device") from None
    except BaseException:
        os.close(fd)
        raise


def _check_image(fd: int, storage: Storage) -> None:
    """Refuse an image with structure, unless the user says what it is.

    Its beginning alone must not decide: a guest can write one that names other files of the host.
    """
    head = b"" if storage.format else os.pread(fd, 512, 0)
    found = [name for magic, name in _MAGIC.items() if head.startswith(magic)]
    if head[_VDI_AT : _VDI_AT + len(_VDI)] == _VDI:
        found.append("vdi")
    if found:
        say = f"say so with format={found[0]}, or add format=raw for its bytes"
        if storage.where.startswith(argument("blockdevs")):
            say = f"say so with driver={found[0]}, or driver=raw for its bytes"
        raise UserError(f"{storage.where}: looks like a {found[0]} image; {say}")
