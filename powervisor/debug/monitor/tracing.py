"""Commands about traces."""

from __future__ import annotations

from ...analysis.running import trace_command
from ...analysis.trace import to_stderr
from .command import Machine, command
from .monitor import Monitor


@command("trace [on EVENTS | off [N] | help]", "lines about what CPUs and devices do, here or to file=F", Machine.RUNS)
def trace(monitor: Monitor, words: list[str]) -> str:
    """Begin a trace, end one or all, list them."""
    write = to_stderr if monitor.terminal is None else monitor.terminal.tell
    return trace_command(monitor.machine, words, monitor.symbols, write)
