"""powervisor libvirt check and setup, on hosts that are trees of files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from powervisor.libvirt import checks, launchers
from powervisor.libvirt.access import obstacle
from powervisor.libvirt.blocks import BEGIN, END, replaced
from powervisor.libvirt.findings import State
from powervisor.libvirt.host import Account, Host

OTHERS = "# rules of somebody else"
CAPABILITIES = "<qemuCaps>\n  <emulator>{}</emulator>\n  <qemuctime>1</qemuctime>\n</qemuCaps>\n"
CAPABILITIES_PLACE = "var/cache/libvirt/qemu/capabilities"
UID, GID = (64055, 108) if os.getuid() == 0 else (os.getuid(), os.getgid())
"""Of libvirt-qemu: somebody to whom we may give directories."""


def write(path: Path, text: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def place():
    """A directory that everybody may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="pv-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def bare(place):
    """A host without libvirt."""
    root = place / "root"
    write(root / "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsomebody:x:1000:1000::/home:/bin/sh\n")
    return root


@pytest.fixture
def root(bare):
    """A host as Debian's libvirt leaves it, AppArmor included."""
    with (bare / "etc/passwd").open("a") as file:
        file.write(f"libvirt-qemu:x:{UID}:{GID}::/var/lib/libvirt:/usr/sbin/nologin\n")
    write(bare / "etc/group", f"kvm:x:106:libvirt-qemu\nlibvirt-qemu:x:{GID}:libvirt-qemu\n")
    for program in ("usr/sbin/libvirtd", "usr/sbin/virtlogd", "usr/bin/virsh", "usr/bin/passt", "usr/bin/qemu-nbd"):
        write(bare / program, mode=0o755)
    write(bare / "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
    write(bare / "etc/apparmor.d/abstractions/libvirt-qemu", "#include <local/abstractions/libvirt-qemu>\n")
    write(bare / "etc/apparmor.d/usr.sbin.libvirtd", "profile libvirtd {}\n")
    write(bare / "etc/apparmor.d/local/usr.sbin.libvirtd", OTHERS)
    (bare / CAPABILITIES_PLACE).mkdir(parents=True)
    return bare


def tree(root: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def test_a_host_is_made_ready_once(command, root):
    found = command("libvirt", "check", "-root", str(root))
    assert found.status == 1
    assert [line.split(":")[0].split()[1] for line in found.out.splitlines() if line.startswith("missing")] == [
        "/usr/local/bin/powervisor-system-ppc", "/usr/local/bin/powervisor-system-ppc64",
        "/etc/apparmor.d/local/abstractions/libvirt-qemu",
    ]  # fmt: skip
    done = command("libvirt", "setup", "-root", str(root))
    assert done.status == 0 and not done.err
    assert len(done.out.splitlines()) == 6 and all(line.startswith("done    ") for line in done.out.splitlines())
    found = command("libvirt", "check", "-root", str(root))
    assert found.status == 0 and "missing" not in found.out
    assert command("libvirt", "setup", "-root", str(root)).out == "nothing to do: everything is in place\n"


def test_launchers_answer_for_their_architecture(command, root, tmp_path):
    assert command("libvirt", "setup", "-root", str(root)).status == 0
    for architecture in ("ppc", "ppc64"):
        launcher = root / f"usr/local/bin/powervisor-system-{architecture}"
        answer = subprocess.run(
            [launcher, "-version"], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
        )
        assert f"(powervisor-system-{architecture}," in answer.stdout
        assert launchers.run(launcher, Host(session=True)) is None
    launcher.write_text("#!/bin/sh\necho powervisor of yesterday\n")
    assert launchers.run(launcher, Host(session=True)) == "it is another Powervisor (powervisor of yesterday)"
    launcher.write_text("#!/bin/sh\necho first >&2; echo it failed >&2; exit 1\n")
    assert launchers.run(launcher, Host(session=True)) == "it failed"


def test_apparmors_rules_are_written_beside_those_of_others(command, root):
    assert command("libvirt", "setup", "-root", str(root)).status == 0
    daemon = (root / "etc/apparmor.d/local/usr.sbin.libvirtd").read_text()
    assert daemon.startswith(OTHERS + "\n" + BEGIN) and '"/usr/local/bin/powervisor-system-ppc" PUx,' in daemon
    emulators = (root / "etc/apparmor.d/local/abstractions/libvirt-qemu").read_text()
    for rule in (
        '"/usr/local/bin/powervisor-system-ppc64" rmix,', '"/var/cache/powervisor/**" r,', '"/usr/bin/passt" PUx,',
        f'"{Path(launchers.__file__).parent.parent}/**" mr,',
    ):  # fmt: skip
        assert f"  {rule}\n" in emulators
    assert str(root) not in emulators


def test_rules_take_the_place_of_older_ones():
    first = replaced("before", ["  old,"])
    assert first == f"before\n{BEGIN}\n  old,\n{END}\n"
    assert replaced(first + "after\n", ["  new,"]) == f"before\n{BEGIN}\n  new,\n{END}\nafter\n"


def test_where_libvirt_confines_nothing_no_rules_are_written(command, root):
    write(root / "etc/libvirt/qemu.conf", '#user = "x"\nsecurity_driver = "none"\n')
    assert "AppArmor" not in command("libvirt", "setup", "-root", str(root)).out
    assert not (root / "etc/apparmor.d/local/abstractions").exists()


def test_a_dry_run_changes_nothing(command, root):
    before = tree(root)
    done = command("libvirt", "setup", "-dry-run", "-root", str(root))
    assert done.status == 0 and done.out.startswith("would   write ")
    assert tree(root) == before


def test_stale_capabilities_are_removed_and_the_launcher_written_anew(command, root):
    place = root / CAPABILITIES_PLACE
    assert command("libvirt", "setup", "-root", str(root)).status == 0
    launcher = root / "usr/local/bin/powervisor-system-ppc"
    old = write(place / "old.xml", CAPABILITIES.format("/usr/local/bin/powervisor-system-ppc"))
    os.utime(old, (0, 0))
    gone = write(place / "gone.xml", CAPABILITIES.format("/opt/bin/powervisor-system-ppc"))
    fresh = write(place / "fresh.xml", CAPABILITIES.format("/usr/local/bin/powervisor-system-ppc64"))
    os.utime(fresh, (time.time() + 10,) * 2)
    others = write(place / "others.xml", CAPABILITIES.format("/usr/bin/qemu-system-ppc"))
    os.utime(others, (0, 0))
    damaged = write(place / "damaged.xml", "<qemuCaps>")
    found = command("libvirt", "check", "-root", str(root))
    assert found.status == 1 and f"missing  /{CAPABILITIES_PLACE}/old.xml: " in found.out
    before = launcher.stat().st_ctime_ns
    assert command("libvirt", "setup", "-root", str(root)).status == 0
    assert [path.exists() for path in (old, gone, fresh, others, damaged)] == [False, False, True, True, True]
    assert launcher.stat().st_ctime_ns > before
    assert command("libvirt", "check", "-root", str(root)).status == 0


def test_a_host_without_libvirt_is_told_what_to_install(command, bare):
    found = command("libvirt", "check", "-root", str(bare))
    assert found.status == 1 and not found.err
    lines = found.out.splitlines()
    assert all("; " in line for line in lines if line.startswith(("missing", "note")))
    assert "missing  libvirt's daemon: not installed; sudo apt-get install libvirt-daemon-system" in lines
    assert "missing  virsh: not installed; sudo apt-get install libvirt-clients" in lines
    assert any(line.startswith("missing  the user that runs machines: there is no libvirt-qemu") for line in lines)
    assert any("apt-get install passt" in line for line in lines)


def test_what_cannot_be_done_is_a_line_and_the_rest_is_done(command, root, tmp_path):
    done = command("libvirt", "setup", "-root", str(root), "-prefix", "/etc/passwd")
    assert done.status == 1
    assert done.err.count("\n") == 2 and done.err.startswith("failed  write ")
    assert "Not a directory" in done.err or "File exists" in done.err
    assert (root / "etc/apparmor.d/local/abstractions/libvirt-qemu").exists()


@pytest.mark.parametrize(
    "words, status, said",
    [
        ((), 2, "write xml, check, setup"),
        (("define",), 2, "there is no such action"),
        (("check", "-root", "/nowhere"), 1, "-root /nowhere: there is no such directory"),
        (("setup", "-guest", "k33"), 1, "-guest k33: no such guest"),
        (("check", "k32"), 2, "k32: not an option"),
    ],
)
def test_mistakes_are_lines(command, words, status, said):
    done = command("libvirt", *words)
    assert done.status == status and done.err.count("\n") == 1 and said in done.err


def test_a_python_that_libvirt_cannot_read_is_refused(command, root, monkeypatch):
    monkeypatch.setattr("powervisor.libvirt.setup.unreadable", lambda host: "libvirt-qemu may not enter /root")
    done = command("libvirt", "setup", "-root", str(root))
    assert done.status == 1 and "cannot use this Powervisor: libvirt-qemu may not enter /root" in done.err


def test_a_session_has_its_own_places(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CACHE", "CONFIG"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.setenv("POWERVISOR_CACHE", str(tmp_path / "own"))
    built = []

    def warm(host, build=False):
        built.extend([host.cache] if build else [])
        return [("e500mc", build)]

    monkeypatch.setattr("powervisor.libvirt.setup.warm", warm)
    module = write(tmp_path / "module.py", "x = 1")
    monkeypatch.setattr(launchers, "uncompiled", lambda: [module])
    log = tmp_path / ".cache/libvirt/qemu/log"
    assert f"missing  {log}: not there" in command("libvirt", "check", "-session").out
    capabilities = tmp_path / ".cache/libvirt/qemu/cache/capabilities/one.xml"
    write(capabilities, CAPABILITIES.format("/gone/powervisor-system-ppc"))
    done = command("libvirt", "setup", "-session")
    assert done.status == 0 and "AppArmor" not in done.out
    assert log.is_dir() and not capabilities.exists()
    begun = [line.partition("   ")[0] for line in done.out.splitlines() if "build the translators" in line]
    assert begun == ["begin", "done"]
    assert (tmp_path / ".local/bin/powervisor-system-ppc64").exists()
    assert built == [tmp_path / "own"]
    assert list((tmp_path / "__pycache__").glob("module.*.pyc"))
    host = Host(session=True)
    assert host.account.uid == os.getuid()
    assert host.logs == log


def test_as_whom_machines_run(root):
    account = Host(root=root).account
    assert (account.name, account.uid, account.groups[0], set(account.groups)) == ("libvirt-qemu", UID, GID, {106, GID})
    write(root / "etc/libvirt/qemu.conf", '#user = "root"\nuser = "somebody"\ngroup = "kvm"\n')
    assert Host(root=root).account == Account("somebody", 1000, (106,))
    write(root / "etc/libvirt/qemu.conf", 'user = "nobody-at-all"\n')
    assert Host(root=root).account is None


def test_what_keeps_somebody_from_a_file(place):
    account = Account("machine", 12345, (23456,))
    file = write(place / "a/b/file")
    assert obstacle(file, account) is None
    assert obstacle(file, account, execute=True) == f"machine may not read {file} (chmod o+rx {file})"
    (place / "a").chmod(0o700)
    link = place / "link"
    link.symlink_to(file)
    said = f"machine may not enter {place}/a (chmod o+x {place}/a)"
    assert obstacle(file, account) == obstacle(link, account) == said
    assert obstacle(file, Account("root", 0, (0,))) is None
    assert obstacle(place / "none", account) == f"{place}/none: No such file or directory"


def test_a_daemon_is_asked_whether_it_listens(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert checks._listening(Host(), [tmp_path / "none", path], Path("/sbin/libvirtd")).state is State.OK
    found = checks._listening(Host(), [path], Path("/sbin/libvirtd"))
    assert found.state is State.MISSING and "Connection refused" in found.what and found.remedy


def test_who_may_not_connect_is_told_how_to_be_let_in(place, monkeypatch):
    host = Host(root=place)
    monkeypatch.setattr(Host, "live", True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    write(place / "run/libvirt/libvirt-sock")
    virsh = write(place / "virsh", "#!/bin/sh\necho 'error: no polkit agent' >&2\nexit 1\n", mode=0o755)
    monkeypatch.setattr(checks, "_program", lambda host, name: virsh)
    (found,) = checks._libvirts_view(host)
    assert found.state is State.MISSING and found.what == "virsh -c qemu:///system: no polkit agent"
    assert "adduser" in found.remedy


def images(place: Path, *words: str) -> str:
    environment = {**os.environ, "POWERVISOR_CACHE": str(place)}
    command = [sys.executable, "-m", "powervisor.libvirt.images", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_cold_cache_is_told(tmp_path):
    assert images(tmp_path, "e500mc", "e6500") == "e500mc missing\ne6500 missing\n"
    assert not list(tmp_path.rglob("*.image"))


@pytest.mark.slow
def test_a_translator_that_was_kept_is_what_machines_begin_with(tmp_path):
    assert images(tmp_path, "-keep", "e500mc") == "e500mc kept\n"
    assert images(tmp_path, "e500mc", "e5500") == "e500mc kept\ne5500 missing\n"
    done = subprocess.run(
        [sys.executable, "-m", "powervisor", "run", "builtin", "-cpu", "e500mc", "-append", "poweroff"],
        env={**os.environ, "POWERVISOR_CACHE": str(tmp_path)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "building" not in done.stderr
    assert len(list(tmp_path.rglob("*.image"))) == 1
