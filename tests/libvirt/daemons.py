"""libvirtd and virtlogd with directories of their own: the system's in a mount namespace, a session's by XDG_*."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from powervisor.cache.place import root as cache_root
from tests.support.waiting import until
from tests.system.booting import TREE

_DEBIAN_MODULES = "/usr/lib/python3/dist-packages"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
_UNSHARE = shutil.which("unshare", path=_PATH) or "unshare"
_PACKAGES = {"virsh": "libvirt-clients", "virt-install": "virtinst"}
_PLACES = "run", "etc/libvirt", "var/lib/libvirt", "var/cache/libvirt", "var/log/libvirt"
"""What the system's libvirt keeps its things in."""
_SETTINGS = "etc/libvirt"
_SESSION_PLACES = {"RUNTIME_DIR": "run", "CONFIG_HOME": "etc", "CACHE_HOME": "cache", "DATA_HOME": "data"}
_TOOLS = "sh", "mkdir", "mount", "dmidecode", "qemu-img", "qemu-nbd", "passt", "ip"
_OWNERS = "libvirt-qemu", "qemu"
_SECONDS = 20.0
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def bindings() -> ModuleType:
    """libvirt-python, also where only Debian's Python has it; the test is skipped where none has."""
    sys.path.append(_DEBIAN_MODULES)
    try:
        found: ModuleType = pytest.importorskip(
            "libvirt", reason="libvirt-python is not installed (package python3-libvirt)"
        )
    finally:
        sys.path.remove(_DEBIAN_MODULES)
    return found


def free_huge_pages() -> int:
    """How many huge pages of the host nobody has."""
    return int((POOL.parent / "free_hugepages").read_text())


def needs(*programs: str) -> None:
    """Skip the test where a program is missing."""
    for program in programs:
        if not shutil.which(program, path=_PATH):
            pytest.skip(f"{program} is not installed (package {_PACKAGES.get(program, 'libvirt-daemon')})")


