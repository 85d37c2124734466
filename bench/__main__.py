"""Run the benchmark: python -m bench [-cores e500mc,e5500] [-vmms qemu,powervisor] ..."""

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path

from bench import machines, programs, report
from powervisor.cli.main import Status, guarded
from powervisor.cli.options import Parser
from powervisor.errors import UserError
from powervisor.guests import catalogue


def main(words: list[str]) -> int:
    """Measure and print; status 1 when results differ between platforms."""
    parser = Parser("bench", "Benchmark programs and boots under several VMMs, turn by turn on the same machine.")
    parser.prog = "python -m bench"
    parser.option("-cores", default="e500mc,e5500", metavar="LIST", help=f"of {', '.join(programs.CORES)}")
    parser.option("-vmms", default="qemu,powervisor", metavar="LIST", help="compared: the last with the first")
    parser.option("-compare", metavar="REVISION", help="this tree with another revision (instead of -vmms)")
    parser.option("-only", default="", metavar="LIST", help=f"of {', '.join(programs.PROGRAMS)}; none: boots only")
    parser.option("-rounds", type=int, default=3, metavar="N", help="measurements of everything; the median counts")
    parser.option("-percent", type=int, default=100, metavar="P", help="of the programs' usual work")
    parser.option("-smp", default="1", metavar="N", help="CPUs of the machines")
    parser.option("-m", dest="memory", default="512", metavar="SIZE", help="RAM of the machines")
    parser.option("-json", metavar="FILE", help="write everything measured there")
    parser.option("-sources", metavar="DIR", help="where the programs' sources are")
    options = parser.parse(words)
    if options.rounds < 1 or options.percent < 1:
        raise UserError("-rounds and -percent must be at least 1")
    cores = [_core(name) for name in options.cores.split(",")]
    names = options.vmms.split(",") if options.compare is None else [f"powervisor@{options.compare}", "powervisor"]
    results = []
    with machines.vmms(names) as vmms, tempfile.TemporaryDirectory(prefix="powervisor-bench-") as scratch:
        for core in cores:
            results.append(_measure(core, vmms, options, Path(scratch)))
            report.show(results[-1])
    if options.json:
        Path(options.json).write_text(json.dumps([result.json() for result in results], indent=1) + "\n")
    return Status.USER if report.differences(results) else Status.OK


def _core(name: str) -> programs.Core:
    if name not in programs.CORES:
        raise UserError(f"-cores {name}: no such core; there are {', '.join(programs.CORES)}")
    return programs.CORES[name]


def _measure(
    core: programs.Core, vmms: list[machines.Vmm], options: argparse.Namespace, scratch: Path
) -> report.CoreResult:
    only, rounds, percent = options.only, options.rounds, options.percent
    guest = catalogue.get(core.guest)
    kernel, initrd = catalogue.build(guest)
    console = guest.options["append"]
    result = report.CoreResult(core.name, [vmm.label for vmm in vmms])

    def job(ram_disk: Path, words: str) -> machines.Job:
        smp, memory = options.smp, options.memory
        return machines.Job(core.name, smp, memory, kernel, ram_disk, f"{console} {words} ")

    boot = job(initrd, "stop")
    for turn in range(rounds):
        for vmm in vmms:
            times = result.boots.setdefault(vmm.label, {})
            for temperature in ("cold", "warm") if vmm.caches else ("warm",):
                _say(f"{core.name}: boot {turn + 1} of {rounds}, {vmm.label}, {temperature}")
                measured = machines.run(vmm, boot, machines.BOOTED, cold=temperature == "cold")
                times.setdefault(temperature, []).append(measured.boot)
    if only == "none":
        return result
    chosen = only.split(",") if only else []
    source, cache = programs.sources(options.sources), catalogue.cache() / "bench"
    compiled = programs.compile_for(core, programs.suite(core, chosen), source, cache)
    _say("programs on this host")
    result.native = programs.run_here(programs.compile_for(None, programs.suite(None, chosen), source, cache), percent)
    ram_disk = scratch / f"{core.name}.cpio.gz"
    # The kernel unpacks one archive after the other; the second adds to the first.
    ram_disk.write_bytes(initrd.read_bytes() + gzip.compress(programs.overlay(compiled, percent), 1))
    work = job(ram_disk, "run=/bench/run stop")
    for turn in range(rounds):
        for vmm in vmms:
            _say(f"{core.name}: programs {turn + 1} of {rounds}, {vmm.label}")
            result.runs.setdefault(vmm.label, []).append(machines.run(vmm, work, programs.DONE))
    return result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(guarded("bench", main, sys.argv[1:]))
