"""The host whose libvirt is to run Powervisor: where its things are, and as whom libvirt runs emulators."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..cache.place import SYSTEM
from ..cache.place import root as user_cache

ARCHITECTURES = ("ppc", "ppc64")
_USERS = ("libvirt-qemu", "qemu")
"""Whom distributions let emulators run as: Debian's, Fedora's."""


@dataclass(frozen=True)
class Account:
    """Somebody who reads files."""

    name: str
    uid: int
    groups: tuple[int, ...]
    """The first one is the primary one."""


@dataclass(frozen=True)
class Host:
    """A host seen by libvirt's system daemon, or by the daemon of this user's session.

    With another `root` than / it is one that is being prepared: a tree of files, in which nothing runs.
    """

    session: bool = False
    prefix: Path | None = None
    root: Path = Path("/")

    @property
    def live(self) -> bool:
        """Whether it is the host we are on."""
        return self.root == Path("/")

    def at(self, path: str | Path) -> Path:
        """Where a path of the host is for us."""
        return self.root / str(path).lstrip("/")

    def name(self, path: Path) -> Path:
        """What the host calls a path of ours."""
        return Path("/") / path.relative_to(self.root)

    def real(self, path: str | Path) -> Path:
        """What is behind the links of a path of the host, as the host calls it."""
        found = Path(os.path.realpath(self.at(path)))
        return self.name(found) if found.is_relative_to(self.root) else found

    # ---- launchers ---------------------------------------------------------------------------------------------------

    @property
    def programs(self) -> Path:
        """Where launchers are written."""
        return self.at((self.prefix or (Path.home() / ".local" if self.session else Path("/usr/local"))) / "bin")

    def launcher(self, architecture: str) -> Path:
        """The emulator for an architecture: the first that is there, else where one will be."""
        name = f"powervisor-system-{architecture}"
        beside = [Path(sys.executable).parent] if self.session and self.live else []
        places = [self.programs, *([] if self.prefix else [self.at("/usr/local/bin"), self.at("/usr/bin"), *beside])]
        return next((place / name for place in places if (place / name).exists()), self.programs / name)

    # ---- libvirt's -----------------------------------------------------------------------------------------------

    @property
    def sockets(self) -> Path:
        """Where its daemons listen."""
        if not self.session:
            return self.at("/run/libvirt")
        return self.at(Path(os.environ.get("XDG_RUNTIME_DIR") or _xdg("CACHE", ".cache")) / "libvirt")

    @property
    def logs(self) -> Path:
        """Where it keeps the logs of machines."""
        return self.at("/var/log/libvirt/qemu" if not self.session else _xdg("CACHE", ".cache") / "libvirt/qemu/log")

    @property
    def capabilities(self) -> Path:
        """Where it keeps what emulators can do."""
        place = Path("/var/cache/libvirt/qemu") if not self.session else _xdg("CACHE", ".cache") / "libvirt/qemu/cache"
        return self.at(place / "capabilities")

    @property
    def settings(self) -> dict[str, str]:
        """What is set in its qemu.conf."""
        place = Path("/etc/libvirt") if not self.session else _xdg("CONFIG", ".config") / "libvirt"
        try:
            text = self.at(place / "qemu.conf").read_text(errors="replace")
        except OSError:
            return {}
        return dict(re.findall(r'^\s*(\w+)\s*=\s*"?([^"\n]*?)"?\s*$', text, re.MULTILINE))

    @cached_property
    def account(self) -> Account | None:
        """As whom it runs emulators; None where that is nobody yet."""
        if self.session:
            return Account(_name_of(os.getuid()), os.getuid(), (os.getgid(), *os.getgroups()))
        wanted = self.settings.get("user", "").lstrip("+")
        users = {words[0]: words for words in self._table("etc/passwd")}
        found = next((users[name] for name in ([wanted] if wanted else _USERS) if name in users), None)
        if found is None:
            return None
        groups = self._table("etc/group")
        primary = next((int(words[2]) for words in groups if words[0] == self.settings.get("group")), int(found[3]))
        others = [int(words[2]) for words in groups if found[0] in words[3].split(",")]
        return Account(found[0], int(found[2]), (primary, *others))

    def _table(self, name: str) -> list[list[str]]:
        try:
            lines = self.at(name).read_text(errors="replace").splitlines()
        except OSError:
            return []
        return [words for line in lines if len(words := line.split(":")) > 3 and words[2].isdecimal()]

    # ---- ours --------------------------------------------------------------------------------------------------------

    @property
    def cache(self) -> Path:
        """Where translators and guests are kept for emulators: one that everybody reads, or the session's own."""
        return self.at(user_cache() if self.session else SYSTEM)

    @property
    def own_cache(self) -> Path | None:
        """The directory of the system's emulators in it, for guest code that was compiled: their homes do not last."""
        return self.cache / str(self.account.uid) if self.account is not None and not self.session else None


def _xdg(name: str, default: str) -> Path:
    return Path(os.environ.get(f"XDG_{name}_HOME") or Path.home() / default)


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
