"""Locks that keep two machines from writing one image, understood by QEMU's processes too.

As QEMU has it: whoever uses an image holds shared locks, each on a byte of its own, on what it does (from byte 100) and
on what it bears nobody else to do (from byte 200), and looks whether others hold the opposite ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_DOES, _FORBIDS = 100, 200
_READ, _WRITE, _RESIZE = 0, 1, 3
_FLOCK = "hhqqi4x"
_ANYONE = {errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP}
"""Errors of file systems without such locks."""


def lock(fd: int, read_only: bool) -> bool:
    """Claim an open image until its descriptor is closed; False when somebody else's use forbids ours, or the reverse.

    A file system without locks lets everybody in. Raises OSError.
    """
    does = [_READ] if read_only else [_READ, _WRITE, _RESIZE]
    forbids = [_WRITE, _RESIZE]
    try:
        for byte in [_DOES + n for n in does] + [_FORBIDS + n for n in forbids]:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _range(fcntl.F_RDLCK, byte))
        opposed = [_FORBIDS + n for n in does] + [_DOES + n for n in forbids]
        return not any(_held_by_others(fd, byte) for byte in opposed)
    except OSError as error:
        if error.errno in _ANYONE:
            return True
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise


def _held_by_others(fd: int, byte: int) -> bool:
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _range(fcntl.F_WRLCK, byte))
    assert isinstance(answer, bytes)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _range(kind: int, byte: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)
