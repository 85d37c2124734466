"""The monitor: commands that people type at a machine, on its terminal, over a socket, or in gdb (`monitor ...`).

A family of commands is a module here: functions with `@command`, found by being imported below.
"""

from . import breakpoints, looking, machine, memory, parts, tracing
from .command import COMMANDS, Command, command
from .monitor import Monitor, Terminal

__all__ = [
    "COMMANDS", "Command", "Monitor", "Terminal", "breakpoints", "command", "looking", "machine", "memory", "parts",
    "tracing",
]  # fmt: skip
