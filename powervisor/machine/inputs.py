"""What comes to a deterministic machine from outside, and the one way in: between two rounds of its vCPUs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from ..console.chardev import BACKLOG, CAPACITY, Chardev, Dispatch
from ..errors import PowervisorError

RESET, POWER, TIME = "reset button", "power button", "time"
"""Sources of input that are no chardevs: the board's buttons, and the time that a sleep took which input ended."""
_ENTRY = 200
"""Bytes, about, that an input takes besides its data."""


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

    def refuses(self, data: bytes) -> str:
        """What is wrong with data that a file says came from here; empty where nothing is."""


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

    def begin_anew(self) -> None:
        """What the guest sends from now on is new."""
        self._shown = self.sent

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

    def refuses(self, data: bytes) -> str:
        return ""


class Button:
    """A button of the board, as a source of input."""

    def __init__(self, push: Callable[[], None]) -> None:
        self._push = push

    def room(self) -> int:
        """It is pushed once."""
        return 1

    def take(self, data: bytes) -> None:
        """Push it."""
        self._push()

    def refuses(self, data: bytes) -> str:
        """Nothing."""
        return ""


class Time:
    """Nanoseconds that passed before input ended a sleep: whoever lets time pass has looked at them already."""

    def room(self) -> int:
        """Always."""
        return 8

    def take(self, data: bytes) -> None:
        """Nothing is left to do."""

    def refuses(self, data: bytes) -> str:
        """What is no number of nanoseconds."""
        return "" if len(data) == 8 else f"a time of {len(data)} bytes"


