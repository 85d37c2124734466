"""Requests out of a stream of bytes: where one JSON text ends, and what is wrong with those that are none.

Messages follow each other with or without line ends between them, and may have line ends inside. After something that
is no JSON the rest of its line is passed over; a byte 0xFF begins anew, as the protocol has it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from .errors import QmpError

MOST_BYTES = 1 << 20
"""Bytes of a message."""
DEEPEST = 32
"""Objects and lists inside each other."""
_BEGIN_ANEW = 0xFF
_NEXT = re.compile(rb'["{}\[\]\xff]')
_IN_STRING = re.compile(rb'["\\\n\xff]')
_BLANK = re.compile(rb"[ \t\r\n]*")
_OPENING, _CLOSING = b"{[", b"}]"

Message = dict[str, Any] | QmpError
"""A request, or why there is none."""


class Requests:
    """Takes bytes as they come."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0  # up to there it was looked at
        self._depth = 0
        self._in_string = self._skipping = False

    def take(self, data: bytes) -> list[Message]:
        """What has become whole with these bytes."""
        self._data += data
        found: list[Message] = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self) -> Message | None:
        while True:
            if self._skipping and not self._skip():
                return None
            if self._depth == 0:
                self._drop(_BLANK.match(self._data).end())  # type: ignore[union-attr]
                if not self._data:
                    return None
                if self._data[0] == _BEGIN_ANEW:
                    self._drop(1)
                    continue
                if self._data[0] not in _OPENING:
                    return self._refuse("no JSON object begins here")
            result = self._scan()
            if isinstance(result, QmpError):
                return result
            if result is None:
                return self._refuse_length() if len(self._data) > MOST_BYTES else None
            if result:
                text = bytes(self._data[: self._at])
                self._drop(self._at)
                return parse(text)

    def _scan(self) -> bool | QmpError | None:
        """Go to the end of the message: True there, None where it has not come yet, False to begin anew."""
        while True:
            found = (_IN_STRING if self._in_string else _NEXT).search(self._data, self._at)
            if found is None:
                self._at = len(self._data)
                return None
            byte, self._at = self._data[found.start()], found.end()
            if self._at > MOST_BYTES:
                return self._refuse_length()
            if byte == _BEGIN_ANEW:
                self._drop(self._at)
                return False
            if self._in_string:
                if byte == ord("\\"):
                    if self._at == len(self._data):
                        self._at -= 1
                        return None
                    self._at += 1
                elif byte == ord("\n"):
                    self._at -= 1
                    return self._refuse("a string does not end on its line")
                else:
                    self._in_string = False
            elif byte == ord('"'):
                self._in_string = True
            elif byte in _OPENING:
                self._depth += 1
                if self._depth > DEEPEST:
                    return self._refuse(f"more than {DEEPEST} objects and lists inside each other")
            else:
                self._depth -= 1
                if self._depth == 0:
                    return True

    def _refuse_length(self) -> QmpError:
        end = self._data.rfind(b"\n", 0, self._at)
        self._at = self._at if end < 0 else end  # its line may have ended
        return self._refuse(f"a message has up to {MOST_BYTES} bytes")

    def _refuse(self, why: str) -> QmpError:
        self._drop(self._at)
        self._skipping = True
        return QmpError(f"malformed request: {why}")

    def _skip(self) -> bool:
        """Pass over the rest of a line; False while it has not ended."""
        ends = [at for at in (self._data.find(b"\n"), self._data.find(b"\xff")) if at >= 0]
        self._drop(min(ends) + 1 if ends else len(self._data))
        self._skipping = not ends
        return not self._skipping

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._at, self._depth, self._in_string = 0, 0, False


def parse(text: bytes) -> Message:
    """A request of its text, or what is wrong with that."""
    try:
        value = json.loads(text.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_object)
    except QmpError as error:
        return error
    except UnicodeDecodeError:
        return QmpError("malformed request: not UTF-8")
    except (ValueError, RecursionError) as error:
        return QmpError(f"malformed request: {getattr(error, 'msg', 'a number is too long')}")
    return value if isinstance(value, dict) else QmpError("malformed request: not an object")


def _no_constant(name: str) -> None:
    raise QmpError(f"malformed request: {name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise QmpError(f"malformed request: {text[:24]} is too large")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise QmpError(f"malformed request: {twice!r} is there twice in one object")
    return found
