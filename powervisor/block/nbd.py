"""A disk at an NBD server: the client of the network block device protocol (fixed newstyle, simple replies).

Any number of requests may be under way. Whoever begins one sends it; a thread takes the answers, and puts what is read
where it belongs, in guest RAM.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from powervisor.block.backend import SECTOR, Do, Job
from powervisor.buffers import part, rest

_HELLO, _OPTION_MAGIC, _OPTION_REPLY = b"NBDMAGIC", b"IHAVEOPT", 0x3_E889_0455_65A9
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_GO = 7
_ACK, _INFO, _IS_ERROR = 1, 3, 1 << 31
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_REFUSALS = {
    1: "it knows no NBD_OPT_GO",
    2: "its policy forbids it",
    5: "it wants TLS",
    6: "it has no such export",
    7: "it is shutting down",
}
_MOST_SAID = 4096

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_ZEROES = (1 << bit for bit in (0, 1, 2, 3, 5, 6))
"""What a server can, as it tells with the export."""
_REQUEST, _REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
_REQUEST_MAGIC, _REPLY_MAGIC = 0x2560_9513, 0x6744_6698
READ, WRITE, DISCONNECT, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
FUA, NO_HOLE = 1, 2
_COMMANDS = {Do.READ: READ, Do.WRITE: WRITE, Do.FLUSH: FLUSH, Do.DISCARD: TRIM, Do.ZERO: ZEROES}
_MOST_PAYLOAD = 32 << 20
"""Bytes that a server takes or gives at once unless it says otherwise."""
_MOST_RANGE = 1 << 30
_MOST_BUFFERS = 1000
_ZEROES = memoryview(bytes(1 << 20))
_CLOSE_SECONDS, _SEND_SECONDS = 5, 30

Done = Callable[[OSError | None], None]


class Export(NamedTuple):
    """What a server says of an export."""

    size: int
    flags: int
    granularity: int
    most: int
    """Bytes of one read or write."""


class Refusal(Exception):
    """A server that cannot be used; the text says why."""


def negotiate(server: socket.socket, name: str) -> Export:
    """Agree with a server on the export `name`. Raises Refusal, or OSError."""
    hello = _receive(server, 18)
    if hello[:16] != _HELLO + _OPTION_MAGIC or not hello[17] & _FIXED_NEWSTYLE:
        raise Refusal("it does not speak NBD's fixed newstyle")
    wanted = name.encode()
    data = struct.pack(">I", len(wanted)) + wanted + struct.pack(">HHH", 2, _INFO_EXPORT, _INFO_BLOCK_SIZE)
    server.sendall(struct.pack(">I", hello[17] & (_FIXED_NEWSTYLE | _NO_ZEROES)))
    server.sendall(_OPTION_MAGIC + struct.pack(">II", _GO, len(data)) + data)
    size, flags, granularity, most = -1, 0, 1, _MOST_PAYLOAD
    while True:
        magic, option, kind, length = struct.unpack(">QIII", _receive(server, 20))
        if magic != _OPTION_REPLY or option != _GO or length > _MOST_SAID:
            raise Refusal("its answer is no NBD")
        said = _receive(server, length)
        if kind & _IS_ERROR:
            text = said.decode(errors="replace").split("\n")[0]
            raise Refusal(_REFUSALS.get(kind & ~_IS_ERROR) or text or f"error {kind & ~_IS_ERROR}")
        if kind == _ACK and size >= 0:
            return Export(size, flags, granularity, most)
        what = int.from_bytes(said[:2], "big")
        if kind == _INFO and what == _INFO_EXPORT and length == 12:
            size, flags = struct.unpack(">QH", said[2:])
        elif kind == _INFO and what == _INFO_BLOCK_SIZE and length == 14:
            granularity, _, most = struct.unpack(">III", said[2:])
            most = min(most, _MOST_PAYLOAD) // granularity * granularity if granularity else 0
        elif kind != _INFO:
            raise Refusal("its answer is no NBD")
        if size >= 1 << 63 or not granularity or granularity & (granularity - 1) or not most:
            raise Refusal("its answer makes no sense")


def _receive(server: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    _fill(server, [memoryview(data)])
    return bytes(data)


def _fill(server: socket.socket, buffers: Sequence[memoryview]) -> None:
    """Receive as much as the buffers take. Raises OSError, at the end of the stream too."""
    left = [buffer for buffer in buffers if len(buffer)]
    while left:
        got = server.recvmsg_into(left[:_MOST_BUFFERS])[0]
        if not got:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        left = rest(left, got)


class _Whole:
    """A job, of which several requests may be parts."""

    def __init__(self, parts: int, done: Done) -> None:
        self._left, self._done = parts, done
        self._error: OSError | None = None
        self._lock = threading.Lock()

    def finished(self, error: OSError | None) -> None:
        """One of the requests was answered."""
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            last = not self._left
        if last:
            self._done(self._error)


class _Request(NamedTuple):
    command: int
    flags: int
    offset: int
    length: int
    buffers: Sequence[memoryview] = ()


class NbdDisk:
    """An export of the connected `server`, which it closes.

    `sync`, `flushes` and `unmap` are as of a `RawFile`; with `sync` the server must be able to FUA. `why_gone` explains
    the end of the connection, `closed` is called when it was closed here.
    """

    def __init__(
        self,
        server: socket.socket,
        export: Export,
        read_only: bool = False,
        sync: bool = False,
        flushes: bool = True,
        unmap: bool = False,
        why_gone: Callable[[], str] = lambda: "the NBD server has gone",
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.size, self.granularity, self.read_only = export.size, export.granularity, read_only
        self._server, self._export = server, export
        self._sync, self._flushes, self._unmap = sync, flushes, unmap
        self._why_gone, self._closed = why_gone, closed
        self._sending, self._pending_lock = threading.Lock(), threading.Lock()
        self._pending: dict[int, tuple[_Request, _Whole]] = {}
        self._handle = 0
        self._error: OSError | None = None  # nothing goes on any more
        self._abandoned = ""
        self._closing = False
        server.settimeout(None)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_SECONDS, 0))
        self._reader = threading.Thread(target=self._take_answers, name="nbd", daemon=True)
        self._reader.start()

    # -- jobs

    def begin(self, job: Job, done: Done) -> None:
        """Begin `job`; `done` is called when it is finished."""
        requests = self._requests(job)
        if not requests:
            done(None)
            return
        whole = _Whole(len(requests), done)
        for request in requests:
            self._send(request, whole)

    def abandon(self, why: str) -> None:
        """Break the connection: whatever is under way fails."""
        self._abandoned = why
        self._shut()

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill the buffers from `offset`."""
        self._wait(Job(Do.READ, offset, sum(map(len, buffers)), buffers))

    def writev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Store the buffers at `offset`."""
        self._wait(Job(Do.WRITE, offset, sum(map(len, buffers)), buffers))

    def flush(self) -> None:
        """NBD's FLUSH; a server without it keeps what it has acknowledged, or so it says."""
        self._wait(Job(Do.FLUSH))

    def discard(self, offset: int, length: int) -> None:
        """NBD's TRIM, when discards are passed on; a server that cannot is nobody's concern."""
        self._wait(Job(Do.DISCARD, offset, length))

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        """Zeros, which need no transport if the server knows WRITE_ZEROES."""
        self._wait(Job(Do.ZERO, offset, length, unmap=unmap))

    def _wait(self, job: Job) -> None:
        ready = threading.Event()
        failed: list[OSError] = []

        def done(error: OSError | None) -> None:
            failed.extend([error] if error else [])
            ready.set()

        self.begin(job, done)
        ready.wait()
        if failed:
            raise failed[0]

    def _requests(self, job: Job) -> list[_Request]:
        """What the server is asked for, in pieces as large as it takes."""
        able, command = self._export.flags, _COMMANDS[job.do]
        flags = FUA if self._sync and job.do in (Do.WRITE, Do.ZERO) else 0
        if job.do is Do.FLUSH:
            return [_Request(FLUSH, 0, 0, 0)] if self._flushes and able & SEND_FLUSH else []
        if job.do is Do.DISCARD and not (self._unmap and able & SEND_TRIM):
            return []
        if job.do is Do.ZERO and not able & SEND_ZEROES:
            most = min(len(_ZEROES), self._export.most)
            return [_Request(WRITE, flags, at, n, [_ZEROES[:n]]) for at, n in _pieces(job.offset, job.length, most)]
        if job.do in (Do.DISCARD, Do.ZERO):
            flags |= 0 if job.do is Do.DISCARD or job.unmap and self._unmap else NO_HOLE
            return [_Request(command, flags, at, n) for at, n in _pieces(job.offset, job.length, _MOST_RANGE)]
        if job.length <= self._export.most:
            return [_Request(command, flags, job.offset, job.length, job.buffers)] if job.length else []
        return [
            _Request(command, flags, at, n, part(job.buffers, at - job.offset, n))
            for at, n in _pieces(job.offset, job.length, self._export.most)
        ]

    # -- the connection

    def _send(self, request: _Request, whole: _Whole) -> None:
        with self._pending_lock:
            error = self._error
            self._handle = handle = self._handle + 1
            if error is None:
                self._pending[handle] = request, whole
        if error is not None:
            whole.finished(OSError(error.errno, error.strerror))
            return
        command, flags, offset, length, buffers = request
        header = memoryview(_REQUEST.pack(_REQUEST_MAGIC, flags, command, handle, offset, length))
        try:
            with self._sending:
                left = [header, *buffers] if command == WRITE else [header]
                while left:
                    left = rest(left, self._server.sendmsg(left[:_MOST_BUFFERS]))
        except BlockingIOError:
            self.abandon(f"the NBD server took nothing for {_SEND_SECONDS} seconds")
        except OSError:
            self._shut()  # the reader finds that, and lets everything fail

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    def _take_answers(self) -> None:
        why = "the NBD server broke the protocol"
        try:
            while True:
                magic, code, handle = _REPLY.unpack(_receive(self._server, _REPLY.size))
                with self._pending_lock:
                    found = self._pending.get(handle)
                if magic != _REPLY_MAGIC or found is None:
                    break
                request, whole = found
                if request.command == READ and not code:
                    _fill(self._server, request.buffers)
                with self._pending_lock:
                    del self._pending[handle]
                whole.finished(OSError(code, os.strerror(code)) if code else None)
        except OSError:
            why = self._abandoned or ("it was closed" if self._closing else self._why_gone())
        finally:
            self._fail(why)

    def _fail(self, why: str) -> None:
        self._shut()
        with self._pending_lock:
            self._error = OSError(errno.EIO, why)
            pending = list(self._pending.values())
            self._pending.clear()
        for _, whole in pending:
            whole.finished(OSError(errno.EIO, why))

    def close(self) -> None:
        """Take leave of the server. What it has acknowledged stays; nothing else is waited for."""
        if self._closing:
            return
        self._closing = True
        if self._sending.acquire(timeout=_CLOSE_SECONDS):
            with contextlib.suppress(OSError):
                self._server.settimeout(_CLOSE_SECONDS)
                self._server.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, DISCONNECT, 0, 0, 0))
            self._sending.release()
        self._shut()
        self._reader.join()
        self._server.close()
        self._closed()


def check(export: Export, read_only: bool, sync: bool) -> None:
    """Raise Refusal for an export that cannot be a disk, or not in this way."""
    if not export.size or export.size % SECTOR:
        raise Refusal(f"its export has {export.size} bytes, no whole number of sectors")
    if export.flags & READ_ONLY and not read_only:
        raise Refusal("its export is read-only; add readonly=on or snapshot=on")
    if sync and not export.flags & SEND_FUA:
        raise Refusal("it cannot make single writes stable (no FUA); use cache=writeback")


def _pieces(offset: int, length: int, most: int) -> list[tuple[int, int]]:
    return [(at, min(most, offset + length - at)) for at in range(offset, offset + length, most)]
