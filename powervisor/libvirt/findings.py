"""What was looked at, and what to do where it is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How it is."""

    OK = "ok"
    NOTE = "note"
    """Something lacks that only some machines need."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing, and the remedy where it lacks."""

    state: State
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state.value:8} {self.what}{'; ' if self.remedy else ''}{self.remedy}"


def ok(what: str) -> Finding:
    """Something is as it should be."""
    return Finding(State.OK, what)


def note(what: str, remedy: str) -> Finding:
    """Something lacks that only some machines need."""
    return Finding(State.NOTE, what, remedy)


def missing(what: str, remedy: str) -> Finding:
    """Something lacks without which libvirt runs nothing."""
    return Finding(State.MISSING, what, remedy)
