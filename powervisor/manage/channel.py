"""Where streams and dumps go to and come from: a descriptor, read and written so that it can be given up any time."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import TYPE_CHECKING

from ..errors import PowervisorError
from ..fdsets import access
from .errors import QmpError

if TYPE_CHECKING:
    from .session import Session

_POLL_MS = 100
_PIECE = 1 << 20
_FORMS = "fd:NAME (see getfd) or file:PATH"


class GivenUp(PowervisorError):
    """Somebody does not want it any more."""


class Channel:
    """An open descriptor, which it closes. `give_up` ends reading and writing on another thread."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd
        self._given_up = False
        self._regular = stat.S_ISREG(os.fstat(fd).st_mode)

    def give_up(self) -> None:
        """Let whoever reads or writes raise GivenUp."""
        self._given_up = True

    def _wait(self, what: int) -> None:
        poll = select.poll()
        poll.register(self._fd, what)
        while not self._given_up and not poll.poll(_POLL_MS):
            pass
        if self._given_up:
            raise GivenUp("cancelled")

    def write(self, data: bytes | memoryview) -> None:
        """Write all of it. Raises QmpError for what the host refuses."""
        rest = memoryview(data)
        try:
            while rest:
                self._wait(select.POLLOUT)
                # A pipe that polls as writable takes this much; more might wait for ever.
                piece = _PIECE if self._regular else select.PIPE_BUF
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(self._fd, rest[:piece]) :]
        except OSError as error:
            raise QmpError(f"{self.name}: cannot be written ({error.strerror})") from None

    def read(self, count: int) -> bytes:
        """So many bytes, fewer only at the end. Raises QmpError for what the host refuses."""
        found = bytearray()
        try:
            while len(found) < count:
                self._wait(select.POLLIN)
                with contextlib.suppress(BlockingIOError):
                    data = os.read(self._fd, min(count - len(found), _PIECE))
                    if not data:
                        break
                    found += data
        except OSError as error:
            raise QmpError(f"{self.name}: cannot be read ({error.strerror})") from None
        return bytes(found)

    def close(self) -> None:
        """Close the descriptor; what was written to a file is stable then. Raises QmpError."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self._regular and access(fd) != os.O_RDONLY:
                os.fsync(fd)
            os.close(fd)
        except OSError as error:
            raise QmpError(f"{self.name}: cannot be written ({error.strerror})") from None


def open_channel(session: Session, uri: str, writing: bool) -> Channel:
    """What `fd:NAME` or `file:PATH` names, for writing or reading. Raises QmpError."""
    kind, _, rest = uri.partition(":")
    if not rest or kind not in ("fd", "file"):
        raise QmpError(f"{uri}: not understood; write {_FORMS}")
    fd = session.descriptor(rest) if kind == "fd" else _open_file(session, rest, writing)
    try:
        if access(fd) not in (os.O_WRONLY if writing else os.O_RDONLY, os.O_RDWR):
            raise QmpError(f"{uri}: is not open for {'writing' if writing else 'reading'}")
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise QmpError(f"{uri}: is a directory")
        if os.isatty(fd):  # it would hold us as long as nobody reads
            raise QmpError(f"{uri}: is a terminal; give a file, pipe or socket")
        return Channel(fd, uri)
    except BaseException:
        os.close(fd)
        raise


def _open_file(session: Session, path: str, writing: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if writing else os.O_RDONLY
    if (fd := session.manager.fd_sets.open(path, flags)) is not None:
        return fd
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise QmpError(f"file:{path}: cannot be opened ({error.strerror})") from None
