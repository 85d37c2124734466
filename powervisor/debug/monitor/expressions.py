"""Values that people write: numbers, registers and arithmetic, in 64 bits."""

from __future__ import annotations

import re
from collections.abc import Callable

_NUMBER, _NAME = r"0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+(?![0-9a-zA-Z_])", r"\$\w+|[A-Za-z_.][\w.$]*"
_TOKEN = re.compile(rf"\s*({_NUMBER}|{_NAME}|<<|>>|[-+*/%&|^~()])")
_MASK = (1 << 64) - 1
_DEEPEST = 50
_BINARY: dict[str, tuple[int, Callable[[int, int], int]]] = {
    "|": (1, int.__or__), "^": (2, int.__xor__), "&": (3, int.__and__),
    "<<": (4, lambda a, b: a << b if b < 64 else 0), ">>": (4, lambda a, b: a >> b if b < 64 else 0),
    "+": (5, int.__add__), "-": (5, int.__sub__),
    "*": (6, int.__mul__), "/": (6, lambda a, b: a // _divisor(b)), "%": (6, lambda a, b: a % _divisor(b)),
}  # fmt: skip
"""Precedence and meaning, as in C, of unsigned numbers."""
_UNARY: dict[str, Callable[[int], int]] = {"-": int.__neg__, "+": int.__pos__, "~": int.__invert__}


def _no_symbols(name: str) -> int:
    raise ValueError(f"'{name}' is no number; write 4096, 0x1000, $r1 or $pc+8")


def evaluate(text: str, register: Callable[[str], int], symbol: Callable[[str], int] = _no_symbols) -> int:
    """The value of an expression; `register` knows names after $, `symbol` others. Raises ValueError."""
    return _Expression(text, register, symbol).value()


def _divisor(value: int) -> int:
    if not value:
        raise ValueError("division by zero")
    return value


class _Expression:
    def __init__(self, text: str, register: Callable[[str], int], symbol: Callable[[str], int]) -> None:
        self._register, self._symbol = register, symbol
        self._tokens = self._split(text)

    def _split(self, text: str) -> list[str]:
        """The tokens, the last one first."""
        tokens, at = [], 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"'{text[at:].strip()}' is no number; write 4096, 0x1000, $r1 or $pc+8")
            tokens.append(found[1])
            at = found.end()
        return tokens[::-1]

    def value(self) -> int:
        value = self._binary(0, 0)
        if self._tokens:
            raise ValueError(f"'{self._tokens[-1]}' is one too many")
        return value

    def _binary(self, least: int, depth: int) -> int:
        left = self._unary(depth)
        while self._tokens and self._tokens[-1] in _BINARY and _BINARY[self._tokens[-1]][0] > least:
            precedence, operation = _BINARY[self._tokens.pop()]
            left = operation(left, self._binary(precedence, depth)) & _MASK
        return left

    def _unary(self, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError("too many parentheses or signs")
        if not self._tokens:
            raise ValueError("an address or a number is missing")
        token = self._tokens.pop()
        if token in _UNARY:
            return _UNARY[token](self._unary(depth + 1)) & _MASK
        if token == "(":
            value = self._binary(0, depth + 1)
            if not self._tokens or self._tokens.pop() != ")":
                raise ValueError("a ) is missing")
            return value
        if token.startswith("$"):
            return self._register(token[1:])
        if token[0].isdigit():
            return int(token, 0 if token[1:2].isalpha() else 10) & _MASK
        if token[0].isalpha() or token[0] in "_.":
            return self._symbol(token)
        raise ValueError(f"'{token}' is one too many")
