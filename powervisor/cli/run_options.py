"""All options of a machine that runs: those of `powervisor run` and of powervisor-system-ppc."""

from __future__ import annotations

from powervisor.cli.analysis import add_analysis_options
from powervisor.cli.machine_options import add_machine_options
from powervisor.cli.monitor import HELP
from powervisor.cli.options import Once, Parser
from powervisor.cli.qemu_options import add_qemu_options
from powervisor.cli.qmp import add_qmp_options


def add_run_options(parser: Parser) -> None:
    """Everything but guests by name on `parser`."""
    add_machine_options(parser)
    parser.option("-expect", metavar="TEXT", help="end with status 0 when TEXT comes on the first serial line")
    parser.option(
        "-timeout",
        metavar="SECONDS",
        help="end with status 124 that long after the start of this command, building included",
    )
    parser.option(
        "-S", dest="held", action="store_true", help="do not start the vCPUs: gdb's continue does, and the monitor's"
    )
    parser.option("-gdb", metavar="WHERE", help="let gdb connect: tcp::PORT (this host only), tcp:HOST:PORT, unix:PATH")
    parser.option("-s", dest="gdb", action="store_const", const="tcp::1234", help="the same as -gdb tcp::1234")
    add_qmp_options(parser)
    parser.option("-loadvm", action=Once, metavar="FILE", help="go on from a snapshot, which says what the machine is")
    parser.option(
        "-savevm",
        action=Once,
        metavar="FILE",
        help="when the -expect text came or you leave with Ctrl-A x, save a snapshot there",
    )
    parser.option("-monitor", metavar="WHERE", help=HELP)
    parser.option(
        "-stat",
        "-stats",
        action=Once,
        metavar="FILE",
        help="keep statistics there, as JSON, every second and at the end: exits, times, latencies; powervisor report",
    )
    add_analysis_options(parser)
    add_qemu_options(parser)
