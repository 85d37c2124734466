"""Running a source tree's make: its steps counted, its output kept in a file, its first error told."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from powervisor.errors import UserError
from powervisor.guests.progress import Progress


def make(tree: Path, words: Sequence[str], log: Path, progress: Progress | None = None) -> None:
    """Run make in `tree`. Raises UserError naming the first error and `log`, which has everything."""
    # Lowest priority: the user goes on working while a kernel is built.
    command = ["nice", "-n", "19", "make", f"-j{len(os.sched_getaffinity(0))}", *words]
    # A make that called us has its own flags and job server in the environment; they are not for this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    environment["LC_ALL"] = "C"
    complaint = ""
    with open(log, "a", buffering=1) as file, subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                if progress is not None and line.startswith("  "):
                    progress.advance()  # kbuild's "  CC      init/main.o"
                if not complaint and ("error:" in line.lower() or "***" in line):
                    complaint = line.strip()
        except BaseException:
            process.terminate()  # make ends its children
            raise
    if process.returncode != 0:
        raise UserError(f"make {words[-1]} failed: {complaint or 'no reason was given'}; everything is in {log}")


def unpack(archive: Path, target: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Unpack a tar archive into `target`, without its top directory; `wanted` chooses by the name inside."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            member.name = member.name.partition("/")[2]
            if not member.name or not wanted(member.name):
                continue
            if member.islnk():
                member.linkname = member.linkname.partition("/")[2]
            tar.extract(member, target, filter="data")
