"""Running a machine until something is so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import PowervisorError, UserError
from .outcome import Outcome

if TYPE_CHECKING:
    from .machine import Machine

Until = int | str | Callable[["Machine"], bool]
PERIOD = 0.005
"""Seconds between two questions to a function."""


class NotReached(PowervisorError, TimeoutError):
    """What `run(until=...)` waited for did not come in time."""


def check_limits(seconds: float | None, instructions: int | None) -> None:
    """Raise UserError for both at once: which comes first would be chance."""
    if seconds is not None and instructions is not None:
        raise UserError("run: give seconds or instructions, not both")


def run_until(machine: Machine, until: Until, seconds: float | None, instructions: int | None) -> Outcome | None:
    """Run until an address, text, or a function's True; None then, or the outcome of a machine that ended before.

    Raises NotReached when so many seconds, or instructions of CPU 0, pass first.
    """
    if isinstance(until, bool) or not (isinstance(until, int | str) or callable(until)):
        raise UserError(f"run(until={until!r}): give an address, text, or a function of the machine")
    if isinstance(until, str):
        if instructions is not None:
            raise UserError("run(until=text): give seconds, not instructions: the console's text comes later")
        return _until_text(machine, until, seconds)
    if isinstance(until, int):
        return _until_address(machine, until, seconds, instructions)
    return _until_true(machine, until, seconds, instructions)


def _limit(seconds: float | None, instructions: int | None) -> str:
    return f"{instructions} instructions" if instructions is not None else f"{seconds:g} s"


def _until_address(machine: Machine, address: int, seconds: float | None, instructions: int | None) -> Outcome | None:
    met = False

    def stop(_: object) -> None:
        nonlocal met
        met = True
        machine.stop_run()

    with machine.hooks.at(address, stop):
        outcome = machine.run(seconds, instructions)
    if outcome is None and not met and not machine.run_stopped:
        raise NotReached(f"no vCPU came to 0x{address:x} within {_limit(seconds, instructions)}")
    return outcome


def _until_text(machine: Machine, text: str, seconds: float | None) -> Outcome | None:
    from ..console.recorder import ExpectError

    machine.go_on()
    try:
        machine.console.expect(text, seconds)
    except ExpectError as error:
        if machine.ended:
            return machine.wait(0)
        if machine.run_stopped:
            return None
        raise NotReached(str(error)) from None
    finally:
        machine.hold()
    return None


def _until_true(
    machine: Machine, holds: Callable[[Machine], bool], seconds: float | None, instructions: int | None
) -> Outcome | None:
    end = None if seconds is None else time.monotonic() + seconds
    left = instructions
    while not holds(machine):
        if left is not None:
            if left <= 0:
                break
            outcome = machine.run(instructions=min(left, 10_000))
            left -= 10_000
        else:
            if end is not None and time.monotonic() >= end:
                break
            outcome = machine.run(PERIOD)
        if outcome is not None or machine.run_stopped:
            return outcome
    else:
        return None
    raise NotReached(f"it did not become true within {_limit(seconds, instructions)}")
