"""Assembly source as statements: comments removed, macros, repetitions and conditions expanded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from ..errors import UserError
from .asm import split_operands

_LITERAL_OR_COMMENT = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^\\'\n])'?)|(/\*.*?\*/|/\*.*|//[^\n]*|\#[^\n]*)|(;)""", re.DOTALL
)
_LABEL = re.compile(r"([A-Za-z_.$][\w.$]*|\d+)\s*:\s*")
_OPENING = {".macro": ".endm", ".rept": ".endr", ".if": ".endif"}
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Statement:
    """One statement and its line in the source."""

    line: int
    text: str


class SourceError(UserError):
    """A mistake at a line of the source."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def statements(text: str) -> list[Statement]:
    """The statements of a source text, without comments; a label is a statement of its own."""

    def clean(found: re.Match[str]) -> str:
        if found[1]:
            return found[1].replace(";", "\x1f")
        if found[3]:
            return "\x1e"
        return "\n" * found[2].count("\n")

    lines = _LITERAL_OR_COMMENT.sub(clean, text).split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        for part in line.split("\x1e"):
            text = part.replace("\x1f", ";").strip()
            while label := _LABEL.match(text):
                found.append(Statement(number, label[0].rstrip()))
                text = text[label.end() :]
            if text:
                found.append(Statement(number, text))
    return found


@dataclass(frozen=True)
class _Macro:
    parameters: list[tuple[str, str | None]]
    body: list[Statement]

    def use(self, statement: Statement, name: str, given: list[str], serial: int) -> list[Statement]:
        if len(given) > len(self.parameters):
            raise SourceError(statement.line, f"{name} takes {len(self.parameters)} arguments, {len(given)} given")
        values = {"@": str(serial), "()": ""}
        for index, (parameter, default) in enumerate(self.parameters):
            value = given[index] if index < len(given) and given[index] else default
            if value is None:
                raise SourceError(statement.line, f"{name}: the argument {parameter} is missing")
            values[parameter] = value
        pattern = re.compile(r"\\(@|\(\)|" + "|".join(rf"{re.escape(p)}\b" for p, _ in self.parameters) + ")")
        if not self.parameters:
            pattern = re.compile(r"\\(@|\(\))")
        text = "\n".join(pattern.sub(lambda m: values[m[1]], s.text) for s in self.body)
        return [Statement(statement.line, s.text) for s in statements(text)]  # an argument may have made a label


def head(text: str) -> tuple[str, str]:
    """The first word of a statement, in lower case, and the rest."""
    word, *rest = text.split(None, 1)
    return word.lower(), rest[0] if rest else ""


def _block(lines: list[Statement], start: int) -> tuple[list[Statement], int]:
    """The statements between an opening directive at `start` and its end, and the index after the end."""
    opening = head(lines[start].text)[0]
    waiting = [_OPENING[opening]]
    for index in range(start + 1, len(lines)):
        word = head(lines[index].text)[0]
        if word in _OPENING:
            waiting.append(_OPENING[word])
        elif word == waiting[-1]:
            waiting.pop()
            if not waiting:
                return lines[start + 1 : index], index + 1
    raise SourceError(lines[start].line, f"{opening} without {waiting[-1]}")


def _arms(body: list[Statement]) -> tuple[list[Statement], list[Statement]]:
    """The statements of a condition before and after its own .else."""
    depth = 0
    for index, statement in enumerate(body):
        word = head(statement.text)[0]
        depth += (word == ".if") - (word == ".endif")
        if word == ".else" and depth == 0:
            return body[:index], body[index + 1 :]
    return body, []


def expand(source: list[Statement], evaluate: Callable[[str], int]) -> Iterator[Statement]:
    """Statements in the order to be assembled; `evaluate` gives conditions and counts their value at that point."""
    macros: dict[str, _Macro] = {}
    serial = count()

    def walk(lines: list[Statement], depth: int) -> Iterator[Statement]:
        index = 0
        while index < len(lines):
            statement = lines[index]
            word, rest = head(statement.text)
            if word in _OPENING:
                body, index = _block(lines, index)
                yield from opened(word, rest, statement, body, depth)
                continue
            index += 1
            if word in (*_OPENING.values(), ".else"):
                raise SourceError(statement.line, f"{word} without its beginning")
            if word in macros:
                if depth == _MAX_DEPTH:
                    raise SourceError(statement.line, f"{word} uses itself without end")
                given = split_operands(rest)
                yield from walk(macros[word].use(statement, word, given, next(serial)), depth + 1)
            else:
                yield statement

    def opened(word: str, rest: str, at: Statement, body: list[Statement], depth: int) -> Iterator[Statement]:
        if word == ".macro":
            name, _, parameters = rest.replace(",", " ").partition(" ")
            pairs = [p.partition("=") for p in parameters.split()]
            if not re.fullmatch(r"[A-Za-z_.][\w.]*", name):
                raise SourceError(at.line, ".macro needs a name")
            macros[name.lower()] = _Macro([(p, default if eq else None) for p, eq, default in pairs], body)
            return
        try:
            value = evaluate(rest)
        except (UserError, ValueError) as error:
            raise SourceError(at.line, str(error)) from None
        if word == ".if":
            yield from walk(_arms(body)[0 if value else 1], depth)
        else:
            for _ in range(value):
                yield from walk(body, depth)

    return walk(source, 0)
