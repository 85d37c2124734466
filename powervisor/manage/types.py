"""Types of arguments and results, as Python writes them: checked, turned into JSON, and told of in schema and page.

`str`, `int`, `bool`, `float`, `Any`; `Literal[...]` is an enumeration; `list[T]`; a dataclass with `@struct` is an
object, whose fields with defaults may be left out; `T | None` may be left out too. `Annotated[T, "text"]` adds help.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, dataclass_transform, get_args, get_origin

from .errors import QmpError

T = TypeVar("T")
_PLAIN: Mapping[Any, tuple[str, str, str]] = {
    str: ("str", "string", "a string"),
    int: ("int", "int", "an integer"),
    bool: ("bool", "boolean", "true or false"),
    float: ("number", "number", "a number"),
    Any: ("any", "value", "anything"),
}
"""Name, JSON type, and words for messages."""
_MOST, _LEAST = (1 << 64) - 1, -(1 << 63)


class Member(NamedTuple):
    """A named value: an argument of a command, a field of an object, a datum of an event."""

    name: str
    attribute: str
    type: Any
    optional: bool
    help: str


@dataclass_transform(frozen_default=True)
def struct(cls: type[T] | None = None, *, underscores: str = "") -> Any:
    """Make a class an object of the protocol. `_` in names is written `-`, but in those of `underscores`."""

    def declare(declared: type[T]) -> type[T]:
        made = dataclasses.dataclass(frozen=True, kw_only=True)(declared)
        made.__qmp_underscores__ = frozenset(underscores.split())  # type: ignore[attr-defined]
        return made

    return declare if cls is None else declare(cls)


def wire_name(attribute: str, kept: frozenset[str] = frozenset()) -> str:
    """How a Python name is written in the protocol."""
    return attribute if attribute in kept else attribute.rstrip("_").replace("_", "-")


def opened(kind: Any) -> tuple[Any, bool, str]:
    """A type without `Annotated` and `| None`, whether it may be left out, and its help."""
    text, optional = "", False
    while True:
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            text = text or next((note for note in notes if isinstance(note, str)), "")
        elif get_origin(kind) in (types.UnionType, typing.Union) and type(None) in get_args(kind):
            (kind,) = (part for part in get_args(kind) if part is not type(None))
            optional = True
        else:
            return kind, optional, text


@cache
def members(cls: type) -> tuple[Member, ...]:
    """The fields of a struct."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        kind, optional, text = opened(hints[field.name])
        name = wire_name(field.name, cls.__qmp_underscores__)  # type: ignore[attr-defined]
        found.append(Member(name, field.name, kind, optional or field.default is not dataclasses.MISSING, text))
    return tuple(found)


def check(kind: Any, value: Any, where: str) -> Any:
    """The value as Python has it. Raises QmpError, beginning with `where`, for one of another type."""
    if kind in _PLAIN:
        if not _fits(kind, value):
            raise QmpError(f"{where}: is {_described(value)}; give {_PLAIN[kind][2]}")
        return value
    if get_origin(kind) is Literal:
        if value not in get_args(kind) or not isinstance(value, str):
            raise QmpError(f"{where}: is {_described(value)}; give {' or '.join(map(repr, get_args(kind)))}")
        return value
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise QmpError(f"{where}: is {_described(value)}; give a list")
        return [check(get_args(kind)[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    return kind(**check_members(members(kind), value, where))


def check_members(declared: tuple[Member, ...], value: Any, where: str) -> dict[str, Any]:
    """The members of an object by their Python names. Raises QmpError for those that miss, or are not known."""
    if not isinstance(value, dict):
        raise QmpError(f"{where}: is {_described(value)}; give an object")
    unknown = value.keys() - {member.name for member in declared}
    if unknown:
        names = ", ".join(member.name for member in declared)
        raise QmpError(f"{where}: has no member {min(unknown)!r}; it takes {names or 'none'}")
    found = {}
    for member in declared:
        if member.name in value:
            found[member.attribute] = check(member.type, value[member.name], f"{where}.{member.name}")
        elif not member.optional:
            raise QmpError(f"{where}: {member.name} is missing")
    return found


def _fits(kind: Any, value: Any) -> bool:
    if kind is str:
        return isinstance(value, str) and "\0" not in value and (value.isascii() or _encodes(value))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and _LEAST <= value <= _MOST
    if kind is bool:
        return isinstance(value, bool)
    return kind is Any or isinstance(value, int | float) and not isinstance(value, bool)


def _encodes(text: str) -> bool:
    """Whether it has no halves of surrogate pairs."""
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


def _described(value: Any) -> str:
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    words = {bool: "a boolean", int: f"the number {str(value)[:24]}", float: "a fraction", list: "a list"}
    return words.get(type(value), "null" if value is None else "an object")


def plain(value: Any) -> Any:
    """A result as JSON has it; members that are None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((member.name, getattr(value, member.attribute)) for member in members(type(value)))
        return {name: plain(part) for name, part in pairs if part is not None}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


class Types:
    """Entries of query-qmp-schema for all types that were asked for."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}
        self._enumerations: dict[Any, str] = {}

    def name(self, kind: Any, hint: str = "") -> str:
        """What a type is called; `hint` names enumerations, which have no name in Python."""
        if kind in _PLAIN:
            name, json_type, _ = _PLAIN[kind]
            self._entries.setdefault(name, {"name": name, "meta-type": "builtin", "json-type": json_type})
            return name
        if get_origin(kind) is list:
            element = self.name(get_args(kind)[0], hint)
            name = f"[{element}]"
            entry = {"name": name, "meta-type": "array", "element-type": element}
            self._entries.setdefault(name, entry)
            return name
        if get_origin(kind) is Literal:
            return self._enumeration(kind, hint)
        return self.object(kind.__name__, members(kind))

    def object(self, name: str, declared: tuple[Member, ...]) -> str:
        """An object with these members."""
        if name not in self._entries:
            self._entries[name] = {"name": name, "meta-type": "object"}
            self._entries[name]["members"] = [self._member(member, name) for member in declared]
        return name

    def _member(self, member: Member, owner: str) -> dict[str, Any]:
        hint = f"{owner.removesuffix('-arg')}-{member.name}"
        entry = {"name": member.name, "type": self.name(member.type, hint)}
        return entry | ({"default": None} if member.optional else {})

    def _enumeration(self, kind: Any, hint: str) -> str:
        if kind not in self._enumerations:
            name, values = hint or "-".join(get_args(kind)), list(get_args(kind))
            self._enumerations[kind] = name
            listed = [{"name": value} for value in values]
            self._entries[name] = {"name": name, "meta-type": "enum", "values": values, "members": listed}
        return self._enumerations[kind]

    def entries(self) -> Iterator[dict[str, Any]]:
        """All of them."""
        yield from self._entries.values()


def label(kind: Any) -> str:
    """A type in words, for the page."""
    if kind in _PLAIN:
        return _PLAIN[kind][1]
    if get_origin(kind) is list:
        return f"list of {label(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def parameters(function: Callable[..., Any]) -> tuple[Member, ...]:
    """The keyword-only parameters of a function."""
    import inspect

    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            kind, optional, text = opened(hints[parameter.name])
            optional = optional or parameter.default is not parameter.empty
            found.append(Member(wire_name(parameter.name), parameter.name, kind, optional, text))
    return tuple(found)
