"""uImages of Debian's Linux source, trimmed to what the boards have."""

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

from powervisor.errors import UserError
from powervisor.guests import debian
from powervisor.guests.archive import uimage
from powervisor.guests.linux import HOST_PACKAGES, TARGETS
from powervisor.guests.linux.make import make, unpack
from powervisor.guests.progress import Progress

SOURCE = "linux-source-6.1"
_TOOLS = ("bc", "bison", "flex", "perl")


@dataclass(frozen=True)
class Kernel:
    """A configuration, `common.config` and one more; `steps` is about how many commands its make prints."""

    bits: int
    steps: int


KERNELS = {"k32": Kernel(32, 1250), "k64": Kernel(64, 1300), "k64av": Kernel(64, 1300)}


def installed(name: str) -> Path | None:
    """No system package has these kernels."""
    return None


def build(name: str, path: Path, work: Path, progress: Progress) -> None:
    """Make the uImage of `KERNELS[name]`, and beside it vmlinux-NAME with its symbols for gdb. Raises UserError."""
    kernel = KERNELS[name]
    target = TARGETS[kernel.bits]
    debian.require((*HOST_PACKAGES, *_TOOLS, *target.packages), progress)
    tree, objects, log = work / SOURCE, work / name, path.with_name(f"{name}.log")
    log.unlink(missing_ok=True)
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    try:
        _source(work, tree, progress)
        progress.step("configuring")
        words = ["ARCH=powerpc", f"CROSS_COMPILE={target.prefix}", f"O={objects}", "KBUILD_BUILD_USER=powervisor",
                 "KBUILD_BUILD_HOST=powervisor"]  # fmt: skip
        wanted = configuration(name)
        fragment = objects / "wanted.config"
        fragment.write_text("\n".join(f"{key}={value}" for key, value in wanted.items()) + "\n")
        make(tree, [*words, f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"], log)
        _check(wanted, (objects / ".config").read_text(), name)
        progress.step("compiling", total=kernel.steps)
        make(tree, [*words, "vmlinux"], log, progress)
        progress.step("packing")
        binary = objects / "vmlinux.bin"
        debian.run([f"{target.prefix}objcopy", "-O", "binary", "-S", str(objects / "vmlinux"), str(binary)], "objcopy")
        symbols = path.with_name(f"vmlinux-{name}")
        debian.run([f"{target.prefix}objcopy", "-g", str(objects / "vmlinux"), str(symbols)], "objcopy")
        release = (objects / "include" / "config" / "kernel.release").read_text().strip()
        path.write_bytes(uimage(gzip.compress(binary.read_bytes(), 9, mtime=0), f"Linux-{release}"))
    finally:
        shutil.rmtree(objects, ignore_errors=True)
    # The tree is large and quickly unpacked again from the package, which stays.
    shutil.rmtree(tree, ignore_errors=True)
    log.unlink()


def configuration(name: str) -> dict[str, str]:
    """The options asked for, from `common.config` and `<name>.config`."""
    wanted: dict[str, str] = {}
    for part in ("common", name):
        for line in (Path(__file__).parent / f"{part}.config").read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition("=")
                wanted[key] = value
    return wanted


def _check(wanted: dict[str, str], config: str, name: str) -> None:
    """allnoconfig silently drops what depends on something missing; the kernel might have no console then."""
    have = dict(line.split("=", 1) for line in config.splitlines() if "=" in line and not line.startswith("#"))
    lost = [key for key, value in wanted.items() if have.get(key, "n") != value]
    if lost:
        raise UserError(f"{name}: this kernel source does not take {', '.join(lost)}; see guests/linux/*.config")


def _source(work: Path, tree: Path, progress: Progress) -> None:
    packages = sorted((work / SOURCE).parent.glob(f"{SOURCE}_*.deb"))
    if not packages:
        progress.step("downloading the kernel source (140 MB)")
        packages = [path.rename(work / path.name) for path in debian.download(SOURCE, work) if path.suffix == ".deb"]
    progress.step("unpacking the kernel source")
    unpacked = work / "deb"
    shutil.rmtree(unpacked, ignore_errors=True)
    debian.extract(packages[-1], unpacked)
    try:
        unpack(next(unpacked.glob("usr/src/*.tar.*")), tree, _needed)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _needed(name: str) -> bool:
    """Leave out half a gigabyte that no PowerPC build reads; Kconfig files are all read by every one."""
    if name.rpartition("/")[2].startswith(("Kconfig", "Makefile")):
        return True
    if name.startswith("arch/"):
        return name.startswith("arch/powerpc/") or name.count("/") == 1
    return not name.startswith(("Documentation/", "drivers/gpu/", "drivers/media/", "sound/", "tools/testing/"))
