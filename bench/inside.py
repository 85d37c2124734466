"""A Linux in a virtual machine of the guest's KVM: the same programs in the inner guest and in the outer one."""

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import compiling, machines
from bench.machines import Job, Vmm
from bench.programs import DONE, PROGRAMS, Core, Kind, Program, Score, Sources, score_in
from powervisor.guests.archive import Cpio
from powervisor.guests.kvm.ram_disk import RUN, WORDS, Inner, build

PERCENT = {Kind.INTEGER: 40, Kind.FLOAT: 100, Kind.SYSTEM: 10}
"""The kinds that run, and how much of their work: one boot takes about 40 seconds."""
_TRIPS = "/kvm/trips"
_READY, _NEXT = "INNER-READY", "INNER-DONE"
_INNER = "INNER "
_BOOT = re.compile(r"^INNER-BOOT ([\d.]+) ([\d.]+)")
_SERVE = f"""#!/bin/sh
stty -echo
echo {_READY}
while read -r line && [ "$line" ]; do $line; echo {_NEXT}; done
"""
"""What the inner guest does: a command for each line of its console."""


@dataclass
class Inside:
    """What one boot gave: scores of the outer and of the inner guest, and seconds until each was up."""

    outer: list[Score] = field(default_factory=list)
    inner: list[Score] = field(default_factory=list)
    outer_boot: float = 0.0
    """From the start of the VMM's process to BOOT-OK."""
    inner_boot: float = 0.0
    """From the start of the monitor's process, in the outer guest's time, until the inner one asks for commands."""


def suite(programs: Sequence[Program]) -> list[Program]:
    """The programs that run in both guests."""
    return [program for program in programs if program.kind in PERCENT]


def job(linux: Job, core: Core, programs: Sequence[Program], sources: Sources, cache: Path, scratch: Path) -> Job:
    """Boot `core`'s Linux with another one in its RAM disk, and let both run the programs by turns."""
    compiled = compiling.compile_for(core, programs, sources, cache)
    files = {f"bench/{name}": path.read_bytes() for name, path in compiled.items()}
    trips = compiling.compile_bare(PROGRAMS["trips"], 100, sources, cache)
    more = _archive({**files, "bench/serve": _SERVE.encode()})
    inner = Inner(core.guest, append=f"{WORDS} stop run=/bench/serve", more=more)
    disk = scratch / f"{core.name}-inside.cpio.gz"
    own = _archive({**files, "bench/run": _script(programs).encode()})
    disk.write_bytes(build(core.guest, inner, Inner(core.guest, program=trips, script=_TRIPS)) + own)
    return replace(linux, initrd=disk, append=f"{WORDS} run=/bench/run stop ")


def _archive(files: dict[str, bytes]) -> bytes:
    cpio = Cpio()
    for name, data in files.items():
        cpio.file(name, data, 0o755)
    return gzip.compress(cpio.data(), 1, mtime=0)


def _script(programs: Sequence[Program]) -> str:
    """What the outer guest does. The monitor's standard streams are the inner console."""
    lines = [
        "#!/bin/sh",
        f'await() {{ while read -r line <&4; do case $line in BENCH*|vmm:*) echo "{_INNER}$line" ;; esac',
        "case $line in $1*) return ;; esac; done; }",
        "mkfifo /tmp/in /tmp/out",
        "read -r begin rest </proc/uptime",
        f"{RUN} </tmp/in >/tmp/out 2>&1 &",
        "exec 3>/tmp/in 4</tmp/out",
        f"await {_READY}",
        "read -r end rest </proc/uptime",
        "echo INNER-BOOT $begin $end",
    ]
    for program in programs:
        command = " ".join(compiling.command(program, "/bench", None, PERCENT[program.kind]))
        lines += [command, f"echo {command} >&3", f"await {_NEXT}"]
    lines += ["echo >&3", "await vmm:", "wait"]
    lines += [f"{_TRIPS} </dev/null >/tmp/trips 2>&1", "exec 4</tmp/trips", "await vmm:"]
    return "\n".join([*lines, f"echo {DONE}", ""])


def run(vmm: Vmm, job: Job, heard: Callable[[Score], None] = lambda score: None) -> Inside:
    """Boot, and gather what both guests report. Raises UserError when they do not come to an end."""
    found = Inside()

    def seen(line: str, pid: int) -> None:
        if (match := _BOOT.match(line)) is not None:
            found.inner_boot = float(match[2]) - float(match[1])
        elif line.startswith(_INNER) and (score := score_in(line.removeprefix(_INNER))) is not None:
            found.inner.append(score)
            heard(score)

    done = machines.run(vmm, job, DONE, heard, seen)
    found.outer, found.outer_boot = done.scores, done.boot
    return found
