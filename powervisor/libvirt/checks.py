"""powervisor libvirt check: everything between libvirt and a running machine, each with what to do about it."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ..isa import cores
from . import apparmor, capabilities, launchers
from .access import become, obstacle
from .findings import Finding, missing, note, ok
from .host import ARCHITECTURES, Host

_DAEMONS = {"libvirtd": "libvirt-sock", "virtqemud": "virtqemud-sock"}
"""The daemon of all drivers, and the one of machines alone; Debian 12 has the first."""
_DRIVERS = ("usr/lib/*/libvirt/connection-driver", "usr/lib*/libvirt/connection-driver")
_SERVER = "sudo apt-get install libvirt-daemon-system"
_LOG_SOCKET = "virtlogd-sock"
_MODULES = ("powervisor", "llvmlite", "elftools", "msgpack", "zstandard")
HUGEPAGES = Path("/dev/hugepages")
_HELPERS = {
    "passt": ("-netdev user and <interface type='user'>", "passt"),
    "qemu-nbd": ("disks that are not raw", "qemu-utils"),
}


def check(host: Host) -> Iterator[Finding]:
    """Look at everything; nothing is changed."""
    yield from _daemon(host)
    yield _client(host)
    yield from _account(host)
    yield from _launchers(host)
    yield from _logs(host)
    yield from _cache(host)
    yield from _apparmor(host)
    yield from _capabilities(host)
    yield from _libvirts_view(host)
    yield from _helpers(host)
    yield from _hugepages(host)


def setup_command(host: Host) -> str:
    """What to type for powervisor libvirt setup, as root where that is needed."""
    words = [*([] if host.session or os.geteuid() == 0 else ["sudo"]), *_program_words(), "libvirt", "setup"]
    words += ["-session"] if host.session else []
    words += ["-prefix", str(host.prefix)] if host.prefix else []
    words += [] if host.live else ["-root", str(host.root)]
    return " ".join(words)


def _program_words() -> list[str]:
    """How this program is started."""
    path = os.path.abspath(sys.argv[0])
    return [sys.executable, "-m", "powervisor"] if path.endswith("__main__.py") else [path]


def _program(host: Host, name: str) -> Path | None:
    """A program of the host."""
    if host.live and (found := shutil.which(name)) is not None:
        return Path(found)
    places = (host.at(Path("/usr", place, name)) for place in ("sbin", "bin", "local/sbin", "local/bin"))
    return next((path for path in places if path.exists()), None)


def _daemon(host: Host) -> Iterator[Finding]:
    daemon = next((path for name in _DAEMONS if (path := _program(host, name)) is not None), None)
    if daemon is None:
        yield missing("libvirt's daemon: not installed", _SERVER)
        return
    if not any(found for place in _DRIVERS for found in host.root.glob(f"{place}/libvirt_driver_qemu.so")):
        yield missing("libvirt's driver qemu: not installed", "sudo apt-get install libvirt-daemon-driver-qemu")
    if not host.live:
        yield ok(f"libvirt's daemon: {host.name(daemon)}")
        return
    if host.session:
        yield ok(f"libvirt's daemon: {daemon}; virsh starts it")
        return
    yield _listening(host, [host.sockets / _DAEMONS[daemon.name], host.sockets / "libvirt-sock"], daemon)
    yield _listening(host, [host.sockets / _LOG_SOCKET], daemon.with_name("virtlogd"))


def _listening(host: Host, sockets: list[Path], daemon: Path) -> Finding:
    """Whether somebody answers at one of the sockets."""
    path = next((path for path in sockets if path.exists()), sockets[0])
    start = "sudo systemctl enable --now libvirtd" if Path("/run/systemd/system").is_dir() else f"sudo {daemon} -d"
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError as error:
            if error.errno == errno.EACCES and daemon.name == "virtlogd":
                return ok(f"{daemon.name}: {path}, which is the daemon's")
            if error.errno == errno.EACCES:
                return missing(f"{path}: you may not connect", f"sudo adduser {_user()} libvirt, then log in again")
            return missing(f"{daemon.name}: does not answer at {path} ({error.strerror})", start)
    return ok(f"{daemon.name}: answers at {path}")


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())


def _client(host: Host) -> Finding:
    virsh = _program(host, "virsh")
    return ok(f"virsh: {virsh}") if virsh else missing("virsh: not installed", "sudo apt-get install libvirt-clients")


def _account(host: Host) -> Iterator[Finding]:
    account = host.account
    if account is None and (wanted := host.settings.get("user")):
        yield missing(f"qemu.conf: there is no user {wanted}", f"correct user= in {host.at('/etc/libvirt/qemu.conf')}")
    elif account is None:
        yield missing("the user that runs machines: there is no libvirt-qemu", _SERVER)
    else:
        yield ok(f"machines run as {account.name}")


def _launchers(host: Host) -> Iterator[Finding]:
    for architecture in ARCHITECTURES:
        path = host.launcher(architecture)
        if not path.exists():
            yield missing(f"{host.name(path)}: not there", setup_command(host))
        elif host.account is not None and (why := obstacle(path, host.account, execute=True)) is not None:
            yield missing(f"{host.name(path)}: {why}", setup_command(host))
        elif host.live and (why := launchers.run(path, host)) is not None:
            yield missing(f"{path}: does not answer: {why}", unreadable(host) or setup_command(host))
        else:
            yield ok(f"{host.name(path)}: {'answers' if host.live else 'is there'}")
    if host.live and (remedy := unreadable(host)) is not None:
        yield missing("Powervisor: not readable by those who run machines", remedy)
    if host.live and (modules := launchers.uncompiled()):
        yield note(f"Powervisor: {len(modules)} modules are compiled at every start", setup_command(host))


def _logs(host: Host) -> Iterator[Finding]:
    """Packages bring the system's directory; a session's libvirt makes it, but opens logs of consoles there first."""
    if host.session and not host.logs.is_dir():
        yield missing(f"{host.logs}: not there, where libvirt opens logs of consoles", setup_command(host))


def unreadable(host: Host) -> str | None:
    """What keeps emulators from this Python and its modules, with a remedy; None where nothing does."""
    if host.account is None or not host.live:
        return None
    found = [spec.origin for name in _MODULES if (spec := find_spec(name)) is not None and spec.origin is not None]
    for path in (sys.executable, *found):
        if (why := obstacle(Path(path), host.account, execute=path == sys.executable)) is not None:
            return f"{path}: {why}, or install Powervisor, and its Python, where everybody reads: docs/libvirt.md"
    return None


def warm(host: Host, build: bool = False) -> Iterator[tuple[str, bool]]:
    """Each core, and whether its translator is in the cache of emulators; with `build` it is built. Raises OSError."""
    words = [sys.executable, "-m", "powervisor.libvirt.images", *(["-keep"] if build else []), *cores.CORES]
    with subprocess.Popen(
        words, env={**os.environ, "POWERVISOR_CACHE": str(host.cache)}, stdin=subprocess.DEVNULL, umask=0o022,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        **become(None if build else host.account),
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            core, _, state = line.strip().partition(" ")
            yield core, state == "kept"
        said = process.stderr.read().strip()
    if process.returncode != 0:
        raise OSError(errno.EIO, said.splitlines()[-1] if said else f"status {process.returncode}")


def _cache(host: Host) -> Iterator[Finding]:
    if not host.live:
        return
    if not host.cache.is_dir():
        yield missing(f"{host.cache}: there is no cache, so that every machine translates anew", setup_command(host))
        return
    if (own := host.own_cache) is not None and not own.is_dir():
        yield missing(f"{own}: there is no directory for guest code that was compiled", setup_command(host))
    try:
        cold = [core for core, kept in warm(host) if not kept]
    except OSError as error:
        yield missing(f"{host.cache}: {error.strerror}", unreadable(host) or setup_command(host))
        return
    if cold:
        yield missing(f"{host.cache}: no translator for {', '.join(cold)} that can be read", setup_command(host))
    else:
        yield ok(f"{host.cache}: translators of all cores")


def _apparmor(host: Host) -> Iterator[Finding]:
    if not apparmor.in_force(host):
        yield ok("AppArmor: confines no machines here")
        return
    try:
        for path, _, _ in apparmor.wanted(host):
            yield missing(f"{host.name(path)}: lacks rules for Powervisor, or has old ones", setup_command(host))
            return
    except OSError as error:
        yield missing(f"{error.filename}: {error.strerror}", setup_command(host))
        return
    yield ok("AppArmor: has the rules")


def _capabilities(host: Host) -> Iterator[Finding]:
    try:
        for path in capabilities.stale(host):
            yield missing(f"{host.name(path)}: what an older Powervisor could do", setup_command(host))
    except OSError as error:
        command = " ".join(["sudo", *_program_words(), "libvirt check"])
        yield note(f"{host.capabilities}: cannot be looked at ({error.strerror})", command)


def _libvirts_view(host: Host) -> Iterator[Finding]:
    """What libvirt says of the launchers; a session's daemon is not started for that."""
    virsh = _program(host, "virsh")
    if not host.live or virsh is None or not any((host.sockets / name).exists() for name in _DAEMONS.values()):
        return
    uri = f"qemu:///{'session' if host.session else 'system'}"
    log = "look into libvirtd's log: journalctl -u libvirtd"
    if (said := _refused(virsh, uri, "uri")) is not None:
        remedy = log if host.session or os.geteuid() == 0 else f"sudo adduser {_user()} libvirt, then log in again"
        yield missing(f"virsh -c {uri}: {said}", remedy)
        return
    for architecture in ARCHITECTURES:
        path = host.launcher(architecture)
        if not path.exists():
            continue
        words = ["--emulatorbin", str(path), "--arch", architecture, "--machine", "ppce500", "--virttype", "qemu"]
        if (said := _refused(virsh, uri, "domcapabilities", *words)) is None:
            yield ok(f"libvirt takes {path} for {architecture}")
        else:
            yield missing(f"libvirt does not take {path}: {said}", log)


def _refused(virsh: Path, uri: str, *words: str) -> str | None:
    """Why a virsh command failed; None where it did not."""
    done = subprocess.run(
        [virsh, "-q", "-c", uri, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1].removeprefix("error: ")


def _helpers(host: Host) -> Iterator[Finding]:
    for name, (what, package) in _HELPERS.items():
        if _program(host, name) is None:
            yield note(f"{name}: not installed, which {what} need", f"sudo apt-get install {package}")


def _hugepages(host: Host) -> Iterator[Finding]:
    if not host.live:
        return
    pages = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    free = int(pages.read_text()) if pages.exists() else 0
    if not HUGEPAGES.is_dir() or not os.path.ismount(HUGEPAGES):
        yield note(f"{HUGEPAGES}: not mounted, which <hugepages/> needs", f"sudo mount -t hugetlbfs none {HUGEPAGES}")
    elif free == 0:
        yield note(f"{HUGEPAGES}: no page is free, which <hugepages/> needs", "sudo sysctl vm.nr_hugepages=512")
    else:
        yield ok(f"{HUGEPAGES}: {free} pages of 2 MiB are free")