class Inputs:
    """Input that waits for the end of a round, and what was taken; what was recorded comes before what is new."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {TIME: Time()}
        self.on_take: Callable[[Input], None] = lambda input_: None
        """Told of each that is taken, but not of one that is taken again."""
        self.closed = False
        """Whether nothing new is let in, because a recording that ended goes on after its last input."""
        self.kept_bytes = 0
        """Memory, about, that `keep` costs."""
        self._kept: deque[Input] = deque()  # what was taken and may be again, then one at least of what is to come
        self._first = 0  # the number of the first of these
        self._next = 0  # of the one that the machine takes next
        self._told = 0  # how many `on_take` has had
        self._recorded: Iterator[Input] = iter(())  # what comes after them
        self._keep_from: int | None = None
        self.round = 0
        """Which it is; set by whoever takes the turns."""
        self._new_from = 0  # the first round whose end the machine has never seen
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._news = False
        self._arrived = threading.Condition()

    # -- from outside, on any thread

    def put(self, source: str, *data: bytes) -> None:
        """Things come in; lost while a recording, or the past, is repeated."""
        with self._arrived:
            if not (self.repeating or self.closed):
                self._waiting.extend((source, one) for one in data)
                self._tell()

    def replace(self, source: str, data: bytes) -> None:
        """The state of something: none before it is of interest, but it is after what is repeated."""
        with self._arrived:
            if not self.closed:
                self._waiting = deque(one for one in self._waiting if one[0] != source)
                self._waiting.append((source, data))
                self._tell()

    def _tell(self) -> None:
        self._news = True
        self._arrived.notify_all()

    def waiting(self, source: str) -> int:
        """Bytes of a source that nobody has taken yet."""
        with self._arrived:
            return sum(len(data) for name, data in self._waiting if name == source)

    def entries(self, source: str) -> int:
        """How many times `put` gave some of these."""
        with self._arrived:
            return sum(name == source for name, _ in self._waiting)

    # -- the machine's side, between two rounds

    def await_news(self, seconds: float) -> None:
        """Wait until something comes in that nobody has looked at, or the time is over."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._news, seconds)

    def repeat(self, inputs: Iterable[Input]) -> None:
        """Have these taken where they were, before anything new."""
        self._recorded = iter(inputs)
        self._look_ahead()

    @property
    def repeating(self) -> bool:
        """Whether a recording, or the past, has input that has not come yet, or may have none here."""
        return self._next < self._first + len(self._kept) or self.round < self._new_from

    @property
    def position(self) -> int:
        """How many the machine has had."""
        return self._next

    def keep(self, position: int | None) -> None:
        """Somebody may `go_back` to a position, or nobody (None) to any."""
        self._keep_from = position
        self._drop()

    def go_back(self, position: int, round_: int) -> None:
        """Be in a round again, and have those again that came after a position; new ones come from here on.

        Raises PowervisorError where they are not kept.
        """
        if position < self._first:
            raise PowervisorError(f"input {position} is not kept any more, only from {self._first} on")
        self._next = position
        self._new_from, self.round = max(self._new_from, self.round), round_

    def forget_future(self) -> None:
        """What comes from now on is new."""
        while self._first + len(self._kept) > self._next:
            self.kept_bytes -= _size(self._kept.pop())
        self._recorded = iter(())
        self._new_from, self._told = 0, self._next

    def coming(self) -> Input | None:
        """The next of those that come again, if that is at the end of this round."""
        if self._next == self._first + len(self._kept):
            return None
        input_ = self._kept[self._next - self._first]
        return input_ if input_.round == self.round else None

    def ready(self) -> bool:
        """Whether something new is there that is taken."""
        with self._arrived:
            self._news = False
            return any(not data or self.sources[source].room() for source, data in self._waiting)

    def deliver(self, executed: list[int]) -> bool:
        """Take in what comes at the end of the round, when each vCPU has executed so many; whether there was any.

        Raises PowervisorError when the machine does not do again what it did.
        """
        before = self._next
        if before == self._first + len(self._kept) and not self._waiting:
            return False
        while (number := self._next - self._first) < len(self._kept) and self._kept[number].round <= self.round:
            input_ = self._kept[number]
            if (input_.round, input_.executed) != (self.round, executed):
                raise PowervisorError(
                    f"{input_.source}: input of round {input_.round}, after {sum(input_.executed)} instructions, met "
                    f"another machine than was recorded, in round {self.round} after {sum(executed)}; please report it"
                )
            self._take(input_)
        if not self.repeating and self._waiting:
            self._deliver_new(list(executed))
        return self._next > before

    def take_new(self, source: str, data: bytes, executed: list[int]) -> None:
        """Take something that comes now; the list is kept."""
        self._take(Input(self.round, source, data, executed), new=True)

    def _take(self, input_: Input, new: bool = False) -> None:
        with self._arrived:  # nobody who puts something sees it half done
            if new:
                self._keep(input_)
            self._next += 1
            self._look_ahead()
        self.sources[input_.source].take(input_.data)
        if self._next > self._told:
            self._told = self._next
            self.on_take(input_)
        self._drop()

    def _deliver_new(self, executed: list[int]) -> None:
        with self._arrived:
            waiting, self._waiting = self._waiting, deque()
            self._news = False
        left: dict[str, list[bytes]] = {}
        for source, data in waiting:
            now = b"" if source in left else data[: self.sources[source].room()]
            if len(now) < len(data):
                left.setdefault(source, []).append(data[len(now) :])
            if now or not data:
                self.take_new(source, now, executed)
        with self._arrived:
            self._waiting.extendleft((name, data) for name in left for data in reversed(left[name]))

    def _look_ahead(self) -> None:
        """Have the next one at hand."""
        if self._next == self._first + len(self._kept) and (input_ := next(self._recorded, None)) is not None:
            self._keep(input_)

    def _keep(self, input_: Input) -> None:
        self._kept.append(input_)
        self.kept_bytes += _size(input_)

    def _drop(self) -> None:
        """Let go of those that nobody goes back to."""
        keep_from = self._next if self._keep_from is None else min(self._keep_from, self._next)
        with self._arrived:
            while self._first < keep_from:
                self.kept_bytes -= _size(self._kept.popleft())
                self._first += 1


def _size(input_: Input) -> int:
    return _ENTRY + len(input_.data)
