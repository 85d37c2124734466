"""A raw image: a file or block device of the host whose bytes are the disk's."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Sequence

from powervisor.block.backend import SECTOR
from powervisor.buffers import part

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10
_NOT_THERE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV}
"""How a file system says that it cannot do something to ranges of a file."""
_ZEROES = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class RawFile:
    """The open file `fd`, which it closes. `sync` makes every write stable before it is acknowledged; without
    `flushes` nothing ever is. With `unmap` the guest's discards make holes.

    A size that is no whole number of sectors is rounded up; what is beyond the end of the file reads as 0.
    """

    granularity = 1

    def __init__(
        self, fd: int, read_only: bool = False, sync: bool = False, flushes: bool = True, unmap: bool = False
    ) -> None:
        self.fd, self.read_only = fd, read_only
        self._sync, self._flushes, self._unmap = sync, flushes, unmap
        self._lost = 0  # the error of a flush
        self.size = -(-os.lseek(fd, 0, os.SEEK_END) // SECTOR) * SECTOR
        self.is_file = stat.S_ISREG(os.fstat(fd).st_mode)

    def readv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill the buffers from `offset`."""
        total = sum(map(len, buffers))
        done = os.preadv(self.fd, buffers, offset) if total else 0
        while done < total:
            rest = part(buffers, done, total - done)
            n = os.preadv(self.fd, rest, offset + done)
            if n == 0:
                for buffer in rest:
                    buffer[:] = bytes(len(buffer))
                return
            done += n

    def writev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Store the buffers at `offset`."""
        total = sum(map(len, buffers))
        done = os.pwritev(self.fd, buffers, offset) if total else 0
        while done < total:
            done += os.pwritev(self.fd, part(buffers, done, total - done), offset + done)
        if self._sync:
            self.flush()

    def flush(self) -> None:
        """fdatasync(2). After a failure there is no success any more: Linux tells of lost writes only once."""
        if self._lost:
            raise OSError(self._lost, os.strerror(self._lost))
        if self._flushes:
            try:
                os.fdatasync(self.fd)
            except OSError as error:
                self._lost = error.errno or errno.EIO
                raise

    def discard(self, offset: int, length: int) -> None:
        """Make a hole, when discards are passed on; a host that cannot is nobody's concern."""
        if self._unmap:
            self._fallocate(_PUNCH_HOLE | _KEEP_SIZE, offset, length)

    def write_zeroes(self, offset: int, length: int, unmap: bool) -> None:
        """Zeros, as a hole or as allocated space if the file system has that."""
        how = _PUNCH_HOLE | _KEEP_SIZE if unmap and self._unmap else _ZERO_RANGE
        if not self._fallocate(how, offset, length):
            zeroes = memoryview(bytes(min(length, _ZEROES)))
            for at in range(offset, offset + length, _ZEROES):
                self.writev([zeroes[: offset + length - at]], at)
        if self._sync:
            self.flush()

    def _fallocate(self, mode: int, offset: int, length: int) -> bool:
        """False when the file system cannot do it."""
        while _libc.fallocate(self.fd, mode, offset, length):
            code = ctypes.get_errno()
            if code in _NOT_THERE:
                return False
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return True

    def close(self) -> None:
        """Close the file, which gives its locks up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
