"""Expressions of assembly source: numbers, symbols, C's operators (a comparison gives 1 or 0) with C's precedence, and
the halves `@l @h @ha @higher @highest ...` of a whole expression."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|0[bB][01]+(?![0-9bf])|\d+(?![\w]))|(?P<local>\d+[bf]\b)"
    r"|(?P<char>'(?:\\.|[^\\'])'?)|(?P<name>[A-Za-z_.$][\w.$]*)|(?P<half>@\s*\w+)"
    r"|(?P<op><<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>()]))"
)
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">", "<=", ">="), ("<<", ">>"), ("+", "-"),
    ("*", "/", "%"),
)  # fmt: skip
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "||": lambda a, b: int(bool(a or b)), "&&": lambda a, b: int(bool(a and b)),
    "|": operator.or_, "^": operator.xor, "&": operator.and_, "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b), "<": lambda a, b: int(a < b), ">": lambda a, b: int(a > b),
    "<=": lambda a, b: int(a <= b), ">=": lambda a, b: int(a >= b), "<<": operator.lshift, ">>": operator.rshift,
    "+": operator.add, "-": operator.sub, "*": operator.mul,
}  # fmt: skip

_HALVES: dict[str, Callable[[int], int]] = {
    "l": lambda v: v & 0xFFFF,
    "h": lambda v: v >> 16 & 0xFFFF,
    "ha": lambda v: v + 0x8000 >> 16 & 0xFFFF,
    "high": lambda v: v >> 16 & 0xFFFF,
    "higha": lambda v: v + 0x8000 >> 16 & 0xFFFF,
    "higher": lambda v: v >> 32 & 0xFFFF,
    "highera": lambda v: v + 0x8000 >> 32 & 0xFFFF,
    "highest": lambda v: v >> 48 & 0xFFFF,
    "highesta": lambda v: v + 0x8000 >> 48 & 0xFFFF,
}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", "'": "'", '"': '"'}


class ExpressionError(ValueError):
    """An expression that cannot be understood or computed."""


class UndefinedError(ExpressionError):
    """An expression that names an unknown symbol."""


@dataclass(frozen=True)
class Number:
    """A value; `half` when it is 16 bits cut out of something, to be taken as signed where the field is."""

    value: int
    half: bool = False


class _Parser:
    def __init__(self, text: str, resolve: Callable[[str], int]) -> None:
        self.text, self.resolve = text, resolve
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ExpressionError(f"{text.strip()!r}: {text[at:].strip()!r} is not understood")
            self.tokens.append((found.lastgroup or "", found.group(found.lastgroup or 0).strip()))
            at = found.end()
        self.tokens.append(("end", ""))
        self.next = 0

    def take(self) -> tuple[str, str]:
        self.next += 1
        return self.tokens[self.next - 1]

    def binary(self, level: int) -> int:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.tokens[self.next][1] in _LEVELS[level] and self.tokens[self.next][0] == "op":
            op = self.take()[1]
            left = self.apply(op, left, self.binary(level + 1))
        return left

    def apply(self, op: str, a: int, b: int) -> int:
        if op in ("/", "%"):
            if b == 0:
                raise ExpressionError(f"{self.text.strip()!r} divides by zero")
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return quotient if op == "/" else a - b * quotient
        if op in ("<<", ">>") and not 0 <= b < 128:
            raise ExpressionError(f"{self.text.strip()!r} shifts by {b}")
        return _OPERATORS[op](a, b)

    def unary(self) -> int:
        kind, text = self.take()
        if kind == "op" and text in "-+~!":
            value = self.unary()
            return {"-": -value, "+": value, "~": ~value, "!": int(not value)}[text]
        if text == "(":
            value = self.number().value
            if self.take()[1] != ")":
                raise ExpressionError(f"{self.text.strip()!r}: a closing parenthesis is missing")
            return value
        if kind == "number":
            octal = len(text) > 1 and text.isdigit() and text[0] == "0"
            try:
                return int(text, 8 if octal else 0)
            except ValueError:
                raise ExpressionError(f"{text} is not an octal number") from None
        if kind == "char":
            body = text.strip("'") if text != "'''" else "'"
            return ord(ESCAPES.get(body[1:], body[1:]) if body.startswith("\\") else body)
        if kind in ("name", "local"):
            return self.resolve(text)
        raise ExpressionError(f"{self.text.strip()!r}: a number or a symbol is missing")

    def number(self) -> Number:
        value = self.binary(0)
        if self.tokens[self.next][0] != "half":
            return Number(value)
        name = self.take()[1][1:].strip().lower()
        if name not in _HALVES:
            raise ExpressionError(f"@{name}: there are {', '.join('@' + n for n in _HALVES)}")
        return Number(_HALVES[name](value), True)


def evaluate(text: str, resolve: Callable[[str], int]) -> Number:
    """The value of an expression; `resolve` gives a symbol's (raises UndefinedError). Raises ExpressionError."""
    parser = _Parser(text, resolve)
    value = parser.number()
    if parser.tokens[parser.next][0] != "end":
        raise ExpressionError(f"{text.strip()!r}: {parser.tokens[parser.next][1]!r} is not expected there")
    return value
