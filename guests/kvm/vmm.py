"""The monitor: a static program for Linux on the guest's word size, compiled from the C files beside this one."""

import hashlib
from pathlib import Path

from powervisor.guests import debian
from powervisor.guests.catalogue import Artifact
from powervisor.guests.linux import TARGETS
from powervisor.guests.progress import Progress

_SOURCES = Path(__file__).parent
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-static", "-pthread")


def artifact(bits: int) -> Artifact:
    """The monitor for 32- or 64-bit kernels; its name changes with its sources."""
    text = b"".join(path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]")))
    return Artifact(f"vmm{bits}-{hashlib.sha256(text).hexdigest()[:12]}", "kvm.vmm", str(bits))


def installed(bits: str) -> Path | None:
    """No system package has it."""
    return None


def build(bits: str, path: Path, work: Path, progress: Progress) -> None:
    """Compile it. Raises UserError."""
    target = TARGETS[int(bits)]
    debian.require(target.packages, progress)
    progress.step("compiling")
    sources = map(str, sorted(_SOURCES.glob("*.c")))
    debian.run([f"{target.prefix}gcc", *_FLAGS, *sources, "-o", str(path)], "compiling the monitor")
