"""The monitor itself: finds the command of a line, holds the machine while it looks, answers text."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

from ...analysis.symbols import Symbols
from ...errors import PowervisorError, UserError
from ...hv.vcpu import Vcpu
from ...machine import Machine
from ...vcpu.sprs import GROUPS
from ..control import Control
from .command import COMMANDS, Command
from .command import Machine as Effect
from .expressions import evaluate

LONGEST = 1000
"""Characters of a line."""


class Terminal(Protocol):
    """What commands use of the place where lines are typed."""

    def python(self, monitor: Monitor) -> None:
        """Talk Python with whoever types, until they are done."""

    def tell(self, line: str) -> None:
        """Show a line that nobody asked for just now; from any thread."""


class Monitor:
    """Executes lines; what they ask for comes back as text. `vcpu` is the one that commands are about.

    Without a `terminal` it is gdb's: the machine is stopped and let go on by gdb only. `symbols` are read when they are
    first needed.
    """

    def __init__(
        self, control: Control, terminal: Terminal | None = None, symbols: Callable[[], Symbols] = Symbols
    ) -> None:
        self.control, self.terminal = control, terminal
        self._read_symbols = symbols
        self.vcpu: Vcpu = control.vcpus[0]

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.control.machine

    @cached_property
    def symbols(self) -> Symbols:
        """Names of addresses. Raises UserError for files that cannot be read."""
        return self._read_symbols()

    def execute(self, line: str) -> str:
        """The answer to a line, errors included; it ends with a line end unless it is empty."""
        line = line.strip()
        try:
            text = self._execute(line)
        except (PowervisorError, ValueError, OSError) as error:
            text = f"{_printable(line[:80])}: {error}"
        return text if not text or text.endswith("\n") else f"{text}\n"

    def _execute(self, line: str) -> str:
        if len(line) > LONGEST:
            raise UserError(f"a line has up to {LONGEST} characters")
        if not line:
            return ""
        found, words = _parse(line)
        if found.machine is Effect.STOPS and self.terminal is None:
            raise UserError("not here: gdb stops the machine and lets it go on (continue, stepi, Ctrl-C)")
        if found.machine is Effect.LOOKS:
            with self.machine.holding():
                return found.answer(self, words)
        return found.answer(self, words)

    def number(self, text: str) -> int:
        """The value of an expression: numbers, registers ($pc), symbols, + - * / % & | ^ ~ << >> and parentheses."""
        return evaluate(text, self._register, lambda name: self.symbols.named(name).address)

    def _register(self, name: str) -> int:
        return self.vcpu.regs[name]

    def complete(self, line: str) -> list[str]:
        """What the last word of an unfinished line may become."""
        *before, last = line.split(" ")
        begin = "".join(f"{word} " for word in before if word)
        names = {
            name[len(begin) :].split()[0]
            for name in COMMANDS
            if name.startswith(begin + last) and len(name) > len(begin)
        }
        if last.startswith("$"):
            names = {f"${name}" for name in self.vcpu.regs}
        elif begin.startswith("info registers "):
            names = set(self.vcpu.regs) | GROUPS.keys()
        return sorted(name for name in names if name.startswith(last))


def _parse(line: str) -> tuple[Command, list[str]]:
    """The command of a line and the words after its name."""
    words = shlex.split(line)
    first, slash, form = words[0].partition("/") if words else ("", "", "")
    if slash:  # x/4i as gdb and QEMU write it
        words[:1] = [first, f"/{form}"]
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return COMMANDS[name], words[length:]
        if name in _SHORT:
            return COMMANDS[_SHORT[name]], words[length:]
    raise UserError("; ".join(filter(None, ("no such command", _near(words), "help lists them"))))


_SHORT = {"p": "print", "c": "cont", "s": "step", "q": "quit", "?": "help", "b": "break", "i": "info status"}
_SHORT |= {f"i {name.split()[1]}": name for name in ("info registers", "info breakpoints")}


def _near(words: list[str]) -> str:
    near = list(_similar(" ".join(words[:2])))
    if not near and words[:1] == ["info"]:
        return f"info knows {', '.join(name.split()[1] for name in sorted(COMMANDS) if name.startswith('info '))}"
    return f"did you mean {' or '.join(near)}?" if near else ""


def _similar(name: str) -> Iterator[str]:
    yield from difflib.get_close_matches(name, COMMANDS, n=2, cutoff=0.75)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
