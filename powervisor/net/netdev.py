"""What every network backend is: frames out, frames in, a link, and the thread that waits for the host."""

from __future__ import annotations

import os
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from powervisor.net.capture import Capture

Frame = Sequence[bytes | memoryview]
"""The pieces of one Ethernet frame, without its check sequence."""
MAX_FRAME = 68 << 10
"""Bytes of the longest frame: a segment of 64 KiB with all its headers."""
HEADER = 10
"""Bytes of the header that goes before each frame where `Port.headers` says so: virtio-net's, in the host's order."""
_MOST_FRAMES = 256
_RETRY_MS = 2


class Nic(Protocol):
    """The network device in front of a backend. Called on the backend's thread, and none of these waits for it."""

    def receive(self, frames: Sequence[memoryview]) -> int:
        """Take frames, in order; answers how many were taken. The rest waits for `Port.resume`.

        The views are good until the return.
        """

    def sendable(self) -> None:
        """The backend was `busy`, and is no more."""

    def link_changed(self) -> None:
        """`Port.link_up` is another."""


class Port(ABC):
    """What a network device is plugged into: takes its frames, and has a link; `Nic` is the other direction."""

    kind: str
    """As it is called after -netdev."""
    mtu: int = 1500
    """The largest packet the other side likes, in bytes."""
    headers = False
    """Whether frames begin with a header of `HEADER` bytes, in both directions."""

    def __init__(self, name: str, where: str, warn: Callable[[str], None]) -> None:
        self.name, self.where, self.warn = name, where, warn
        self.nic: Nic | None = None
        self.device = ""
        """Name of the device in front."""
        self.captures: list[Capture] = []
        self.link_up = True

    # -- the device's side

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether the host takes no more now; `Nic.sendable` tells the end of it."""

    @abstractmethod
    def send(self, frames: Sequence[Frame]) -> None:
        """Send frames. All are taken, and copied where they have to wait; whoever sends looks at `busy` first."""

    @abstractmethod
    def resume(self) -> None:
        """Offer the frames again that `Nic.receive` did not take. Never waits."""

    def offload(self, checksums: bool, tso4: bool, tso6: bool, ecn: bool) -> None:
        """What the device in front can take in a frame with a header."""

    # -- the machine's side

    @abstractmethod
    def start(self) -> None:
        """Let frames in."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the host; what is sent afterwards is lost. Not under the machine's lock."""

    @abstractmethod
    def set_link(self, plugged: bool) -> None:
        """Plug in the cable between the device and what is behind it, or pull it out: nothing passes then."""

    def _capture(self, frames: Sequence[Frame]) -> None:
        for capture in self.captures:
            capture.record(frames, HEADER if self.headers else 0)


