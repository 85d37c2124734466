"""Networks of a deterministic machine: frames come in between rounds, as all input does, and are recorded with it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..net.netdev import HEADER, MAX_FRAME, Frame, Netdev, Port

if TYPE_CHECKING:
    from ..devices.worker import Hire
    from .inputs import Inputs

_MOST_WAITING, _MOST_WAITING_BYTES = 256, 1 << 20
"""Frames that wait for the end of a round; the backend keeps the others, and the host behind it."""
_MOST_ARRIVED = 256
"""Frames that wait for buffers of the driver's."""
_MOST_UNSENT_BYTES = 4 << 20
"""What waits for a backend that is busy: the guest never does, and more is lost, as on any Ethernet."""
_BATCH_FRAMES = 64


class Host(NamedTuple):
    """What a guest sees of a network's other end from the beginning."""

    mtu: int
    link_up: bool


class Cable(Port):
    """Between a network device and its backend, whose `Nic` it is: never busy, without headers, and all that comes to
    the device comes through `Inputs`. Without a backend (a replay) nobody is at the other end."""

    def __init__(
        self, name: str, kind: str, where: str, warn: Callable[[str], None], host: Host, backend: Netdev | None,
        inputs: Inputs, hire: Hire,
    ) -> None:  # fmt: skip
        super().__init__(name, where, warn)
        self.kind, self.host, self._backend, self._inputs = kind, host, backend, inputs
        self.mtu, self.link_up = host
        self._source, self._link_source = f"netdev {name}", f"link of netdev {name}"
        inputs.sources[self._source], inputs.sources[self._link_source] = _Frames(self), _Link(self)
        self._bell = hire(name, self._offer)
        self._arrived: deque[bytes] = deque()  # taken in, and not by the device yet
        self._passed = 0  # frames since power-on, in both directions
        self._shown = 0  # of them those that went on to backend and captures: nothing does twice
        self._sending = threading.Lock()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._refused = False  # the backend has frames that `receive` did not take
        self._telling = threading.Lock()
        if backend is not None:
            backend.nic = self

    # -- the device's side

    @property
    def busy(self) -> bool:
        """Never: it would depend on the host."""
        return False

    def send(self, frames: Sequence[Frame]) -> None:
        """Send frames; at once, but nothing twice."""
        new = frames[max(self._shown - self._passed, 0) :]
        self._passed += len(frames)
        if new:
            self._shown = self._passed
            self._capture(new)
            self._transmit(new)

    def resume(self) -> None:
        """Offer frames again when the access that asked for it is over."""
        if self._arrived:
            self._bell.ring()

    def _offer(self) -> None:
        if self._arrived and self.nic is not None:
            taken = self.nic.receive([memoryview(frame) for frame in self._arrived])
            for _ in range(taken):
                self._arrived.popleft()
        if self._refused and self._backend is not None:
            self._refused = False
            self._backend.resume()

    # -- what comes through `Inputs`

    def room(self) -> int:
        """For a frame, or none."""
        return MAX_FRAME if len(self._arrived) < _MOST_ARRIVED else 0

    def take(self, frame: bytes) -> None:
        """A frame comes in."""
        self._passed += 1
        if self._passed > self._shown:
            self._shown = self._passed
            self._capture([(frame,)])
        self._arrived.append(frame)
        self._bell.ring()

    def take_link(self, up: bool) -> None:
        """The link is up or down from now on."""
        if up is not self.link_up:
            self.link_up = up
            if self.nic is not None:
                self.nic.link_changed()

    # -- going back

    def save(self) -> Any:
        """What `restore` takes."""
        return self._passed, self.link_up, tuple(self._arrived)

    def restore(self, saved: Any) -> None:
        """Be as at `save`; the device is restored by itself."""
        self._passed, self.link_up, arrived = saved
        self._arrived = deque(arrived)

    def moved(self) -> None:
        """Frames that were not taken yet are those of another life."""
        self._arrived.clear()

    def begin_anew(self) -> None:
        """What passes from now on is new; the link may have changed since it was the one of the past."""
        self._shown = self._passed
        if self._backend is not None and self._backend.link_up is not self.link_up:
            self.link_changed()

    # -- the backend's side: its thread, and others'

    def receive(self, frames: Sequence[memoryview]) -> int:
        """Take frames, as long as not too many wait."""
        assert self._backend is not None
        self._refused = True  # before looking: whoever makes room after that, tells
        room = _MOST_WAITING_BYTES - self._inputs.waiting(self._source)
        most = _MOST_WAITING - self._inputs.entries(self._source)
        skip = HEADER if self._backend.headers else 0
        new: list[bytes] = []
        taken = 0
        for frame in frames:
            data = bytes(frame[skip:])
            if len(new) >= most or len(data) > room:
                break
            taken += 1
            room -= len(data)
            if data:
                new.append(data)
        self._inputs.put(self._source, *new)
        if taken == len(frames):
            self._refused = False
        return taken

    def sendable(self) -> None:
        """The backend takes frames again."""
        self._send_again()

    def link_changed(self) -> None:
        """The backend's link is another."""
        assert self._backend is not None
        with self._telling:
            self._inputs.replace(self._link_source, _link(self._backend.link_up))
        self._send_again()

    def _transmit(self, frames: Sequence[Frame]) -> None:
        backend = self._backend
        if backend is None:
            return
        with self._sending:
            if not (self._unsent or backend.busy):
                self._pass_on(backend, frames)
                return
            for frame in frames:
                data = b"".join(frame)
                if self._unsent_bytes + len(data) <= _MOST_UNSENT_BYTES:
                    self._unsent.append(data)
                    self._unsent_bytes += len(data)
        self._send_again()  # it may have become free meanwhile

    def _send_again(self) -> None:
        backend = self._backend
        with self._sending:
            while self._unsent and backend is not None and not backend.busy:
                batch = [self._unsent.popleft() for _ in range(min(len(self._unsent), _BATCH_FRAMES))]
                self._unsent_bytes -= sum(map(len, batch))
                self._pass_on(backend, [(data,) for data in batch])

    def _pass_on(self, backend: Netdev, frames: Sequence[Frame]) -> None:
        before = (bytes(HEADER),) if backend.headers else ()
        backend.send([(*before, *frame) for frame in frames])

    # -- the machine's side

    def start(self) -> None:
        """Let frames in."""
        if self._backend is not None:
            self._backend.start()

    def close(self) -> None:
        """Let go of the host."""
        if self._backend is not None:
            self._backend.close()

    def set_link(self, plugged: bool) -> None:
        """Plug it in, or pull it out; the guest sees that at the end of a round."""
        if self._inputs.closed:
            self.warn(f"{self.where}: a replay has the links that were recorded; nothing is changed")
        if self._backend is not None:
            self._backend.set_link(plugged)
        else:
            self._inputs.replace(self._link_source, _link(plugged))


