"""What a command is: a function of a session and its arguments, declared once."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .types import Member, opened, parameters

if TYPE_CHECKING:
    from .session import Session

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Command:
    """One command. `early` ones are those of a session that has not negotiated its capabilities yet."""

    name: str
    family: str
    answer: Answer
    arguments: tuple[Member, ...]
    returns: Any
    help: str
    early: bool

    def __call__(self, session: Session, arguments: dict[str, Any]) -> Any:
        """Execute it, with arguments that were checked."""
        return self.answer(session, **arguments)


class Waiting:
    """A result that is waited for; other clients are served meanwhile."""

    def __init__(self, result: Callable[[], Any]) -> None:
        self.result = result


COMMANDS: dict[str, Command] = {}
"""All commands by name."""


def command(name: str, *, early: bool = False) -> Callable[[Answer], Answer]:
    """Make a function the command `name`: keyword-only parameters are its arguments, the docstring its help."""

    def declare(answer: Answer) -> Answer:
        returns, _, _ = opened(typing.get_type_hints(answer, include_extras=True)["return"])
        family = answer.__module__.rpartition(".")[2]
        text = " ".join((answer.__doc__ or "").split())
        COMMANDS[name] = Command(name, family, answer, parameters(answer), returns, text, early)
        return answer

    return declare
