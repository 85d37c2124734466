"""The programs that run virtual machines, all given the same command line in QEMU's words."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.programs import Score, score_in
from powervisor.errors import UserError
from powervisor.guests import debian

BOOTED = "BOOT-OK"
QEMU = "qemu-system-ppc64"
_BUILDING = 120.0  # seconds the translator's image may take
_TIMEOUT = 1200.0  # seconds a whole run may take
_ENDING = 10.0  # seconds between asking a VMM to end and making it
TREE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Vmm:
    """A way to start a machine."""

    label: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    """Where it is started: Python imports from there before anywhere else."""
    cache: Path | None = None
    """What it keeps between runs, so that a cold start differs from a warm one."""

    def with_cache(self, cache: Path) -> "Vmm":
        """The same VMM with another cache."""
        return replace(self, cache=cache, environment={**self.environment, "POWERVISOR_CACHE": str(cache)})


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
    initrd: Path | None = None
    append: str | None = None
    drive: Path | None = None
    """The image of a virtio disk."""
    network: bool = False
    """Whether there is a virtio network card, from which the guest reaches its host."""

    def options(self) -> list[str]:
        """QEMU's words for it."""
        words = ["-M", "ppce500", "-cpu", self.cpu, "-smp", self.smp, "-m", self.memory, "-nographic", "-no-reboot"]
        words += ["-kernel", str(self.kernel)]
        words += ["-initrd", str(self.initrd)] if self.initrd is not None else []
        words += ["-drive", f"file={self.drive},format=raw,if=virtio"] if self.drive is not None else []
        words += ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"] if self.network else []
        return words + (["-append", self.append] if self.append is not None else [])


def qemu_installed() -> bool:
    """Whether there is something to compare with."""
    return shutil.which(QEMU) is not None


@contextmanager
def vmms(names: Sequence[str], cache: Path) -> Iterator[list[Vmm]]:
    """The machines called `qemu`, `powervisor`, `powervisor@REVISION` (checked out meanwhile). Raises UserError.

    Ours keep their images in `cache`: each finds its own there, whatever its revision.
    """
    with tempfile.TemporaryDirectory(prefix="powervisor-bench-") as scratch:
        found: list[Vmm] = []
        trees: list[Path] = []
        try:
            for name in names:
                label = name if name not in names[: len(found)] else f"{name}#{len(found) + 1}"
                kind, _, revision = name.partition("@")
                if kind == "qemu" and not revision:
                    # Network cards, the board's default one too, need ROM files that Debian packages elsewhere.
                    words = ("-nic", "none", "-global", "virtio-net-pci.romfile=")
                    found.append(Vmm(label, (_qemu(), *words)))
                elif kind == "powervisor":
                    tree = TREE
                    if revision:
                        tree = Path(scratch) / f"tree{len(found)}"
                        debian.run(
                            ["git", "worktree", "add", "--detach", str(tree), revision],
                            f"checking out {name}",
                            cwd=TREE,
                        )
                        trees.append(tree)
                    command = (sys.executable, "-m", "powervisor", "run")
                    # Python keeps what it compiled, as it does for users, also where whoever calls this told it not to.
                    vmm = Vmm(label, command, {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": ""}, tree)
                    found.append(vmm.with_cache(cache))
                else:
                    raise UserError(f"-vmms {name}: known are qemu, powervisor and powervisor@REVISION")
            yield found
        finally:
            for tree in trees:
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=TREE, capture_output=True)


def _qemu() -> str:
    path = shutil.which(QEMU)
    if path is None:
        raise UserError(f"-vmms qemu: {QEMU} is not installed; sudo apt-get install qemu-system-ppc")
    return path


@contextmanager
def started(vmm: Vmm, words: Sequence[str], timeout: float = _TIMEOUT) -> Iterator["subprocess.Popen[str]"]:
    """A VMM's process with its output as text; it is asked to end, and made to, afterwards."""
    with subprocess.Popen(
        words, env={**os.environ, **vmm.environment}, cwd=vmm.directory, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        alarm = threading.Timer(timeout, process.kill)
        alarm.start()
        try:
            yield process
        finally:
            alarm.cancel()
            process.terminate()
            try:
                process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                process.kill()


def run(
    vmm: Vmm, job: Job, wanted: str,
    heard: Callable[[Score], None] = lambda score: None, line_seen: Callable[[str, int], None] = lambda line, pid: None,
) -> Run:  # fmt: skip
    """Boot `job` until a line begins with `wanted`, and time it; `heard` gets each score as it comes.

    `line_seen` gets each line, and the process's number. Raises UserError, with the last lines of the console, when
    that line does not come.
    """
    begin = time.monotonic()
    boot, lines, scores, seen = None, list[str](), list[Score](), False
    with started(vmm, [*vmm.command, *job.options()]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if boot is None and line.startswith(BOOTED):
                boot = time.monotonic() - begin
            line_seen(line, process.pid)
            if (score := score_in(line)) is not None:
                scores.append(score)
                heard(score)
            if line.startswith(wanted):
                seen = True
                break
    if boot is None or not seen:
        tail = "\n".join(line.rstrip() for line in lines[-12:])
        raise UserError(f"{vmm.label}: {wanted} did not come; its last lines were:\n{tail}")
    return Run(boot, scores)


def boot_cold(vmm: Vmm, job: Job) -> float:
    """Seconds to BOOT-OK with an empty cache; what the start has set going is waited for."""
    with tempfile.TemporaryDirectory(prefix="powervisor-bench-cold-") as scratch:
        cold = vmm.with_cache(Path(scratch) / "cache")
        boot = run(cold, job, BOOTED).boot
        wait_for_builders(cold)
        return boot


def wait_for_builders(vmm: Vmm) -> None:
    """A start without an image leaves a process that builds it: the next measurement must not meet it."""
    until = time.monotonic() + _BUILDING
    while vmm.cache is not None and _at_work_in(vmm.cache) and time.monotonic() < until:
        time.sleep(0.2)


def _at_work_in(directory: Path) -> bool:
    """Whether the command line of any process names a file below a directory."""
    wanted = os.fsencode(f"{directory}/")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in path.read_bytes():
                return True
        except OSError:
            continue  # it has ended meanwhile
    return False


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_share(vmm: Vmm, job: Job, seconds: int) -> float:
    """The share of a host CPU that an idle guest takes; `job` is a Linux whose `run=` is free."""
    marks: list[tuple[float, float]] = []

    def note(line: str, pid: int) -> None:
        if line.startswith("IDLE-"):
            marks.append((time.monotonic(), cpu_seconds(pid)))

    words = f"{job.append} run=sleep+2;echo+IDLE-BEGIN;sleep+{seconds};echo+IDLE-END stop "
    run(vmm, replace(job, append=words), "IDLE-END", line_seen=note)
    (begin, used), (end, used_then) = marks
    return (used_then - used) / (end - begin)
