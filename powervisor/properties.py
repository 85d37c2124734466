"""What a user describes as `name,key=value,...` (devices, drives), declared once as a dataclass:

    @dataclass(frozen=True)
    class Options:
        file: str = prop("", "the file to load", required=True)
        read_only: bool = prop(False, "refuse writes", name="readonly")
        addr: int | None = prop(None, "where it goes", NUMBER)

Parsing, messages and help come from it. A property is called as its attribute, with dashes, unless `name` says
otherwise; without a kind, the default's type tells it: text, switch or number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from powervisor.errors import UserError

T = TypeVar("T")


class Kind(NamedTuple):
    """How a value is written. `parse` raises ValueError, whose text ends "VALUE is not .."."""

    label: str
    parse: Callable[[str], Any]


def _switch(text: str) -> bool:
    if text not in _SWITCH:
        raise ValueError("neither on nor off")
    return _SWITCH[text]


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError("not a number; write 4096 or 0x1000") from None


def _size(text: str) -> int:
    digits, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in _UNITS else (text, "")
    if not digits.isdecimal():
        raise ValueError("not a size; write for example 4096, 64K or 2G")
    return int(digits) << _UNITS.get(unit, 0)


_SWITCH = {"on": True, "off": False, "yes": True, "no": False, "true": True, "false": False}
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}

TEXT = Kind("text", str)
SWITCH = Kind("on|off", _switch)
NUMBER = Kind("number", _number)
SIZE = Kind("size", _size)
_BY_TYPE: Mapping[type, Kind] = {str: TEXT, bool: SWITCH, int: NUMBER}


def number(least: int, most: int) -> Kind:
    """A number within limits."""

    def parse(text: str) -> int:
        if not least <= (value := _number(text)) <= most:
            raise ValueError(f"not within {least}..{most}")
        return value

    return Kind(f"{least}..{most}", parse)


def choice(*words: str, remedy: str = "") -> Kind:
    """One of some words; `remedy` is what to do who has given another."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"not one of {', '.join(words)}{remedy and f'; {remedy}'}")
        return text

    return Kind("|".join(words), parse)


class Property(NamedTuple):
    """One declared property, for help."""

    name: str
    attribute: str
    kind: Kind
    default: Any
    help: str
    required: bool
    many: bool


def prop(
    default: Any,
    help: str,
    kind: Kind | None = None,
    *,
    name: str | None = None,
    required: bool = False,
    many: bool = False,
) -> Any:
    """Declare a property as a field of a dataclass; see the module. One that may be given `many` times is parsed as
    its values with commas between."""
    kind = kind or _BY_TYPE[type(default)]
    return dataclasses.field(
        default=default, metadata={"help": help, "kind": kind, "name": name, "required": required, "many": many}
    )


def properties(options: type) -> list[Property]:
    """What `options`, a dataclass, declares; in order."""
    return [
        Property(
            field.metadata["name"] or field.name.replace("_", "-"),
            field.name,
            field.metadata["kind"],
            field.default,
            field.metadata["help"],
            field.metadata["required"],
            field.metadata["many"],
        )
        for field in dataclasses.fields(options)
    ]


def listing(options: type) -> list[tuple[str, str]]:
    """For help: `name=kind` and what it means, with its default."""
    rows = []
    for name, _, kind, default, text, required, _ in properties(options):
        shown = {True: "on", False: "off"}.get(default, default) if isinstance(default, bool) else default
        note = "; required" if required else "" if shown in (None, "", ()) else f"; default {shown}"
        rows.append((f"{name}={kind.label}", text + note))
    return rows


def words(text: str) -> list[str]:
    """`text` at its commas; `,,` is a comma inside a word."""
    return [word.replace("\0", ",") for word in text.replace(",,", "\0").split(",")]


def pairs(text: str, where: str, many: Iterable[str] = ()) -> dict[str, str]:
    """`a=1,b=2,c` as a dict, in which c is "on". Values of names in `many` are joined by commas; raises UserError where
    another is given twice."""
    found: dict[str, str] = {}
    for word in filter(None, words(text)):
        name, equals, value = word.partition("=")
        value = value if equals else "on"
        if name in found and name in many:
            value = f"{found[name]},{value}"
        elif name in found:
            raise UserError(f"{where}: {name} is given twice; leave one of them out")
        found[name] = value
    return found


def build(options: type[T], given: Mapping[str, str], where: str) -> T:
    """An instance of `options` from names and texts. Raises UserError, which begins with `where`."""
    known = {declared.name: declared for declared in properties(options)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise UserError(f"{where}: unknown property {name!r}; {_hint(name, known)}")
        try:
            values[known[name].attribute] = known[name].kind.parse(text)
        except ValueError as error:
            raise UserError(f"{where}: {name}={text} is {error}") from None
    for declared in known.values():
        if declared.required and not values.get(declared.attribute):
            raise UserError(f"{where}: {declared.name}= is missing; add {declared.name}={declared.kind.label.upper()}")
    return options(**values)


def parse(options: type[T], text: str, where: str, first: str = "") -> T:
    """An instance of `options` from `key=value,...`; a first word without `=` is the value of `first`.

    Raises UserError, which begins with `where`.
    """
    if first and "=" not in text.partition(",")[0]:
        text = f"{first}={text}"
    many = {declared.name for declared in properties(options) if declared.many}
    return build(options, pairs(text, where, many), where)


def check_known(names: Collection[str], kind: str, name: str, where: str, remedy: str) -> None:
    """Raise UserError where `kind`=`name` refers to nothing; with `remedy` where there is nothing to choose."""
    if name not in names:
        there = ", ".join(sorted(names)) or f"none; {remedy}"
        raise UserError(f"{where}: {kind}={name}: no such {kind}; there is {there}")


def check_free(kind: str, name: str, where: str, user: str | None) -> None:
    """Raise UserError where what `kind`=`name` refers to has a user already."""
    if user:
        raise UserError(f"{where}: {kind}={name} is used by {user}; give each device a {kind} of its own")


def _hint(name: str, known: Iterable[str]) -> str:
    import difflib

    names = list(known)
    close = difflib.get_close_matches(name, names, 3, 0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"it takes {', '.join(names)}"
