"""Traces of a machine that are switched on and off by hand: the monitor's `trace` command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
from weakref import WeakKeyDictionary

from ..errors import UserError
from ..machine import Machine
from ..properties import listing
from .options import TraceOptions
from .symbols import Symbols
from .trace import Trace, to_stderr

USAGE = "trace [on EVENTS[,filter=...] | off [N]]"
_RUNNING: WeakKeyDictionary[Machine, list[Trace]] = WeakKeyDictionary()


def traces(machine: Machine) -> list[Trace]:
    """The machine's traces that `trace_command` lists; those of the command line are put there too."""
    return _RUNNING.setdefault(machine, [])


def trace_command(
    machine: Machine, words: Sequence[str], symbols: Symbols | None = None,
    write: Callable[[str], None] = to_stderr,
) -> str:  # fmt: skip
    """What a `trace` command says: `on mmio,irq,file=t.txt`, `off 1`, `off`, `help`, or nothing to list them.

    Lines of traces without a file go to `write`, on any thread. Raises UserError.
    """
    running = traces(machine)
    match list(words):
        case []:
            rows = [f"{number}: {trace.describe()}" for number, trace in enumerate(running, 1)]
            return "\n".join(rows) or f"no traces; {USAGE}"
        case ["help"]:
            options = listing(TraceOptions)
            width = max(len(name) for name, _ in options)
            return "\n".join(f"{name:{width}}  {text}" for name, text in options)
        case ["on", text]:
            running.append(Trace(machine, text, symbols, write))
            closing = Thread(
                target=running[-1].close, name="trace-end", daemon=True
            )  # the end may have the machine's lock
            machine.on_end.append(lambda: closing.start() if closing.ident is None else None)
            return f"{len(running)}: {running[-1].describe()}"
        case ["off"]:
            while running:
                running.pop().close()
            return "no traces"
        case ["off", number] if number.isdecimal() and 1 <= int(number) <= len(running):
            running.pop(int(number) - 1).close()
            return trace_command(machine, [])
        case ["off", number]:
            raise UserError(f"trace off {number}: there is no such trace; trace lists them")
    raise UserError(f"write {USAGE}")
