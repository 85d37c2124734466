"""Run the benchmark: python -m bench [-cores e500mc,e5500] [-only integer,boot] ..."""

import json
import sys
import tempfile
from pathlib import Path

from bench import machines, measure, programs, report, tables
from bench.peer import Peer
from bench.programs import Kind, Sources
from powervisor.cli.main import Status, guarded
from powervisor.cli.options import Parser
from powervisor.errors import UserError
from powervisor.guests import catalogue

DOCUMENT = machines.TREE / "docs" / "benchmarks.md"
RESULTS = machines.TREE / "build" / "bench.json"


def main(words: list[str]) -> int:
    """Measure and print; status 1 when results are wrong anywhere."""
    parser = Parser("bench", "Benchmark programs and boots under several VMMs, turn by turn on the same machine.")
    parser.prog = "python -m bench"
    named = [*(kind.value for kind in Kind), *measure.MEASURES]
    parser.option("-cores", default=",".join(programs.CORES), metavar="LIST", help="of the cores; all")
    parser.option("-only", default="", metavar="LIST", help=f"of {', '.join(named)} and programs' names; everything")
    parser.option("-vmms", metavar="LIST", help="compared: the last with the first; qemu,powervisor if there is QEMU")
    parser.option("-compare", metavar="REVISION", help="this tree with another revision (instead of -vmms)")
    parser.option("-rounds", type=int, default=3, metavar="N", help="measurements of everything; the median counts; 3")
    parser.option("-percent", type=int, default=100, metavar="P", help="of the programs' usual work; 100")
    parser.option("-m", dest="memory", default=measure.MEMORY, metavar="SIZE", help="RAM of the machines; 512")
    parser.option("-sources", metavar="DIR", help="more programs, if not ../shared/bench")
    parser.option(
        "-json", default=str(RESULTS), metavar="FILE", help="where everything measured goes; build/bench.json"
    )
    parser.option("-document", metavar="FILE", help="write the tables there; docs/benchmarks.md if nothing is left out")
    options = parser.parse(words)
    if options.rounds < 1 or options.percent < 1:
        raise UserError("-rounds and -percent must be at least 1")
    cores = [_core(name) for name in options.cores.split(",")]
    sources = Sources(options.sources)
    choice = measure.choose(options.only, sources, options.rounds, options.percent, options.memory)
    names = _vmms(options.vmms, options.compare)
    whole = choice.whole and len(cores) == len(programs.CORES) and names == ["qemu", "powervisor"]
    document = options.document or (whole and DOCUMENT)
    for path in filter(None, (options.json, document)):
        _check_writable(Path(path))
    conditions = tables.host()
    results: list[report.CoreResult] = []

    def done(result: report.CoreResult) -> None:
        results.append(result)
        everything = {"host": conditions, "rounds": options.rounds, "cores": [result.json() for result in results]}
        Path(options.json).write_text(json.dumps(everything, indent=1) + "\n")

    cache = catalogue.cache().resolve() / "bench" / "cache"
    try:
        with (
            machines.vmms(names, cache) as vmms,
            tempfile.TemporaryDirectory(prefix="powervisor-bench-") as scratch,
            Peer() as peer,
        ):
            plans = [measure.CoreMeasurement(core, vmms, choice, sources, Path(scratch), peer.port) for core in cores]
            measure.measure(plans, done)
    finally:  # a run that is broken off has been worth something too
        for result in results:
            tables.show(result)
    if document:
        Path(document).write_text(tables.document(results, conditions, options.rounds))
        print(f"written: {document}", file=sys.stderr)
    print(f"written: {options.json}", file=sys.stderr)
    return Status.USER if report.differences(results) else Status.OK


def _check_writable(path: Path) -> None:
    """Before anything is measured. Raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def _core(name: str) -> programs.Core:
    if name not in programs.CORES:
        raise UserError(f"-cores {name}: no such core; there are {', '.join(programs.CORES)}")
    return programs.CORES[name]


def _vmms(chosen: str | None, revision: str | None) -> list[str]:
    """The VMMs to compare, the one that is judged last."""
    if chosen is not None and revision is not None:
        raise UserError(
            "-vmms and -compare: leave one of the two out; -compare REVISION is powervisor@REVISION,powervisor"
        )
    if revision is not None:
        if not revision:
            raise UserError("-compare: name a revision, such as HEAD~3")
        return [f"powervisor@{revision}", "powervisor"]
    if chosen is not None:
        return chosen.split(",")
    if not machines.qemu_installed():
        print(f"bench: {machines.QEMU} is not installed; measuring Powervisor alone", file=sys.stderr)
        return ["powervisor"]
    return ["qemu", "powervisor"]


if __name__ == "__main__":
    sys.exit(guarded("bench", main, sys.argv[1:]))
