"""The options of `powervisor run` that look at what the guest does: traces, timelines, profiles, coverage."""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from powervisor.cli.options import Once, Parser, parse_number, table
from powervisor.errors import UserError
from powervisor.properties import listing

if TYPE_CHECKING:
    from powervisor import Machine
    from powervisor.analysis.symbols import Symbols

OPTION_NAMES = {
    "trace": "-trace", "trace_json": "-trace-json", "profile": "-profile", "coverage": "-coverage",
    "symbols": "-symbols",
}  # fmt: skip
"""What these are called in messages."""


def add_analysis_options(parser: Parser) -> None:
    """-trace -trace-json -profile -coverage -symbols on `parser`."""
    parser.option(
        "-trace",
        dest="traces",
        action="append",
        default=[],
        metavar="EVENTS",
        help="tell what happens: mmio,irq,...[,device=D][,cpu=N][,address=FIRST-LAST][,file=F] (help: list)",
    )
    parser.option(
        "-trace-json",
        action=Once,
        metavar="FILE",
        help="CPUs, exits, interrupts and devices over time, for ui.perfetto.dev",
    )
    parser.option(
        "-profile",
        action=Once,
        metavar="FILE",
        help="where the guest spends its time: collapsed stacks, or a flame graph as F.svg",
    )
    parser.option("-profile-hz", metavar="N", help="samples a second of -profile; default 997")
    parser.option(
        "-coverage",
        action="append",
        default=[],
        metavar="FILE",
        help="what code was executed: for drcov, or for lcov as F.info (needs -g)",
    )
    parser.option(
        "-symbols",
        action="append",
        default=[],
        metavar="FILE",
        help="an ELF file with names of guest addresses: FILE[,base=N][,pid=N][,lpid=N]; default the -kernel",
    )


def analysis_help(options: argparse.Namespace) -> str | None:
    """The text of `-trace help`, if that was asked for."""
    if not any(text in ("help", "?") for text in options.traces):
        return None
    from powervisor.analysis.options import TraceOptions

    return table([("  " + first, text) for first, text in listing(TraceOptions)])


def check_analysis(options: argparse.Namespace) -> None:
    """What is wrong with the options themselves is told before anything is opened or built. Raises UserError."""
    if options.traces:
        from powervisor.analysis.options import TraceOptions

        for text in options.traces:
            TraceOptions.parse(text)
    if options.profile_hz is not None and options.profile is None:
        raise UserError("-profile-hz: there is nothing to sample for; add -profile FILE")
    if options.profile_hz is not None:
        from powervisor.analysis.profile import check_hz

        check_hz(parse_number(options.profile_hz, "-profile-hz"))


def start_analyses(
    options: argparse.Namespace, machine: "Machine", say: Callable[[str], None], stack: ExitStack
) -> None:
    """Begin what was asked for; `stack` ends it. Lines without a file of their own go to `say`. Raises UserError."""
    if not (options.traces or options.trace_json or options.profile or options.coverage):
        return
    symbols = symbols_of(options, machine, say)
    if options.traces:
        from powervisor.analysis.running import traces
        from powervisor.analysis.trace import Trace

        for text in options.traces:
            trace = Trace(machine, text, symbols, say)
            traces(machine).append(trace)
            if trace.options.unknown:
                machine.unknown.silence()
            stack.callback(trace.close)
    if options.coverage:
        from powervisor.analysis.coverage import Coverage

        stack.callback(Coverage(machine, options.coverage, symbols).close)
    if options.profile is not None:
        from powervisor.analysis.profile import DEFAULT_HZ, Profile

        hz = DEFAULT_HZ if options.profile_hz is None else parse_number(options.profile_hz, "-profile-hz")
        stack.callback(Profile(machine, options.profile, symbols, hz).close)
    if options.trace_json is not None:
        from powervisor.analysis.timeline import Timeline

        stack.callback(Timeline(machine, options.trace_json, symbols).close)


def symbols_of(options: argparse.Namespace, machine: "Machine", say: Callable[[str], None]) -> "Symbols":
    """-symbols, or what was booted as far as it has symbols; `say` gets a line about files that are others now."""
    from powervisor.analysis.symbols import Symbols
    from powervisor.machine.programs import Program

    if options.symbols:
        return Symbols(options.symbols)
    booted = [Program(*program) for program in machine.options["programs"]]
    for program in booted:
        if not program.unchanged:
            say(f"{program.path}: not the file that was booted any more; name its symbols: -symbols FILE")
    return Symbols.of_programs([_with_symbols(program.path) for program in booted if program.unchanged])


def _with_symbols(path: str | os.PathLike[str]) -> Path:
    """The vmlinux that `powervisor guests build` leaves beside a uImage, which has no symbols; else the file itself."""
    image = Path(path)
    linked = image.with_name(image.name.replace("uImage", "vmlinux"))
    return linked if linked.exists() else image