class Netdev(Port):
    """Base of all backends; a subclass is a `-netdev` type.

    `_transmit` and `_receive` are what it says of the host; both work without waiting.
    """

    summary: ClassVar[str]
    options_type: ClassVar[type]
    writable_tells = True
    """Whether poll(2) tells when a busy backend can send; else it is tried again."""

    def __init__(self, name: str, where: str, warn: Callable[[str], None]) -> None:
        super().__init__(name, where, warn)
        self._pulled = self._up_behind = False
        self._arrived: list[memoryview] = []  # nobody has taken these yet
        self._unsent: list[Frame] = []
        self._sending = threading.Lock()
        self._closing = False
        self._waking = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"netdev-{name}", daemon=True)

    # -- what a backend says

    @abstractmethod
    def descriptor(self) -> int:
        """What poll(2) waits for; -1 while there is nothing."""

    def wrapped(self, frame: Frame) -> Frame:
        """The frame as the host takes it."""
        return frame

    @abstractmethod
    def _transmit(self, frames: list[Frame]) -> list[Frame]:
        """Send wrapped frames; answers those that the host does not take now. What fails is lost."""

    @abstractmethod
    def _receive(self) -> list[memoryview]:
        """Frames that are there now. The views are good until the next call."""

    # -- the device's side

    @property
    def busy(self) -> bool:
        """Whether the host takes no more now; `Nic.sendable` tells the end of it."""
        return bool(self._unsent)

    def send(self, frames: Sequence[Frame]) -> None:
        """Send frames. All are taken, and copied where they have to wait; whoever sends looks at `busy` first."""
        self._capture(frames)
        with self._sending:
            if self._closing or not self.link_up:
                return
            wrapped = [self.wrapped(frame) for frame in frames]
            rest = wrapped if self._unsent else self._transmit(wrapped)
            if rest:
                self._unsent += [(b"".join(frame),) for frame in rest]
                self.resume()

    def resume(self) -> None:
        """Offer the frames again that `Nic.receive` did not take. Never waits."""
        with self._waking:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    # -- the machine's side

    def start(self) -> None:
        """Let frames in."""
        self._thread.start()

    def close(self) -> None:
        """Let go of the host; what is sent afterwards is lost. Not under the machine's lock."""
        with self._sending:
            if self._closing:
                return
            self._closing = True
        if self._thread.ident is not None:
            self.resume()
            self._thread.join()
        with self._waking:
            os.close(self._wake)
            self._wake = -1
        self._close()

    def _close(self) -> None:
        """Close what is the host's. Once."""

    # -- the thread

    def _run(self) -> None:
        while True:
            fd, wanted, timeout = self.descriptor(), 0, None
            if not self._arrived:
                wanted |= select.POLLIN
            if self._unsent and self.writable_tells:
                wanted |= select.POLLOUT
            elif self._unsent:
                timeout = _RETRY_MS
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            if fd >= 0 and wanted:  # else poll(2) would tell for ever that the other side has left
                poll.register(fd, wanted)
            found = dict(poll.poll(timeout))
            if self._closing:
                return
            if self._wake in found:
                os.eventfd_read(self._wake)
            self._send_again()
            if fd in found and not self._arrived:
                self._arrived = self._receive()
                self._capture([(frame,) for frame in self._arrived])
            self._deliver()

    def _send_again(self) -> None:
        if not self._unsent:
            return
        with self._sending:
            self._unsent = self._transmit(self._unsent) if self.link_up else []
            free = not self._unsent
        if free and self.nic:
            self.nic.sendable()

    def _deliver(self) -> None:
        if not self._arrived:
            return
        taken = self.nic.receive(self._arrived) if self.nic and not self._pulled else len(self._arrived)
        del self._arrived[:taken]

    def set_link(self, plugged: bool) -> None:
        """Plug in the cable between the device and what is behind it, or pull it out: nothing passes then."""
        with self._waking:
            if plugged is not self._pulled:
                return
            self._pulled = not plugged
            if not plugged:
                self._up_behind = self.link_up
            up = plugged and self._up_behind
        self._change_link(up)

    def _set_link(self, up: bool) -> None:
        """The backend's own link."""
        with self._waking:
            if self._pulled:
                self._up_behind = up
                return
        self._change_link(up)

    def _change_link(self, up: bool) -> None:
        if up != self.link_up:
            self.link_up = up
            if self.nic:
                self.nic.link_changed()


class Datagrams(Netdev):
    """Base of backends where one system call moves one frame: datagram sockets and TAP."""

    def __init__(self, name: str, where: str, warn: Callable[[str], None]) -> None:
        super().__init__(name, where, warn)
        self._memory = memoryview(bytearray(8 * MAX_FRAME))

    @abstractmethod
    def _get(self, into: memoryview) -> int:
        """Read one frame. Raises BlockingIOError, or OSError when there will be none."""

    @abstractmethod
    def _put(self, frame: Frame) -> Any:
        """Write one frame. Raises BlockingIOError, or OSError when it is lost."""

    def _lost(self, error: OSError) -> None:
        """Reading failed."""

    def _transmit(self, frames: list[Frame]) -> list[Frame]:
        for n, frame in enumerate(frames):
            try:
                self._put(frame)
            except BlockingIOError:
                return frames[n:]
            except OSError:
                continue  # as on any Ethernet: nobody is there
        return []

    def _receive(self) -> list[memoryview]:
        frames: list[memoryview] = []
        at = 0
        while at + MAX_FRAME <= len(self._memory) and len(frames) < _MOST_FRAMES:
            try:
                length = self._get(self._memory[at : at + MAX_FRAME])
            except BlockingIOError:
                break
            except OSError as error:
                self._lost(error)
                break
            frames.append(self._memory[at : at + length])
            at += length
        return frames
