"""What measuring costs: python -m bench.overhead [-rounds 10] [-with "-stat FILE"]

Boots Linux, and runs programs in it, without and with options of `powervisor run`, turn by turn. Compared is the
processor time of the whole process, which other work on the host changes less than times do: the median of the ratios
of neighbours, and its quartiles.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import compiling, machines, programs
from bench.machines import Job, Vmm
from bench.programs import CORES, DONE, Sources
from powervisor.cli.main import Status, guarded
from powervisor.cli.options import Parser, table
from powervisor.errors import UserError
from powervisor.guests import catalogue

OPEN = "console=ttyS0"


def main(words: list[str]) -> int:
    """Measure and print."""
    parser = Parser("overhead", "Processor time of boots and programs with options of powervisor run, and without.")
    parser.prog = "python -m bench.overhead"
    parser.option("-core", choices=sorted(CORES), default="e500mc", help="the core; e500mc")
    parser.option("-only", default="boot,sort,lz", metavar="LIST", help="boot, and names of programs; boot,sort,lz")
    parser.option("-with", dest="more", default="-stat {scratch}/stat.json", metavar="OPTIONS", help="-stat FILE")
    parser.option("-rounds", type=int, default=10, metavar="N", help="pairs of runs; 10")
    parser.option("-percent", type=int, default=100, metavar="P", help="of the programs' usual work; 100")
    options = parser.parse(words)
    if options.rounds < 1 or options.percent < 1:
        raise UserError("-rounds and -percent must be at least 1")
    core, sources = CORES[options.core], Sources(None)
    names = options.only.split(",")
    for name in names:
        if name != "boot" and name not in programs.PROGRAMS:
            raise UserError(f"-only {name}: there are boot, {', '.join(programs.PROGRAMS)}")
    kernel, initrd = (path.resolve() for path in catalogue.build(catalogue.get(core.guest)))
    rows: list[tuple[str, ...]] = [("", "without, s", "with, s", "ratio", "quartiles")]
    with (
        tempfile.TemporaryDirectory(prefix="powervisor-overhead-") as scratch,
        machines.vmms(["powervisor"], catalogue.cache().resolve() / "bench" / "cache") as (vmm,),
    ):
        more = shlex.split(options.more.replace("{scratch}", scratch))
        for name in names:
            job = Job(core.name, "1", "512", kernel, initrd, f"{OPEN} stop ")
            if name != "boot":
                chosen = [programs.PROGRAMS[name]]
                compiled = compiling.compile_for(core, chosen, sources, catalogue.cache() / "bench")
                disk = Path(scratch) / f"{name}.cpio.gz"
                disk.write_bytes(compiling.ram_disk(initrd, chosen, compiled, options.percent))
                job = replace(job, initrd=disk, append=f"{OPEN} run=/bench/run stop ")
            wanted = machines.BOOTED if name == "boot" else DONE
            _processor_seconds(vmm, job, (), wanted)  # fills the cache
            pairs = []
            for turn in range(options.rounds):
                print(f"{name}: {turn + 1} of {options.rounds}", end="\r", file=sys.stderr)
                both = [_processor_seconds(vmm, job, given, wanted) for given in ((), more)[:: -1 if turn % 2 else 1]]
                pairs.append(both[:: -1 if turn % 2 else 1])
            rows.append(_row(name, pairs))
    print(table(rows))
    return Status.OK


def _row(name: str, pairs: Sequence[Sequence[float]]) -> tuple[str, ...]:
    ratios = [after / before for before, after in pairs]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    before, after = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    return name, f"{before:.3f}", f"{after:.3f}", f"{quartiles[1]:.3f}", f"{quartiles[0]:.3f} .. {quartiles[2]:.3f}"


def _processor_seconds(vmm: Vmm, job: Job, more: Sequence[str], wanted: str) -> float:
    """What one run takes of the host's processors until the guest has powered off. Raises UserError."""
    with tempfile.TemporaryFile("w+", errors="replace") as console:
        process = subprocess.Popen(
            [*vmm.command, *job.options(), *more], env={**os.environ, **vmm.environment}, cwd=vmm.directory,
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        console.seek(0)
        output = console.read()
    if process.returncode != Status.OK or wanted not in output:
        tail = "\n".join(output.splitlines()[-8:])
        raise UserError(f"{wanted} did not come; the last lines were:\n{tail}")
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(guarded("bench.overhead", main, sys.argv[1:]))
