"""The errors a person meets: one line that says where, what, and what to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_OPTIONS: ContextVar[Mapping[str, str]] = ContextVar("options", default=MappingProxyType({}))


def argument(name: str) -> str:
    """The argument `name` of `Machine` as the user wrote it: a keyword, or an option of the command line."""
    return _OPTIONS.get().get(name, name)


@contextmanager
def given_as(options: Mapping[str, str]) -> Iterator[None]:
    """Let messages name arguments of `Machine` as these options."""
    token = _OPTIONS.set(options)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


class PowervisorError(Exception):
    """Base of every error this package raises on purpose."""

    exit_status = 1


class UserError(PowervisorError):
    """A mistake in what the user asked for; the message names the option and the remedy."""


class UsageError(UserError):
    """A command line that does not parse (exit status 2)."""

    exit_status = 2


class GuestError(PowervisorError):
    """A guest fault that cannot be delivered to the guest: checkstop, double fault (exit status 3)."""

    exit_status = 3
