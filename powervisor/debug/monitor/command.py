"""What a command is: a function of the monitor and the words after its name, and how it is told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .monitor import Monitor

Answer = Callable[["Monitor", list[str]], str]
"""Takes the words after the name; answers text. Raises PowervisorError or ValueError."""


class Machine(Enum):
    """What a command does to the machine."""

    LOOKS = 0
    """It is held meanwhile, and goes on if it ran."""
    RUNS = 1
    """It is left as it is."""
    STOPS = 2
    """The command stops it or lets it go on: not in gdb, which does that itself."""


class Command(NamedTuple):
    """One command; `usage` begins with the name."""

    name: str
    usage: str
    summary: str
    answer: Answer
    machine: Machine


COMMANDS: dict[str, Command] = {}
"""All commands by name, of one or two words."""


def command(usage: str, summary: str, machine: Machine = Machine.LOOKS) -> Callable[[Answer], Answer]:
    """Make a function the command whose `usage` begins with its name; arguments are capitals, [..] and /FORMAT."""
    words = usage.split()
    name = " ".join(word for n, word in enumerate(words) if word.islower() and "[" not in "".join(words[: n + 1]))

    def declare(answer: Answer) -> Answer:
        COMMANDS[name] = Command(name, usage, summary, answer, machine)
        return answer

    return declare


def rows(lines: Sequence[tuple[str, ...]]) -> str:
    """Cells as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
