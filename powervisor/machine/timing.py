"""Time and chance of deterministic machines, and points in their lives."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import NamedTuple

from ..properties import SWITCH, number, prop


@dataclass(frozen=True)
class Timing:
    """What a deterministic machine's time is made of, and what takes the place of chance."""

    ns: int = prop(1, "nanoseconds that an instruction takes", number(1, 1000))
    quantum: int = prop(10_000, "instructions of a vCPU's turn, at most", number(1, 10_000_000))
    seed: int = prop(0, "where random numbers for the guest begin")
    start: int = prop(1_735_689_600, "real-time clock at power-on, in seconds since 1970")
    sleep: bool | None = prop(
        None, "let the host's time pass, too, while all vCPUs wait; default on with a -netdev, else off", SWITCH
    )

    def describe(self) -> str:
        """As it is written after -icount."""
        shown = {True: "on", False: "off"}
        given = {name: value for name, value in asdict(self).items() if value is not None}
        values = {name: shown[value] if isinstance(value, bool) else value for name, value in given.items()}
        return ",".join(f"{name}={value}" for name, value in values.items())


class Position(NamedTuple):
    """A point in a deterministic machine's life: rounds finished, whose turn it is, how much of it was executed."""

    round: int
    turn: int
    executed: int
    begun: bool
    """Whether the turn's interrupts were taken; they are before anything is executed."""


class Randomness:
    """Random bytes that follow from a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = str(seed).encode()
        self.position = 0

    def __call__(self, count: int) -> bytes:
        """The next bytes."""
        self.position += 1
        return hashlib.shake_128(b"%s/%d" % (self._seed, self.position)).digest(count)
