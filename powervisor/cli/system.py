"""powervisor-system-ppc and powervisor-system-ppc64: QEMU's command line, as libvirt and scripts write it.

Which of the two it is, the name by which it was started tells.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from powervisor import __version__
from powervisor.cli import analysis
from powervisor.cli.declared import help_requested
from powervisor.cli.machine_options import OPTION_NAMES
from powervisor.cli.main import Status, guarded
from powervisor.cli.options import SYSTEM, Parser
from powervisor.cli.run import STATUSES, run
from powervisor.cli.run_options import add_run_options
from powervisor.errors import given_as

DESCRIPTION = "Run a virtual machine as qemu-system-{arch} is told to; powervisor run is the same for people."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    from powervisor.console.stdio import hold_standard_descriptors

    hold_standard_descriptors()
    arch = "ppc" if os.path.basename(sys.argv[0]).endswith("ppc") else "ppc64"
    label = f"{SYSTEM}{arch}"
    with given_as(OPTION_NAMES | analysis.OPTION_NAMES):
        return guarded(label, partial(_run, label, arch), list(sys.argv[1:] if arguments is None else arguments))


def parser_for(arch: str) -> Parser:
    """What understands the command line of the program for "ppc" or "ppc64"."""
    parser = Parser(f"{SYSTEM}{arch}", DESCRIPTION.format(arch=arch), epilog=STATUSES)
    parser.option("-version", action="store_true", help="tell the version")
    add_run_options(parser)
    parser.set_defaults(arch=arch)
    return parser


def _run(label: str, arch: str, words: list[str]) -> int:
    begin = time.monotonic()
    if (found := help_requested(words)) is not None:
        print(found)
        return Status.OK
    options = parser_for(arch).parse(words)
    if options.version:
        print(f"powervisor {__version__} ({label}, for the command line of QEMU 7.2)")
        return Status.OK
    return run(options, label, begin)


if __name__ == "__main__":
    sys.exit(main())