class Daemons:
    """virtlogd and libvirtd: of the system where root runs the tests, else, or for a `user`, of a session."""

    def __init__(self, user: str | None = None, owner: str = "root", huge_pages: bool = False) -> None:
        """`owner` is who runs the system's machines: we ourselves have translated code in the cache already."""
        needs("libvirtd", "virtlogd", "virsh")
        self.libvirt = bindings()
        self.session = user is not None or os.getuid() != 0
        if not self.session and subprocess.run([_UNSHARE, "-m", "true"], capture_output=True).returncode:
            pytest.skip("root may not make mount namespaces here, which the system's libvirtd gets")
        if not self.session and not {account.pw_name for account in pwd.getpwall()}.intersection(_OWNERS):
            pytest.skip("libvirtd ends at once where its user is missing (package libvirt-daemon-system)")
        python = _python(user or (None if self.session or owner == "root" else owner))
        if python is None:
            pytest.skip(f"{user or owner} can read neither this Python nor what /usr/bin/python3 would need")
        self._python, self._user = python, user
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="pv-"))  # a short path: sockets lie below it
        self.directory.chmod(0o755)
        self.tools = self.directory / "tools"
        """What libvirtd and emulators find: QEMU's emulators are not among it, for it would question all of them."""
        self.runs = self.directory / "run/libvirt"
        """Sockets, process ids and states of what runs."""
        self.huge_pages = self.directory / "huge" if huge_pages else None
        """Where a hugetlbfs is, for the daemons and what they start."""
        self.uri = f"qemu+unix:///{'session' if self.session else 'system'}?socket={self.runs}/libvirt-sock"
        self._environment = dict(os.environ, PATH=str(self.tools))
        self._furnish()
        self._configure(owner)
        self.emulators = {arch: self._emulator(arch) for arch in ("ppc", "ppc64")}
        self.give(self.directory, *self.directory.rglob("*"))

    def _furnish(self) -> None:
        places = [self.tools, self.runs, *([self.huge_pages] if self.huge_pages else [])]
        if self.session:
            for name, place in _SESSION_PLACES.items():
                places.append(self.directory / place / "libvirt")
                self._environment[f"XDG_{name}"] = str(self.directory / place)
        else:
            places += [self.directory / place for place in (*_PLACES, "run/lock")]  # consoles are locked there
        for path in places:
            path.mkdir(parents=True, exist_ok=True)
        for tool in _TOOLS:
            if found := shutil.which(tool, path=_PATH):
                (self.tools / tool).symlink_to(found)

    def _configure(self, owner: str) -> None:
        machines = ['security_driver = "none"']
        if self.huge_pages:
            machines.append(f'hugetlbfs_mount = "{self.huge_pages}"')
        if not self.session:
            machines += [f'user = "{owner}"', f'group = "{owner}"']
        texts = {
            "qemu": machines,
            "libvirtd": ['auth_unix_rw = "none"', f'log_outputs = "4:file:{self.log}"'],
            "virtlogd": [],
        }
        for name, lines in texts.items():
            (self.directory / _SETTINGS / f"{name}.conf").write_text("".join(f"{line}\n" for line in lines))

    # ---- the daemons -------------------------------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        """What libvirtd complains of."""
        return self.directory / "libvirtd.log"

    def machine_log(self, name: str) -> Path:
        """What a machine's process said."""
        below = "cache/libvirt/qemu/log" if self.session else "var/log/libvirt/qemu"
        return self.directory / below / f"{name}.log"

    def start(self) -> None:
        """Start them, or those that do not run."""
        for name, socket in (("virtlogd", self.runs / "virtlogd-sock"), ("libvirtd", self.runs / "libvirt-sock")):
            if name not in self._daemons:
                socket.unlink(missing_ok=True)
                program = shutil.which(name, path=_PATH) or name
                settings, pid = self.directory / _SETTINGS / f"{name}.conf", self.runs / f"{name}.pid"
                words = [program, "-f", str(settings), "-p", str(pid)]
                with (self.directory / f"{name}.err").open("ab") as errors:
                    self._daemons[name] = subprocess.Popen(
                        words if self.session else [*self._namespace(), *words], env=self._environment,
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
                        **_as(self._user),
                    )  # fmt: skip
                until(socket.exists, f"{socket} of {name}")

    def kill(self, name: str = "libvirtd", by: int = signal.SIGKILL) -> None:
        """Kill one of them."""
        daemon = self._daemons.pop(name)
        daemon.send_signal(by)
        daemon.wait(_SECONDS)

    def process(self, name: str) -> int:
        """The process id of one of them."""
        return self._daemons[name].pid

    def close(self) -> None:
        """End the machines, then the daemons."""
        try:
            self.start()
            connection = self.connect()
            for domain in connection.listAllDomains(self.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                domain.destroy()
            connection.close()
        finally:
            for name in list(self._daemons):
                self.kill(name, signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self) -> Any:
        """A connection of libvirt-python."""
        return self.libvirt.open(self.uri)

    def virsh(self, *words: str, fails: bool = False) -> str:
        """What virsh prints: to standard error, where it is to fail."""
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *words], capture_output=True, text=True, timeout=120)
        told = f"virsh {' '.join(words)}: {done.stdout}{done.stderr}{self._complaints()}"
        assert (done.returncode != 0) is fails, told
        return done.stderr if fails else done.stdout

    # ---- their surroundings ------------------------------------------------------------------------------------------

    def _namespace(self) -> list[str]:
        """What a command line begins with that sees our directories in place of the host's."""
        mounts = [f"mkdir -p /{place} && mount --bind {self.directory}/{place} /{place}" for place in _PLACES]
        if self.huge_pages:
            mounts.append(f"mount -t hugetlbfs none {self.huge_pages}")
        return [_UNSHARE, "-m", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]

    def _emulator(self, arch: str) -> Path:
        """A program that libvirt can run: it passes no variables of ours to emulators."""
        python, packages = self._python
        path = self.directory / f"powervisor-system-{arch}"
        path.write_text(
            f"#!/bin/sh\nexport PYTHONPATH='{packages}' POWERVISOR_CACHE='{cache_root()}'\n"
            f"exec '{python}' -c 'import sys; sys.argv[0] = \"{path.name}\"\n"
            'from powervisor.cli.system import main; sys.exit(main())\' "$@"\n'
        )
        path.chmod(0o755)
        return path

    def give(self, *paths: Path) -> None:
        """Make files those of whose session it is."""
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            for path in paths:
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)

    def _complaints(self) -> str:
        return self.log.read_text()[-800:] if self.log.exists() else ""


def _python(user: str | None) -> tuple[str, str] | None:
    """A Python that `user` can run, and its PYTHONPATH: ours may be somebody's own. None where there is none."""
    ours = sys.executable, ":".join(filter(None, (str(TREE), os.environ.get("PYTHONPATH"))))
    if user is None:
        return ours
    packages = sysconfig.get_paths()["purelib"]
    images = cache_root() / "images"
    check = f"import os, llvmlite, powervisor; os.listdir({str(images)!r}) if os.path.exists({str(images)!r}) else 0"
    for python, path in (ours, ("/usr/bin/python3", f"{TREE}:{packages}")):
        try:
            done = subprocess.run(
                [python, "-c", f"import sys; assert sys.version_info[:2] == {sys.version_info[:2]}; {check}"],
                cwd="/", env={"PYTHONPATH": path}, capture_output=True, **_as(user),
            )  # fmt: skip
        except (OSError, KeyError):
            continue
        if done.returncode == 0:
            return python, path
    return None


def _as(user: str | None) -> dict[str, Any]:
    """Keywords of subprocess that make a program run as somebody, for root."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
