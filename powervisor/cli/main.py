"""Choose the subcommand, and turn what goes wrong into a line and an exit status."""

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum

from powervisor import __version__
from powervisor.errors import PowervisorError, UsageError

COMMANDS = {
    "run": "run a virtual machine (with no options: the built-in guest)",
    "stat": "show what running machines do with their time",
    "report": "make a page with plots of the statistics of a run",
    "guests": "list the guests that can be booted by name, and build them",
    "snapshot": "tell what a snapshot file holds",
    "libvirt": "let libvirt (virsh) run machines: xml, check, setup",
    "cache": "show or clear what is kept on disk between runs",
    "cores": "list the processor cores",
    "boards": "list the boards",
    "dtb": "print the device tree a machine would get",
    "disasm": "disassemble words or a file",
    "symbols": "make an ELF file for gdb of a kernel's System.map or /proc/kallsyms",
}

HELP = """\
usage: powervisor COMMAND [OPTION...]

Virtual machines for the Freescale/NXP QorIQ cores e500mc, e5500 and e6500.

commands:
{commands}

powervisor COMMAND --help says more; powervisor --version tells the version.

examples:
  powervisor run
  powervisor run -guest linux -smp 4
  powervisor run -M ppce500 -cpu e5500 -smp 2 -m 1G -kernel uImage -initrd rootfs.cpio.gz -append console=ttyS0
"""


class Status(IntEnum):
    """Exit statuses of `powervisor run`, and of every command that fails."""

    OK = 0
    USER = 1
    USAGE = 2
    GUEST_FAULT = 3
    RESET = 4
    BUG = 70
    TIMEOUT = 124
    SIGNALLED = 128
    """Plus the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status. No user's mistake shows a traceback."""
    from powervisor.console.stdio import hold_standard_descriptors

    hold_standard_descriptors()
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else ""
    label = f"powervisor {name}" if name in COMMANDS else "powervisor"
    return guarded(label, lambda words: _dispatch(name, words), words[1:])


def guarded(label: str, command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run `command(words)`; what it raises becomes a line that begins with `label`, and an exit status."""
    from powervisor.console.stdio import complain

    try:
        status = command(words)
        sys.stdout.flush()
        return status
    except PowervisorError as error:
        complain(f"{label}: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        return Status.SIGNALLED + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has left; what is buffered must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Status.SIGNALLED + signal.SIGPIPE
    except Exception:
        import traceback

        complain(traceback.format_exc().rstrip())
        complain(f"{label}: this is a bug in powervisor {__version__}; report it with your command and the lines above")
        return Status.BUG


def _dispatch(name: str, words: list[str]) -> int:
    if name in COMMANDS:
        from powervisor.cli import analysis
        from powervisor.cli.machine_options import OPTION_NAMES
        from powervisor.errors import given_as

        # A command's module has one function: `main`.
        with given_as(OPTION_NAMES | analysis.OPTION_NAMES):
            return int(importlib.import_module(f"powervisor.cli.{name}").main(words))
    if name in ("-h", "--help", "help"):
        print(_help(), end="")
        return Status.OK
    if name in ("-V", "-version", "--version"):
        print(f"powervisor {__version__}")
        return Status.OK
    if not name:
        print(_help(), end="", file=sys.stderr)
        return Status.USAGE
    near = difflib.get_close_matches(name, COMMANDS, n=2)
    if name.startswith("-"):
        hint = f"machine options follow a command: powervisor run {name} ..."
    elif near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"there are {', '.join(COMMANDS)}"
    raise UsageError(f"{name}: no such command; {hint}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    return HELP.format(commands="\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()))
