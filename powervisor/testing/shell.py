"""Commands in the shell of a booted guest."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from ..errors import PowervisorError
from ..machine import Machine

PROMPT = "/ # "
"""The prompt of our Linux guests."""
_END = "powervisor-status"


class CommandFailed(PowervisorError):
    """A command in the guest ended with a status other than 0; the message ends with what it printed."""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    output: str
    status: int


class Shell:
    """A POSIX shell at its prompt on the console of a machine that runs."""

    def __init__(self, machine: Machine, prompt: str = PROMPT) -> None:
        self.machine, self.prompt = machine, prompt

    def run(self, command: str, timeout: float = 60, check: bool = True) -> Result:
        """Execute a line; what it printed, without the line end, and its status. `timeout` is in host seconds.

        Raises CommandFailed for a status other than 0 unless `check` is False, ExpectError when the time is over.
        """
        console = self.machine.console
        end = f"{_END}-{secrets.token_hex(4)}"  # which no program knows
        # Cut in two, so that the terminal's echo of the line is not taken for the end.
        console.send(f"{command}; echo {end[:10]}''{end[10:]}=$?\n")
        text = console.expect(rf"{end}=\d+\r?\n", timeout, regex=True)
        console.expect(self.prompt, timeout)
        _, _, printed = text.partition("=$?")
        body, _, status = printed.rpartition(f"{end}=")
        output = re.sub(r"\r+\n", "\n", body).strip("\r\n")
        result = Result(output, int(status))
        if check and result.status:
            raise CommandFailed(f"{command}: status {result.status}\n{output}".rstrip())
        return result
