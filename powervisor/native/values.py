"""What the compiler knows of a value while it walks a native function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .ints import Fixed
from .struct import ArrayType, PtrType, Struct


class CompileError(Exception):
    """A native function that is not in the subset; the message names file, line and reason."""


@dataclass(frozen=True)
class TupleType:
    """Several return values."""

    items: tuple[Any, ...]


@dataclass
class Value:
    """A run-time value: its type (a Fixed class, bool, a Struct class or a TupleType) and its IR operand.

    `hole` marks instruction fields in stencils: ("field", name) or ("derived", key); their bits are patched in.
    """

    kind: Any
    ref: str
    hole: Any = None
    nonzero: bool = False


@dataclass
class Const:
    """A compile-time Python value."""

    value: Any


@dataclass
class Place:
    """An array or a nested struct in memory, before it is indexed."""

    kind: Any
    ref: str


@dataclass
class Alias:
    """A local name for an array in memory."""

    place: Place


@dataclass
class Conflict:
    """A name that two paths give different types or compile-time values."""

    name: str


@dataclass
class Frame:
    """One function body being emitted: names, and where `return` goes when the body is inlined."""

    function: Any
    scope: dict[str, Any]
    result: Any = None
    slot: str | None = None
    end: str | None = None
    loops: list[tuple[str, str]] = field(default_factory=list)


def is_int(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Fixed)


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def ir_type(kind: Any) -> str:
    """The LLVM type that carries a value of this kind."""
    if kind is None:
        return "void"
    if kind is bool:
        return "i1"
    if isinstance(kind, TupleType):
        return "{ " + ", ".join(ir_type(item) for item in kind.items) + " }"
    if isinstance(kind, PtrType | ArrayType) or is_struct(kind):
        return "ptr"
    return str(kind.ir)


def kind_name(kind: Any) -> str:
    """A type as people write it."""
    if kind is None:
        return "None"
    if isinstance(kind, TupleType):
        return "(" + ", ".join(kind_name(item) for item in kind.items) + ")"
    return getattr(kind, "__name__", str(kind))
