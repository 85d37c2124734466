"""What comes to a deterministic machine from outside, and the one way in: between two rounds of its vCPUs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ..console.chardev import BACKLOG, CAPACITY, Chardev, Dispatch
from ..errors import PowervisorError

RESET, POWER = "reset button", "power button"
"""Sources of input that are no chardevs: the board's buttons."""


class Input(NamedTuple):
    """`data` came from `source` at the end of a round, when each vCPU had `executed` so many instructions."""

    round: int
    source: str
    data: bytes
    executed: list[int]


class Source(Protocol):
    """Where input goes to."""

    def room(self) -> int:
        """Bytes it takes now."""

    def take(self, data: bytes) -> None:
        """Take input; no more than there is room for."""


class Channel:
    """A chardev as devices of a deterministic machine see it: always connected, its output never waits, and input comes
    through `Inputs`."""

    def __init__(self, name: str, chardev: Chardev, inputs: Inputs) -> None:
        self.name, self._chardev, self._inputs = name, chardev, inputs
        self.on_receive: Callable[[bytes], None] | None = None
        self.can_receive: Callable[[], int] = lambda: BACKLOG
        self.on_room: Callable[[], None] | None = None
        self.on_connected: Callable[[bool], None] | None = None
        self.sent = 0
        """Bytes of output since power-on."""
        self._shown = 0
        """Bytes of them that the chardev has: a machine that goes back in time says nothing twice."""
        inputs.sources[name] = _Line(self)

    @property
    def connected(self) -> bool:
        """Whether somebody is at the other end."""
        return True

    def room(self) -> int:
        """Bytes that `write` takes now without waiting."""
        return CAPACITY

    def write(self, data: bytes) -> None:
        """Take bytes the guest sent."""
        new = data[max(self._shown - self.sent, 0) :]
        self.sent += len(data)
        if new:
            self._shown = self.sent
            self._chardev.write(new)

    def close(self) -> None:
        """No more output comes."""
        self._chardev.close()

    def start(self, dispatch: Dispatch) -> None:
        """Begin to carry input."""
        self._chardev.on_receive = lambda data: self._inputs.put(self.name, data)
        self._chardev.can_receive = lambda: BACKLOG - self._inputs.waiting(self.name)
        self._chardev.start(dispatch)


class _Line:
    """The way from `Inputs` to the device behind a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def room(self) -> int:
        return BACKLOG if self._channel.on_receive is None else self._channel.can_receive()

    def take(self, data: bytes) -> None:
        if self._channel.on_receive is not None:
            self._channel.on_receive(data)


class Inputs:
    """Input that waits for the end of a round, and all that was taken; what was recorded comes before what is new."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.taken: list[Input] = []
        """Everything since power-on, in order."""
        self.on_take: Callable[[Input], None] = lambda input_: None
        """Told of each that is new."""
        self.closed = False
        """Whether nothing new is let in, because a recording that ended goes on after its last input."""
        self._next = 0
        """How many of `taken` the machine has had: fewer than there are, where it repeats what it did."""
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._arrived = threading.Condition()

    # -- from outside, on any thread

    def put(self, source: str, data: bytes = b"") -> None:
        """Something comes in; lost while a recording is repeated."""
        with self._arrived:
            if not (self.repeating or self.closed):
                self._waiting.append((source, bytes(data)))
                self._arrived.notify_all()

    def waiting(self, source: str) -> int:
        """Bytes of a source that nobody has taken yet."""
        with self._arrived:
            return sum(len(data) for name, data in self._waiting if name == source)

    def await_some(self, seconds: float) -> bool:
        """Wait until there is some; False when that is not within the time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: bool(self._waiting), seconds)

    # -- the machine's side, between two rounds

    def repeat(self, inputs: list[Input]) -> None:
        """Have these taken where they were, before anything new."""
        self.taken = list(inputs)

    @property
    def repeating(self) -> bool:
        """Whether a recording, or the past, has input that has not come yet."""
        return self._next < len(self.taken)

    @property
    def position(self) -> int:
        """How many the machine has had; set to go back."""
        return self._next

    @position.setter
    def position(self, value: int) -> None:
        self._next = value

    def forget_future(self) -> None:
        """What comes from now on is new."""
        del self.taken[self._next :]

    def deliver(self, round_: int, executed: list[int]) -> bool:
        """Take in what comes at the end of a round; whether there was any.

        Raises PowervisorError when the machine does not do again what it did.
        """
        before = self._next
        while self.repeating and (input_ := self.taken[self._next]).round <= round_:
            if (input_.round, input_.executed) != (round_, executed):
                raise PowervisorError(
                    f"{input_.source}: input of round {input_.round}, after {sum(input_.executed)} instructions, met "
                    f"another machine than was recorded, in round {round_} after {sum(executed)}; please report it"
                )
            self._next += 1
            self.sources[input_.source].take(input_.data)
        if not self.repeating and self._waiting:
            self._deliver_new(round_, executed)
        return self._next > before

    def _deliver_new(self, round_: int, executed: list[int]) -> None:
        with self._arrived:
            waiting, self._waiting = self._waiting, deque()
        left: dict[str, list[bytes]] = {}
        for source, data in waiting:
            now = b"" if source in left else data[: self.sources[source].room()]
            if len(now) < len(data):
                left.setdefault(source, []).append(data[len(now) :])
            if now or not data:
                self._take_new(Input(round_, source, now, list(executed)))
        with self._arrived:
            self._waiting.extendleft((name, data) for name in left for data in reversed(left[name]))

    def _take_new(self, input_: Input) -> None:
        self.taken.append(input_)
        self._next += 1
        self.sources[input_.source].take(input_.data)
        self.on_take(input_)
