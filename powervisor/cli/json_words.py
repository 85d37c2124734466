"""Options that are written as JSON objects, as libvirt does, brought to the form that everybody types."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from powervisor.errors import UsageError


def words_of(option: str, kind: str | None = None) -> Callable[[str], str]:
    """What argparse makes of the option's text: KIND,key=value,... of a JSON object, or the text as it is.

    `kind` is the member whose value comes first; without it there is none such.
    """

    def words(text: str) -> str:
        if text.lstrip().startswith("{"):
            return from_json(text, option, kind)
        return text.removeprefix(f"{kind}=") if kind else text

    return words


def from_json(text: str, option: str, kind: str | None) -> str:
    """`KIND,key=value,...` of a JSON object. Raises UsageError."""
    try:
        members = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {text}: not JSON ({error}); write an object, or key=value,...") from None
    words = []
    if kind is not None:
        name = members.pop(kind, None)
        if not isinstance(name, str):
            raise UsageError(f"{option} {text}: {kind!r} is missing; it says what is wanted")
        words.append(name)
    words += [f"{key}={value}" for key, value in _pairs(members, "")]
    try:
        possible = not any(b"\0" in os.fsencode(word) for word in words)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise UsageError(f"{option} {text}: no file or name has such a character (\\u); leave it out")
    return ",".join(word.replace(",", ",,") for word in words)


def _pairs(members: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Names and values; of objects within objects with a dot between, of a list each, or by number."""
    for key, value in members.items():
        match value:
            case dict():
                yield from _pairs(value, f"{prefix}{key}.")
            case list():
                for number, one in enumerate(value):
                    if isinstance(one, dict) and one.keys() == {"str"}:
                        yield f"{prefix}{key}", str(one["str"])
                    else:
                        yield from _pairs({str(number): one}, f"{prefix}{key}.")
            case None:
                yield f"{prefix}{key}", ""
            case bool():
                yield f"{prefix}{key}", "on" if value else "off"
            case _:
                yield f"{prefix}{key}", str(value)
