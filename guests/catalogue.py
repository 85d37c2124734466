"""The guests by name: what a machine needs to boot each, where its files are, and who makes them.

Files are looked for in $POWERVISOR_GUESTS, in ../shared/guests beside a source tree, in the cache
($POWERVISOR_CACHE, or powervisor under $XDG_CACHE_HOME), and where an administrator has put them for all; they are
built into the cache.
"""

import fcntl
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import powervisor
from powervisor.boards import registry
from powervisor.boards.hypervisor import has_uarts
from powervisor.cache.place import root, shared
from powervisor.errors import UserError
from powervisor.isa import cores


@dataclass(frozen=True)
class Artifact:
    """A file of a guest; `powervisor.guests.<builder>` has `build(argument, path, work, progress)` and `installed`."""

    name: str
    builder: str
    argument: str
    packed: bool = False
    """Made of other artifacts, which its builder's `parts(argument)` are, in a moment: anew for every use."""

    def parts(self) -> Sequence["Artifact"]:
        """What must be there before it is made."""
        found: Sequence[Artifact] = self._module().parts(self.argument) if self.packed else ()
        return found

    def installed(self) -> Path | None:
        """Where the system has this file already, without our doing."""
        found: Path | None = self._module().installed(self.argument)
        return found

    def build(self, path: Path, work: Path, progress: Any) -> None:
        """Make the file at `path`; `work` is a directory for what is needed on the way."""
        self._module().build(self.argument, path, work, progress)

    def _module(self) -> Any:
        return importlib.import_module(f"powervisor.guests.{self.builder}")


@dataclass(frozen=True)
class Guest:
    """A guest: the machine options it wants, as keywords of `Machine`; `files` become such keywords too.

    `program` is a package of `powervisor.guests` that has `image(bits)`, the kernel's file for cores of 32 or 64 bits.
    """

    name: str
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Artifact] = field(default_factory=dict)
    program: str | None = None
    needs: frozenset[str] = frozenset()
    """"64": a core of 64 bits; "uart": serial lines that are UARTs; "ehv": a core with category E.HV."""


def _linux(name: str, cpu: str, bits: int, summary: str) -> Guest:
    files = {
        "kernel": Artifact(f"uImage-{name}", "linux.kernel", name),
        "initrd": Artifact(f"initramfs{bits}.cpio.gz", "linux.initramfs", str(bits)),
    }
    return Guest(name, summary, {"cpu": cpu, "cores": 2, "append": "console=ttyS0"}, files, needs=_width(bits))


def _width(bits: int) -> frozenset[str]:
    return frozenset({"64"} if bits == 64 else ())


def _kvm(name: str, cpu: str, bits: int) -> Guest:
    files = {
        "kernel": Artifact(f"uImage-{name}", "linux.kernel", name),
        "initrd": Artifact(f"kvm-{name}.cpio.gz", "kvm.guest", name, packed=True),
    }
    options = {"cpu": cpu, "cores": 2, "append": "console=ttyS0 run=/kvm/run"}
    summary = f"{name}, whose KVM boots another {name} (docs/kvm.md)"
    return Guest(f"kvm-{name}", summary, options, files, needs=_width(bits) | {"ehv"})


GUESTS = {
    guest.name: guest
    for guest in (
        Guest("builtin", "bare-metal test program inside the package: timer, interrupts, SMP, a prompt"),
        _linux("k32", "e500mc", 32, "Linux 6.1, 32-bit SMP, for e500mc; a shell from busybox (also called linux)"),
        _linux("k64", "e5500", 64, "Linux 6.1, 64-bit SMP, for e5500"),
        _linux("k64av", "e6500", 64, "Linux 6.1, 64-bit SMP with AltiVec, for e6500"),
        _kvm("k32", "e500mc", 32), _kvm("k64", "e5500", 64), _kvm("k64av", "e6500", 64),
        Guest("uboot", "U-Boot for the ppce500 board", {"cpu": "e500mc"},
              {"bios": Artifact("uboot.elf", "uboot", "uboot.elf")}, needs=frozenset({"uart"})),
        Guest("hypervisor-demo", "a small hypervisor that shows two partitions what E.HV is (docs/hypervisor)",
              {"no_reboot": True}, program="hypervisor_demo", needs=frozenset({"uart", "ehv"})),
    )
}  # fmt: skip
ALIASES = {"linux": "k32"}


