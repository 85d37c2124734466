"""RAM disks: a static busybox from Debian's source package, and our own /init."""

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

from powervisor.guests import debian
from powervisor.guests.archive import Cpio
from powervisor.guests.linux import HOST_PACKAGES, TARGETS
from powervisor.guests.linux.make import make, unpack
from powervisor.guests.progress import Progress

# Against busybox's default configuration. tc does not compile with the cross headers of Debian 12's kernel; the SHA
# instructions are x86's.
_CHANGES = {"CONFIG_STATIC": "y", "CONFIG_TC": "n", "CONFIG_SHA1_HWACCEL": "n", "CONFIG_SHA256_HWACCEL": "n"}
_STEPS = 900
_OWN_FILES = {
    "init": "init",
    "usr/share/udhcpc/default.script": "udhcpc",
    "etc/acpi/PWRF/00000080": "power-button",  # where busybox's acpid looks when KEY_POWER goes down
}


@dataclass(frozen=True)
class Userland:
    """The oldest core that a RAM disk of this word size runs on."""

    cpu: str


USERLANDS = {32: Userland("e500mc"), 64: Userland("e5500")}


def installed(bits: str) -> Path | None:
    """No system package has these RAM disks."""
    return None


def build(bits: str, path: Path, work: Path, progress: Progress) -> None:
    """Make the RAM disk for 32- or 64-bit kernels. Raises UserError."""
    busybox, links = _busybox(int(bits), path, work, progress)
    progress.step("packing")
    path.write_bytes(gzip.compress(pack(busybox, links), 9, mtime=0))


def pack(busybox: bytes, links: list[str]) -> bytes:
    """The RAM disk as a cpio archive: busybox under all its names (absolute paths), /init, mount points, a console."""
    cpio = Cpio()
    for directory in ("dev", "etc", "mnt", "proc", "root", "sys", "tmp"):
        cpio.directory(directory)
    cpio.device("dev/console", 5, 1)  # /init's standard streams; devtmpfs comes only later
    cpio.device("dev/null", 1, 3, 0o666)
    add_own_files(cpio)
    cpio.file("bin/busybox", busybox, 0o755)
    for link in sorted(links):
        cpio.link(link.lstrip("/"), "/bin/busybox")
    return cpio.data()


def add_own_files(cpio: Cpio) -> None:
    """What in the RAM disk is ours: /init, and what busybox's programs run."""
    for path, source in _OWN_FILES.items():
        cpio.file(path, (Path(__file__).parent / source).read_bytes(), 0o755)


def _busybox(bits: int, path: Path, work: Path, progress: Progress) -> tuple[bytes, list[str]]:
    target = TARGETS[bits]
    debian.require((*HOST_PACKAGES, *target.packages), progress)
    progress.step("downloading the source of busybox")
    files = debian.download("busybox", work, source=True)
    tree, log = work / f"busybox{bits}", path.with_name(f"busybox{bits}.log")
    log.unlink(missing_ok=True)
    progress.step("unpacking busybox")
    unpack(next(file for file in files if ".orig.tar." in file.name), tree)
    try:
        make(tree, ["defconfig"], log)
        changes = {
            **_CHANGES,
            "CONFIG_CROSS_COMPILER_PREFIX": f'"{target.prefix}"',
            "CONFIG_EXTRA_CFLAGS": f'"-mcpu={USERLANDS[bits].cpu}"',
        }
        config = tree / ".config"
        config.write_text(changed(config.read_text(), changes))
        progress.step("compiling busybox", total=_STEPS)
        make(tree, ["busybox", "busybox.links"], log, progress)
        made = (tree / "busybox").read_bytes(), (tree / "busybox.links").read_text().split()
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    log.unlink()
    return made


def changed(config: str, changes: dict[str, str]) -> str:
    """A Kconfig .config with some options set otherwise."""

    def set_to(key: str, value: str) -> str:
        # An option that is off must be said to be: one that is not named at all is asked about.
        return f"# {key} is not set" if value == "n" else f"{key}={value}"

    left, lines = dict(changes), []
    for line in config.splitlines():
        key = line.removeprefix("# ").partition(" is not set")[0].partition("=")[0]
        lines.append(set_to(key, left.pop(key)) if key in left else line)
    return "\n".join([*lines, *(set_to(key, value) for key, value in left.items()), ""])
