"""Command lines in QEMU's style: long options with one dash or two, sizes, key=value lists, and helpful refusals."""

import argparse
import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from powervisor.errors import UsageError, UserError


class _OneSpelling(argparse.RawDescriptionHelpFormatter):
    """Shows `-kernel FILE` once; the form with two dashes is understood too."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else f" {self._format_args(action, action.dest.upper())}"
        return ", ".join(s for s in action.option_strings if not _is_double(s, action.option_strings)) + value


class Once(argparse.Action):
    """Of an option that names a file: a second one would be forgotten silently."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        if getattr(namespace, self.dest) is not None:
            raise UsageError(f"{option_string} {values}: given before, as {getattr(namespace, self.dest)}; one is kept")
        setattr(namespace, self.dest, values)


class Merged(argparse.Action):
    """Of an option whose properties add up: `-M ppce500,a=on -M b=on` is `-M ppce500,a=on,b=on`."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest)
        name, comma, rest = values.partition(",")
        if before is not None and "=" in name:
            values = f"{before},{values}"
        elif before is not None:
            values = name + before[len(before.partition(",")[0]) :] + comma + rest
        setattr(namespace, self.dest, values)


def _is_double(spelling: str, spellings: Sequence[str]) -> bool:
    return spelling.startswith("--") and spelling[1:] in spellings


HELP = ("help", "?")
"""In place of a value: list what there is."""
SYSTEM = "powervisor-system-"
"""How programs that are no command of `powervisor` begin, with the architecture after it."""


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations, whose refusals are UsageErrors that name the nearest option."""

    def __init__(self, command: str, description: str, **more: Any) -> None:
        super().__init__(
            prog=command if command.startswith(SYSTEM) else f"powervisor {command}",
            description=description,
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=lambda prog: _OneSpelling(prog, max_help_position=34, width=110),
            **more,
        )
        self.add_argument("-help", action="help", help=argparse.SUPPRESS)

    def option(self, *names: str, **settings: Any) -> None:
        """Add an option written with one dash; longer ones can be written with two as well."""
        both = [spelling for name in names for spelling in ((name, f"-{name}") if len(name) > 2 else (name,))]
        self.add_argument(*both, **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line (argparse calls this)."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all of `words`. Raises UsageError."""
        try:
            options, extra = self.parse_known_intermixed_args(list(words))
        except argparse.ArgumentError as error:
            raise UsageError(self._explained(error)) from None
        if extra:
            unknown = next((word for word in extra if word.startswith("-")), None)
            if unknown is None:
                raise UsageError(f"{extra[0]}: not an option; see {self.prog} --help")
            raise UsageError(f"{unknown}: no such option; {self._near(unknown)}")
        return options

    def _explained(self, error: argparse.ArgumentError) -> str:
        """What argparse found wrong with one option, in words that show how it is written."""
        known = (a for a in self._actions if error.argument_name in ("/".join(a.option_strings), a.metavar, a.dest))
        action = next(known, None)
        if action is None:
            return f"{error}; see {self.prog} --help"
        name = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
        if action.choices is not None and (wrong := re.search("invalid choice: '(.*?)'", error.message)):
            return f"{name} {wrong[1]}: there is no such {name.lstrip('-')}; write {' or '.join(action.choices)}"
        if action.nargs == 0:
            return f"{name}: takes no value; write it without ="
        if "expected" in error.message:
            return f"{name}: its value is missing; write {name} {action.metavar or ' or '.join(action.choices or ())}"
        return f"{name}: {error.message}; see {self.prog} --help"

    def _near(self, unknown: str) -> str:
        known = {s.lstrip("-"): s for a in self._actions for s in reversed(a.option_strings)}
        near = difflib.get_close_matches(unknown.lstrip("-").partition("=")[0], known, n=3, cutoff=0.6)
        names = " or ".join(known[n] for n in near)
        return f"did you mean {names}?" if names else f"see {self.prog} --help"

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        # argparse would take -memory for "-m emory": it splits single-dash words whatever allow_abbrev says.
        return []


_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(text: str, option: str, default_unit: str = "M") -> int:
    """Bytes from 512, 512M, 2G or size=2G; a bare number counts in `default_unit`. Raises UserError."""
    number = text.removeprefix("size=").strip().upper()
    if number.endswith("IB"):
        number = number.removesuffix("IB")
    elif number.endswith("B"):
        binary = number[:-1] if number[-2:-1] in _UNITS else "512M"
        raise UserError(f"{option} {text}: not a size, since sizes count in powers of 1024; write {binary}")
    unit = number[-1:] if number[-1:] in _UNITS else default_unit
    digits = number.removesuffix(unit)
    if not digits.isdecimal() or int(digits) == 0:
        raise UserError(f"{option} {text}: not a size; write for example 512, 512M or 2G")
    return int(digits) << _UNITS[unit]


def parse_seconds(text: str, option: str) -> float:
    """A number of seconds, with or without a fraction. Raises UserError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(f"{option} {text}: not a time; write a number of seconds above 0, for example 60 or 0.5")
    return seconds


def parse_number(text: str, option: str) -> int:
    """A number in decimal or, with 0x, in hexadecimal. Raises UserError."""
    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"{option}: '{text}' is not a number; write 4096 or 0x1000") from None


def nearest(name: str, names: Iterable[str]) -> str:
    """The names closest to `name`, or all of them, as text for a message."""
    names = list(names)
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