def get(name: str) -> Guest:
    """The guest `name`. Raises UserError with the nearest names."""
    import difflib

    guest = GUESTS.get(ALIASES.get(name, name))
    if guest is None:
        known = [*GUESTS, *ALIASES]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        raise UserError(f"-guest {name}: no such guest; there is {', '.join(near)}")
    return guest


def cache() -> Path:
    """The directory into which guests are built."""
    return root() / "guests"


def places() -> list[Path]:
    """The directories in which guests are looked for; what is built, into our own, comes before what all have."""
    found = []
    if chosen := os.environ.get("POWERVISOR_GUESTS"):
        found.append(Path(chosen))
    tree = Path(powervisor.__file__).resolve().parent.parent
    if (tree / "pyproject.toml").exists():
        found.append(tree.parent / "shared" / "guests")
    found.append(cache())
    if (prepared := shared("guests")) is not None:
        found.append(prepared)
    return found


def locate(artifact: Artifact) -> Path | None:
    """Where the file is, or None when it has to be built."""
    for place in places():
        if (path := place / artifact.name).is_file():
            return path
    return artifact.installed()


def where(guest: Guest) -> str:
    """For a list: the places of the guest's files, or that it is not built."""
    found = [locate(artifact) for artifact in guest.files.values()]
    if None in found:
        return f"not built yet (powervisor guests build {guest.name})"
    directories = dict.fromkeys(str(path.parent) for path in found if path is not None)
    return ", ".join(directories) or "ready"


def build(guest: Guest, force: bool = False) -> list[Path]:
    """The guest's files, in the order of `guest.files`; those that are missing are built. Raises UserError.

    With `force` all are built anew, into the cache, even where they were found elsewhere.
    """
    return [_made(artifact, guest.name, force) for artifact in guest.files.values()]


def machine_arguments(guest: Guest, given: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Keywords for `Machine` that boot `guest` where `given` wins; builds what is missing.

    Raises UserError for a machine on which the guest would be silent.
    """
    board = registry.get(given.get("board", registry.DEFAULT))
    core = cores.get(given.get("cpu", guest.options.get("cpu", board.default_core)))
    if "64" in guest.needs and core.bits == 32:
        raise UserError(f"-guest {guest.name}: it is for cores of 64 bits, {core.name} has 32; leave -cpu out")
    if "ehv" in guest.needs and board.hypercalls:
        raise UserError(f"-guest {guest.name}: it needs category E.HV, which hypervisor=on hides; leave that out")
    if "uart" in guest.needs and not has_uarts(board):
        raise UserError(f"-guest {guest.name}: it knows UARTs only; add serial=uart after hypervisor=on")
    arguments = {**guest.options, **dict(zip(guest.files, map(str, build(guest)), strict=True))}
    if guest.program is not None:
        module = importlib.import_module(f"powervisor.guests.{guest.program}")
        arguments["kernel"] = str(module.image(core.bits))
    return arguments


def _made(artifact: Artifact, name: str, force: bool) -> Path:
    for part in artifact.parts():
        _made(part, name, False)

    def ready() -> Path | None:
        return None if force or artifact.packed else locate(artifact)

    return ready() or _build(artifact, name, ready)


def _build(artifact: Artifact, name: str, ready: Callable[[], Path | None]) -> Path:
    from powervisor.guests.progress import Progress

    directory = cache()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot build guests there ({error.strerror}); set POWERVISOR_CACHE") from None
    with _alone(directory / "lock"), _ended_by_sigterm():
        if (path := ready()) is not None:
            return path  # another process has built it while we waited
        path = directory / artifact.name
        partial = path.with_name(f".{path.name}.partial")
        with Progress(f"{name}: {artifact.name}") as progress:
            artifact.build(partial, directory / "work", progress)
        partial.replace(path)
    return path


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind a build, so that its compilers end and its trees are removed; Ctrl-C does so anyway."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock among processes: two builds in one directory would spoil each other."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
