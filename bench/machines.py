"""The programs that run virtual machines, all given the same command line in QEMU's words."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.programs import Score, scores_in
from powervisor.errors import UserError
from powervisor.guests import debian

BOOTED = "BOOT-OK"
_BUILDING = 60.0  # seconds the translator's image may take
_TIMEOUT = 1200.0  # seconds a whole run may take
_TREE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Vmm:
    """A way to start a machine."""

    label: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    caches: bool = False
    """Whether it keeps translations between runs, so that a cold start differs from a warm one."""


@dataclass(frozen=True)
class Run:
    """What one boot gave: seconds from the start of the process to BOOT-OK, and the programs' scores."""

    boot: float
    scores: list[Score]


@dataclass(frozen=True)
class Job:
    """What to boot."""

    cpu: str
    smp: str
    memory: str
    kernel: Path
    initrd: Path
    append: str

    def options(self) -> list[str]:
        """QEMU's words for it."""
        return [
            "-M", "ppce500", "-cpu", self.cpu, "-smp", self.smp, "-m", self.memory, "-nographic", "-no-reboot",
            "-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", self.append,
        ]  # fmt: skip


@contextmanager
def vmms(names: Sequence[str]) -> Iterator[list[Vmm]]:
    """The machines called `qemu`, `powervisor`, `powervisor@REVISION` (checked out meanwhile). Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="powervisor-bench-") as scratch:
        found: list[Vmm] = []
        trees: list[Path] = []
        try:
            for name in names:
                label = name if name not in names[: len(found)] else f"{name}#{len(found) + 1}"
                kind, _, revision = name.partition("@")
                if kind == "qemu" and not revision:
                    # The board's default network card needs a ROM file that Debian packages elsewhere.
                    found.append(Vmm(label, (_qemu(), "-nic", "none")))
                elif kind == "powervisor":
                    tree = _TREE
                    if revision:
                        tree = Path(scratch) / f"tree{len(found)}"
                        trees.append(tree)
                        debian.run(["git", "worktree", "add", "--detach", str(tree), revision], name, cwd=_TREE)
                    # A cache of its own, so that neither the user's nor another revision's has any part in it.
                    environment = {"POWERVISOR_CACHE": f"{scratch}/cache{len(found)}", "PYTHONPATH": str(tree)}
                    command = (sys.executable, "-m", "powervisor", "run")
                    found.append(Vmm(label, command, environment, caches=True))
                else:
                    raise UserError(f"-vmms {name}: known are qemu, powervisor and powervisor@REVISION")
            yield found
        finally:
            for tree in trees:
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=_TREE, capture_output=True)


def _qemu() -> str:
    path = shutil.which("qemu-system-ppc64")
    if path is None:
        raise UserError("-vmms qemu: qemu-system-ppc64 is not installed; sudo apt-get install qemu-system-ppc")
    return path


def run(vmm: Vmm, job: Job, wanted: str, cold: bool = False) -> Run:
    """Boot `job` until it prints `wanted`, and time it. With `cold` the VMM's caches are emptied first.

    Raises UserError, with the last lines of the console, when that does not happen.
    """
    cache = vmm.environment.get("POWERVISOR_CACHE")
    if cold and cache:
        shutil.rmtree(cache, ignore_errors=True)
    begin = time.monotonic()
    with subprocess.Popen(
        [*vmm.command, *job.options()], env={**os.environ, **vmm.environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        alarm = threading.Timer(_TIMEOUT, process.kill)
        alarm.start()
        assert process.stdout is not None
        boot, lines, seen = None, [], False
        try:
            for line in process.stdout:
                lines.append(line)
                if boot is None and BOOTED in line:
                    boot = time.monotonic() - begin
                if wanted in line:
                    seen = True
                    break
        finally:
            alarm.cancel()
            process.kill()
    if boot is None or not seen:
        tail = "\n".join(line.rstrip() for line in lines[-12:])
        raise UserError(f"{vmm.label}: {wanted} did not come; its last lines were:\n{tail}")
    if cold and cache:
        _wait_for_image(Path(cache))
    return Run(boot, scores_in("".join(lines)))


def _wait_for_image(cache: Path) -> None:
    """A cold start leaves a process that builds the translator's image: the next measurement must not meet it."""
    images, until = cache / "images", time.monotonic() + _BUILDING
    while images.is_dir() and not list(images.glob("*.image")) and time.monotonic() < until:
        time.sleep(0.1)

