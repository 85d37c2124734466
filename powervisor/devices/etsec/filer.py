"""The receive queue filer: a table of rules that sends each frame to a ring, or away."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from powervisor.devices.ethernet import BROADCAST
from powervisor.devices.etsec.frames import FRAGMENT, TCP, UDP, Parsed

ENTRIES = 256
_GPI, _QUEUE_SHIFT, _CLUSTER, _REJECT, _AND = 1 << 31, 10, 1 << 9, 1 << 8, 1 << 7
_EQUAL, _AT_LEAST, _DIFFERENT, _BELOW = range(4)
_MASK = 0
"""The property that sets the mask of those after it."""
_EVERYTHING = 0xFFFF_FFFF
_BROADCAST, _VLAN, _CFI, _FRAGMENT, _IPV4, _IPV6, _TCP, _UDP = (1 << bit for bit in (15, 14, 13, 11, 9, 8, 5, 4))
"""Of property 1, what the parser found."""

Properties = Callable[[int], int]
"""The value of a property, by its number."""


class Verdict(NamedTuple):
    """What becomes of a frame."""

    queue: int
    reject: bool
    interrupt: bool


class Filer:
    """`control` and `properties` are the entries' RQFCR and RQFPR."""

    def __init__(self, control: Sequence[int], properties: Sequence[int]) -> None:
        self._rules = list(zip(control, properties, strict=True))
        verdicts = {_verdict(control) for control, _ in self._rules if _may_decide(control)}
        fallback = self._search(lambda number: 0, known=False)
        self.always = fallback if verdicts == {fallback} else None
        """What becomes of every frame, where the rules make no difference."""

    def file(self, properties: Properties) -> Verdict | None:
        """What becomes of a frame; None where no rule says."""
        return self.always or self._search(properties, known=True)

    def _search(self, properties: Properties, known: bool) -> Verdict | None:
        """The verdict of the first rule that holds. Where properties are not `known`, no rule about them holds."""
        mask, skipping, holds = _EVERYTHING, False, True
        for control, value in self._rules:
            if skipping:  # a cluster that was not entered
                skipping = not (control & _CLUSTER and not control & _AND)
                continue
            number, comparison = control & 0xF, control >> 5 & 3
            if number == _MASK:
                if holds:
                    mask = value
                holds = holds and comparison in (_EQUAL, _AT_LEAST)
            else:
                holds = holds and known and _compare(properties(number) & mask, value, comparison)
            if control & _AND:
                if control & _CLUSTER:
                    skipping, holds = not holds, True
                continue
            if holds:
                return _verdict(control)
            holds = True
        return None


def _may_decide(control: int) -> bool:
    never = control & 0xF == _MASK and control >> 5 & 3 in (_DIFFERENT, _BELOW)
    return not never and not control & _AND


def _verdict(control: int) -> Verdict:
    return Verdict(control >> _QUEUE_SHIFT & 0x3F, bool(control & _REJECT), bool(control & _GPI))


def _compare(found: int, value: int, comparison: int) -> bool:
    if comparison == _EQUAL:
        return found == value
    if comparison == _AT_LEAST:
        return found >= value
    return found != value if comparison == _DIFFERENT else found < value


def properties(frame: bytes, parsed: Parsed) -> Properties:
    """The properties of a frame, by number; those that it does not have are 0."""
    ip = frame[parsed.network : parsed.transport] if parsed.version else b""

    def words(at: int, form: str) -> int:
        return int(struct.unpack_from(form, ip, at)[0])

    def value(number: int) -> int:
        if number == 1:
            return _found(frame, parsed)
        if 3 <= number <= 6:
            return int.from_bytes(frame[3 * (number - 3) : 3 * (number - 2)], "big")
        if number == 7:
            return parsed.kind
        if number in (8, 9) and parsed.vlan is not None:
            return parsed.vlan & 0xFFF if number == 8 else parsed.vlan >> 13
        if not parsed.version:
            return 0
        if number == 10:
            return ip[1] if parsed.version == 4 else words(0, ">H") >> 4 & 0xFF
        if number == 11:
            return parsed.protocol
        if number in (12, 13):
            source, destination = (12, 16) if parsed.version == 4 else (8, 24)
            return words(destination if number == 12 else source, ">I")
        if number in (14, 15) and parsed.has_ports:
            at = parsed.transport + (2 if number == 14 else 0)
            return int.from_bytes(frame[at : at + 2], "big")
        return 0

    return value


def _found(frame: bytes, parsed: Parsed) -> int:
    found = _BROADCAST if frame[:6] == BROADCAST else 0
    if parsed.vlan is not None:
        found |= _VLAN | (_CFI if parsed.vlan & 0x1000 else 0)
    found |= {4: _IPV4, 6: _IPV6}.get(parsed.version, 0)
    if parsed.has_ports:
        found |= {TCP: _TCP, UDP: _UDP}[parsed.protocol]
    return found | (_FRAGMENT if parsed.version and parsed.protocol == FRAGMENT else 0)