def _link(up: bool) -> bytes:
    return b"\1" if up else b"\0"


class _Frames:
    """Frames, as a source of input."""

    def __init__(self, cable: Cable) -> None:
        self.room, self.take = cable.room, cable.take

    def refuses(self, data: bytes) -> str:
        return "" if 0 < len(data) <= MAX_FRAME else f"a frame of {len(data)} bytes"


class _Link:
    """Changes of a link, as a source of input."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable

    def room(self) -> int:
        return 1

    def take(self, data: bytes) -> None:
        self._cable.take_link(data == _link(True))

    def refuses(self, data: bytes) -> str:
        return "" if data in (_link(False), _link(True)) else f"a link that is neither up nor down: {data[:8].hex()}"


class Cables:
    """Those of a machine, in order."""

    def __init__(self, inputs: Inputs, hire: Hire) -> None:
        self._inputs, self._hire = inputs, hire
        self._all: list[Cable] = []
        self.recorded: Mapping[str, Host] | None = None
        """What a recording says of each: then no backend is opened."""

    def plug(self, kind: type[Netdev], options: Any, where: str, warn: Callable[[str], None]) -> Port:
        """The cable to a network that `-netdev` describes. Raises UserError for what cannot be opened."""
        backend = None
        if self.recorded is not None:
            host = self.recorded.get(options.id, Host(kind.mtu, True))
        else:
            backend = kind(options, where, warn)
            host = Host(backend.mtu, backend.link_up)
        cable = Cable(options.id, kind.kind, where, warn, host, backend, self._inputs, self._hire)
        self._all.append(cable)
        return cable

    @property
    def hosts(self) -> dict[str, Host]:
        """What each guest sees from the beginning."""
        return {cable.name: cable.host for cable in self._all}

    def save(self) -> list[Any]:
        """What `restore` takes."""
        return [cable.save() for cable in self._all]

    def restore(self, saved: list[Any]) -> None:
        """Be as at `save`."""
        for cable, one in zip(self._all, saved, strict=True):
            cable.restore(one)

    def moved(self) -> None:
        """The machine goes on from elsewhere."""
        for cable in self._all:
            cable.moved()

    def begin_anew(self) -> None:
        """What passes from now on is new."""
        for cable in self._all:
            cable.begin_anew()
