"""Captures of frames in pcap's format, which tcpdump and Wireshark read."""

from __future__ import annotations

import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Sequence

from powervisor.errors import UserError

_MAGIC, _VERSION, _ETHERNET = 0xA1B2C3D4, (2, 4), 1
_CAPTURES = {bytes.fromhex(magic) for magic in ("d4c3b2a1", "a1b2c3d4", "4d3cb2a1", "a1b23c4d", "0a0d0d0a")}
"""How files of captures begin: pcap's in either byte order, with micro- or nanoseconds, and pcapng's."""
_FILE_HEADER, _RECORD_HEADER = struct.Struct("=IHHiIII"), struct.Struct("=IIII")
MAX_LENGTH = 256 << 10
"""The longest frames that readers of the format take."""


class Capture:
    """Appends frames to a new file; each is on its way to the disk when it passes. Any thread may record."""

    def __init__(
        self, path: str, where: str, warn: Callable[[str], None], max_length: int = MAX_LENGTH,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        """`now_ns` answers nanoseconds since 1970. Raises UserError, beginning with `where`, for a file that cannot be
        written."""
        self._path, self._where, self._warn, self._max_length = path, where, warn, max_length
        self._now_ns = now_ns
        self._lock = threading.Lock()
        try:
            self._fd = _open(path, where)
        except OSError as error:
            raise UserError(f"{where}: cannot be written ({error.strerror}); name another file") from None
        self._write(_FILE_HEADER.pack(_MAGIC, *_VERSION, 0, 0, max_length, _ETHERNET))

    def record(self, frames: Sequence[Sequence[bytes | memoryview]], skip: int) -> None:
        """Append frames, given as pieces, without their first `skip` bytes."""
        if self._fd < 0:
            return
        seconds, nanoseconds = divmod(self._now_ns(), 1_000_000_000)
        records = []
        for frame in frames:
            data = b"".join(frame)[skip:]
            kept = data[: self._max_length]
            records += [_RECORD_HEADER.pack(seconds, nanoseconds // 1000, len(kept), len(data)), kept]
        with self._lock:
            self._write(b"".join(records))

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            return
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._warn(f"{self._where}: cannot be written any more ({error.strerror}); the capture ends here")
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _open(path: str, where: str) -> int:
    """A file without content. Only a capture is overwritten: anything else, such as a disk's image, is hardly meant.
    Raises OSError, UserError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            with open(path, "rb") as before:
                begins = before.read(4)
            if begins and begins not in _CAPTURES:
                raise UserError(f"{where}: {path} is there and no capture; remove it, or name another file")
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd
