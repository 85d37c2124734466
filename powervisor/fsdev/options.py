"""-fsdev and -virtfs: what a user says of directories for the guest, and opening them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from powervisor.errors import UserError, argument
from powervisor.fsdev.server import Server
from powervisor.fsdev.tree import Tree
from powervisor.properties import check_free, check_known, choice, parse, prop

T = TypeVar("T")
_SECURITY = prop(
    "none", "files have the owners and modes that the host can give them",
    choice("none", remedy="that is accessmode='squash' in a libvirt domain"), name="security_model",
)  # fmt: skip


@dataclass(frozen=True)
class FsdevOptions:
    """-fsdev local,..."""

    id: str = prop("", "its name, for -device virtio-9p-pci,fsdev=", required=True)
    path: str = prop("", "the directory", required=True)
    security_model: str = _SECURITY
    readonly: bool = prop(False, "the guest cannot change anything")


@dataclass(frozen=True)
class VirtfsOptions:
    """-virtfs local,..."""

    path: str = prop("", "the directory", required=True)
    mount_tag: str = prop("", "what the guest mounts it by", required=True, name="mount_tag")
    security_model: str = _SECURITY
    readonly: bool = prop(False, "the guest cannot change anything")
    id: str = prop("", "its name in messages")


class Exports:
    """Directories by name, each for one device; `devices` are the words after -device for those of -virtfs."""

    def __init__(self) -> None:
        self.by_name: dict[str, Server] = {}
        self.devices: list[str] = []
        self._users: dict[str, str] = {}

    def claim(self, name: str, where: str) -> Server:
        """The directory `name` for a device, which becomes its only user. Raises UserError."""
        check_known(self.by_name, "fsdev", name, where, f"add {argument('fsdevs')} local,id={name},path=DIRECTORY")
        check_free("fsdev", name, where, self._users.get(name))
        self._users[name] = where
        return self.by_name[name]

    def close(self) -> None:
        """Close everything."""
        for server in self.by_name.values():
            server.reset()
            server.tree.close()


def open_exports(fsdevs: Sequence[str], virtfs: Sequence[str] = ()) -> Exports:
    """Open what -fsdev and -virtfs say. Raises UserError, with nothing left open."""
    found = Exports()
    try:
        for text in fsdevs:
            fsdev = _parse(FsdevOptions, text, argument("fsdevs"))
            _add(found, fsdev.id, fsdev.path, fsdev.readonly, f"{argument('fsdevs')} id={fsdev.id}")
        for number, text in enumerate(virtfs):
            virt = _parse(VirtfsOptions, text, argument("virtfs"))
            name = virt.id or f"virtfs{number}"
            _add(found, name, virt.path, virt.readonly, f"{argument('virtfs')} mount_tag={virt.mount_tag}")
            words = f"fsdev={name}".replace(",", ",,"), f"mount_tag={virt.mount_tag}".replace(",", ",,")
            found.devices.append(",".join(("virtio-9p-pci", *words)))
    except BaseException:
        found.close()
        raise
    return found


def check(fsdevs: Sequence[str], virtfs: Sequence[str] = ()) -> None:
    """Raise UserError for words that are wrong, without opening anything."""
    for text in fsdevs:
        _parse(FsdevOptions, text, argument("fsdevs"))
    for text in virtfs:
        _parse(VirtfsOptions, text, argument("virtfs"))


def _parse(options: type[T], text: str, option: str) -> T:
    driver, _, rest = text.partition(",")
    if driver != "local":
        raise UserError(f"{option} {text}: no driver {driver!r}; write {option} local,path=DIRECTORY,...")
    return parse(options, rest, f"{option} {text}")


def _add(found: Exports, name: str, path: str, read_only: bool, where: str) -> None:
    if name in found.by_name:
        raise UserError(f"{where}: the name {name} is taken; give each its own")
    try:
        found.by_name[name] = Server(Tree(path), read_only)
    except OSError as error:
        remedy = f"; make it with mkdir {path}" if error.errno == errno.ENOENT else ""
        raise UserError(f"{where}: path={path}: cannot be opened ({error.strerror}){remedy}") from None
