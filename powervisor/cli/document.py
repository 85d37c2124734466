"""The options of powervisor-system-ppc as a page: `python -m powervisor.cli.document > docs/launcher.md`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

from powervisor.cli.declared import declared
from powervisor.cli.qemu_options import REFUSED, Refused
from powervisor.cli.system import parser_for
from powervisor.properties import listing

_INTRODUCTION = """\
# QEMU's command line

Written by `python -m powervisor.cli.document` from the declarations in `powervisor/cli` and elsewhere; do not edit.

`powervisor-system-ppc` and `powervisor-system-ppc64` take the command line of `qemu-system-ppc` and
`qemu-system-ppc64`, as libvirt 9.0 and scripts write it. `powervisor run` understands everything on this page too; it
also has guests by name, runs the built-in one when there is nothing to boot, and tells the architecture by its core.

    powervisor-system-ppc64 -M ppce500 -cpu e5500 -smp 2 -m 512 -kernel uImage -append console=ttyS0 -nographic
    powervisor-system-ppc64 -machine none -nodefaults -qmp unix:/tmp/qmp,server=on,wait=off -daemonize

- The name decides on the architecture, that of a link to the program as well: 32-bit cores with `e500mc` by default, or
  all cores with `e5500`. `python -m powervisor.cli.system` is `powervisor-system-ppc64`.
- Options begin with one dash or two, and mean what they mean to QEMU. What a script says of that which is so anyway is
  accepted (`usb=off`, `-display none`, `-rtc base=utc`); what cannot be had is refused, with one line that says what to
  do, before anything is opened.
- `-device`, `-netdev`, `-object`, `-blockdev` and `-audiodev` can be JSON objects. In `key=value,...` a comma inside a
  value is written twice; `-append` is taken as it is. `help` in place of a value lists what there is, `NAME,help` what
  that takes.
- `-M none` is no machine: clients of QMP ask what there could be.
- The process stays the one that was started, with a thread for each vCPU (`cpu0`, ... in `top -H`), unless it is to
  `-daemonize`: then the command ends with status 0 when sockets listen and the `-pidfile` is written, or tells what
  went wrong.
- SIGTERM, SIGINT and SIGHUP end the machine; clients of QMP are told (SHUTDOWN, `host-signal`), and the exit status is
  128 and the signal's number. `powervisor run --help` has the others.
- Inherited descriptors: `-chardev socket,fd=N` for a socket that listens already, `-netdev tap,fd=N`, and sets of
  `-add-fd`, which /dev/fdset/SET stands for where a file is named: `logfile=`, `path=`, `filename=`, `file=`.
- Translated code is kept where README, "Cache", says; users whose home does not last can have a place prepared.
"""
_SPECIAL = """\
Devices are on [their own page](devices.md). Of `-blockdev`, members of objects within are written with a dot between:
`cache.direct`. RAM of huge pages is `-object memory-backend-file` with `-M memory-backend=ID`, or `-mem-path`.
"""


def document() -> str:
    """The page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield "## Options\n"
    yield from _table(("Option", "Meaning"), _options())
    yield "## What options take\n"
    yield _SPECIAL
    for one in declared():
        yield f"### {one.option} {one.kind}".rstrip() + "\n"
        yield from _table(("Property", "Meaning"), ((f"`{first}`", text) for first, text in listing(one.options)))
    yield "## What is refused\n"
    yield from _table(("Option", "Why, and what to do"), ((f"`{name}`", why) for name, (why, _) in REFUSED.items()))


def _options() -> Iterator[tuple[str, str]]:
    for action in parser_for("ppc64")._actions:
        if isinstance(action, Refused) or action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        names = [
            name for name in action.option_strings if not (name.startswith("--") and len(action.option_strings) > 1)
        ]
        value = "" if action.nargs == 0 else f" {action.metavar}"
        yield ", ".join(f"`{name}{value}`" for name in names or action.option_strings), action.help or ""


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {head[0]} | {head[1]} |"
    yield "| --- | --- |"
    for row in rows:
        yield "| {} | {} |".format(*(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row))
    yield ""


if __name__ == "__main__":
    sys.stdout.write(document())
