"""powervisor libvirt setup: what lacks and can be done, one change after the other."""

from __future__ import annotations

import errno
import filecmp
import os
import py_compile
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.images import FOLDER as IMAGES
from ..errors import UserError
from . import apparmor, capabilities, launchers
from .checks import unreadable, warm
from .host import ARCHITECTURES, Account, Host


@dataclass(frozen=True)
class Change:
    """One thing that is to be done; `apply` raises OSError or UserError."""

    what: str
    apply: Callable[[], None]
    slow: bool = False
    """It takes so long that one wants to know what is going on."""


def changes(host: Host, guests: Sequence[tuple[str, Sequence[Path]]] = ()) -> Iterator[Change]:
    """What lacks, each found when those before are done; `guests` are names with files that emulators shall read.

    Raises UserError where this Powervisor cannot be libvirt's at all, OSError where something cannot be looked at.
    """
    if (why := launchers.trouble() or unreadable(host)) is not None:
        raise UserError(f"libvirt's machines cannot use this Powervisor: {why}")
    old = list(capabilities.stale(host))  # before a launcher changes
    yield from _bytecode(host)
    yield from _launchers(host, old)
    yield from _logs(host)
    yield from _apparmor(host)
    yield from _cache(host)
    for name, files in () if host.session else guests:
        yield from _guest(host, name, files)
    for path in old:
        yield Change(f"remove {path}: what an older Powervisor could do", path.unlink)


def _bytecode(host: Host) -> Iterator[Change]:
    if not host.live or not (modules := launchers.uncompiled()):
        return

    def compile_all() -> None:
        for module in modules:
            py_compile.compile(str(module), doraise=True)

    yield Change(f"compile {len(modules)} modules of Powervisor, which machines could not keep", compile_all)


def _launchers(host: Host, old: Sequence[Path]) -> Iterator[Change]:
    text = launchers.text()
    for architecture in ARCHITECTURES:
        path = host.programs / f"powervisor-system-{architecture}"
        same = path.is_file() and path.read_text(errors="replace") == text and os.access(path, os.X_OK)
        if not same or old:  # it is its time of change that libvirt looks at

            def write(path: Path = path) -> None:
                _write(path, text, 0o755)

            yield Change(f"write {path}", write)


def _logs(host: Host) -> Iterator[Change]:
    if host.session and not host.logs.is_dir():

        def make() -> None:
            host.logs.mkdir(parents=True)

        yield Change(f"make {host.logs}: libvirt opens logs of consoles there before it makes it", make)


def _apparmor(host: Host) -> Iterator[Change]:
    if not apparmor.in_force(host):
        return
    for path, _, text in list(apparmor.wanted(host)):

        def write(path: Path = path, text: str = text) -> None:
            _write(path, text, 0o644)

        yield Change(f"write {path}: AppArmor's rules for Powervisor", write)
        profile = apparmor.profile_of(host, path)
        if profile is not None and host.live:

            def load(profile: Path = profile) -> None:
                _run("apparmor_parser", "-r", str(profile))

            yield Change(f"load {profile}", load)


def _cache(host: Host) -> Iterator[Change]:
    if not host.cache.is_dir():
        yield Change(f"make {host.cache}", lambda: _directory(host.cache))
    own, account = host.own_cache, host.account
    if own is not None and account is not None and not own.is_dir():

        def make(path: Path = own, account: Account = account) -> None:
            path.mkdir(mode=0o700)
            os.chown(path, account.uid, account.groups[0])

        yield Change(f"make {own}: the cache of {account.name}", make)
    if not host.live:
        return

    def build() -> None:
        place = next(path for path in (host.cache / IMAGES, host.cache, *host.cache.parents) if path.exists())
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        cold = [core for core, kept in warm(host, build=True) if not kept]
        if cold:
            raise OSError(0, f"no room for the translator of {', '.join(cold)}")

    if not host.cache.is_dir() or not all(kept for _, kept in warm(host)):
        yield Change(f"build the translators of all cores in {host.cache} (a minute or two)", build, slow=True)


def _guest(host: Host, name: str, files: Sequence[Path]) -> Iterator[Change]:
    for file in files:
        path = host.cache / "guests" / file.name
        if path.exists() and (path.samefile(file) or filecmp.cmp(path, file, shallow=False)):
            continue

        def copy(file: Path = file, path: Path = path) -> None:
            _directory(path.parent)
            temporary = path.with_name(f".{path.name}.new")
            shutil.copyfile(file, temporary)
            temporary.chmod(0o644)
            temporary.replace(path)

        yield Change(f"copy {file} to {path}: guest {name}", copy)


def _write(path: Path, text: str, mode: int) -> None:
    """All of it or nothing."""
    _directory(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _directory(path: Path) -> None:
    """A directory that everybody reads, with those above it."""
    for one in (*reversed(path.parents), path):
        if not one.is_dir():
            one.mkdir()
            one.chmod(0o755)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed; sudo apt-get install apparmor") from None
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)}: {(done.stderr.strip() or 'it failed').splitlines()[-1]}")
