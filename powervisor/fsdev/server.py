"""A 9P2000.L server (the protocol of Linux's v9fs) over one directory.

Users and groups are the guest's affair: files belong to whoever runs the machine, or, when that is root, to whom the
guest says. Set-user-id bits are never stored: a guest must not make such programs for the host's users.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat
import struct
import time
from collections.abc import Callable, Sequence

from powervisor.buffers import fill, part
from powervisor.fsdev import wire
from powervisor.fsdev.tree import Node, Tree, checked, magic, open_again, refusal
from powervisor.fsdev.wire import Malformed, Reader

MOST_FIDS = 1 << 14
"""Handles a guest may have."""
_MODES = 0o1777
_TYPES = ((stat.S_ISDIR, wire.QID_DIR), (stat.S_ISLNK, wire.QID_LINK))
_ENTRY = struct.Struct("<13sQB")
_DT_DIR, _DT_FILE, _DT_LINK = 4, 8, 10


class Unanswerable(Exception):
    """A request that is no 9P message at all, or leaves no room for an answer."""


class Fid:
    """A handle of the guest's: a node, and the file when it is open."""

    def __init__(self, node: Node, uid: int) -> None:
        self.node, self.uid = node, uid
        self.file = -1
        self.entries: list[tuple[bytes, int, int]] = []
        """Of an open directory: names, inode numbers and types, as they were when it was read from its beginning."""


class Server:
    """Answers requests, one at a time. With `read_only` nothing below the directory changes."""

    def __init__(self, tree: Tree, read_only: bool) -> None:
        self.tree, self.read_only = tree, read_only
        self.fids: dict[int, Fid] = {}
        self.msize = wire.MOST_MSIZE
        self._devices = {tree.root.identity[0]: 0}
        self._files = self._room = 0
        self._most_files = max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._handlers: dict[int, tuple[Callable[[Reader], bytes], bool]] = {
            8: (self._statfs, False), 12: (self._lopen, False), 14: (self._lcreate, True),
            16: (self._symlink, True), 18: (self._mknod, True), 20: (self._rename, True),
            22: (self._readlink, False), 24: (self._getattr, False), 26: (self._setattr, True),
            30: (self._no_xattr, False), 32: (self._no_xattr, False), 40: (self._readdir, False),
            50: (self._fsync, False), 52: (self._lock, False), 54: (self._getlock, False),
            70: (self._link, True), 72: (self._mkdir, True), 74: (self._renameat, True),
            76: (self._unlinkat, True), 100: (self._version, False), 102: (self._auth, False),
            104: (self._attach, False), 108: (self._flush, False), 110: (self._walk, False),
            120: (self._clunk, False), 122: (self._remove, False),
        }  # fmt: skip
        """By type of request: what does it, and whether it changes something."""

    def reset(self) -> None:
        """Forget all handles."""
        for fid in list(self.fids):
            self._drop(fid)
        self.tree.forget()

    # -- messages

    def answer(self, request: Sequence[memoryview], reply: Sequence[memoryview]) -> int:
        """Do what a request asks for; answers the length of the reply. Raises Unanswerable."""
        self.tree.tidy()
        length, room = sum(map(len, request)), sum(map(len, reply))
        header = b"".join(part(request, 0, wire.HEADER.size))
        if len(header) < wire.HEADER.size or room < wire.READ_DATA_AT:
            raise Unanswerable("a request without a header, or without room for the reply")
        size, kind, tag = wire.HEADER.unpack(header)
        if not wire.HEADER.size <= size <= min(length, self.msize):
            return _reply(reply, wire.LERROR, tag, struct.pack("<I", errno.EMSGSIZE))
        try:
            body, more = self._do(kind, request, size, reply, min(room, self.msize))
            if wire.HEADER.size + len(body) + more > room:
                raise refusal(errno.EMSGSIZE)
            return _reply(reply, kind + 1, tag, body, more)
        except Malformed:
            code = errno.EINVAL
        except OSError as error:
            code = error.errno or errno.EIO
        return _reply(reply, wire.LERROR, tag, struct.pack("<I", code))

    def _do(
        self, kind: int, request: Sequence[memoryview], size: int, reply: Sequence[memoryview], room: int
    ) -> tuple[bytes, int]:
        """The body of the reply, and how many bytes are in place behind it already."""
        if kind == wire.T_READ:
            message = Reader(b"".join(part(request, wire.HEADER.size, 16)))
            fid, offset, count = message.take("IQI")
            into = part(reply, wire.READ_DATA_AT, min(count, room - wire.READ_DATA_AT))
            done = os.preadv(self._opened(fid).file, into, _offset(offset)) if into else 0
            return struct.pack("<I", done), done
        if kind == wire.T_WRITE:
            message = Reader(b"".join(part(request, wire.HEADER.size, 16)))
            fid, offset, count = message.take("IQI")
            if count > size - wire.WRITE_DATA_AT:
                raise Malformed
            data = part(request, wire.WRITE_DATA_AT, count)
            done = os.pwritev(self._opened(fid).file, data, _offset(offset)) if data else 0
            return struct.pack("<I", done), 0
        if kind not in self._handlers:
            raise refusal(errno.EOPNOTSUPP)
        handler, changes = self._handlers[kind]
        if changes and self.read_only:
            raise refusal(errno.EROFS)
        self._room = room - wire.HEADER.size
        return handler(Reader(b"".join(part(request, wire.HEADER.size, size - wire.HEADER.size)))), 0

    # -- handles

    def _fid(self, number: int) -> Fid:
        if number not in self.fids:
            raise refusal(errno.EBADF)
        return self.fids[number]

    def _opened(self, number: int) -> Fid:
        fid = self._fid(number)
        if fid.file < 0:
            raise refusal(errno.EBADF)
        return fid

    def _add(self, number: int, node: Node, uid: int) -> None:
        if number in self.fids:
            raise refusal(errno.EBADF)
        if len(self.fids) >= MOST_FIDS:
            raise refusal(errno.ENFILE)
        self.fids[number] = Fid(self.tree.use(node), uid)

    def _drop(self, number: int) -> None:
        fid = self.fids.pop(number)
        if fid.file >= 0:
            os.close(fid.file)
            self._files -= 1
        self.tree.release(fid.node)

    def _fd(self, fid: Fid) -> int:
        """A descriptor to look at a file with, which may be gone from its directory when it is open."""
        return fid.file if fid.file >= 0 else self.tree.fd(fid.node)

    def _qid(self, found: os.stat_result) -> bytes:
        kind = next((bits for is_it, bits in _TYPES if is_it(found.st_mode)), wire.QID_FILE)
        version = (found.st_mtime_ns ^ found.st_size << 8) & 0xFFFF_FFFF
        return wire.QID.pack(kind, version, self._path(found.st_dev, found.st_ino))

    def _path(self, device: int, inode: int) -> int:
        """A number for a file that no other has, also where other file systems are mounted below the directory."""
        index = self._devices.setdefault(device, len(self._devices))
        return (inode ^ index << 48) & 0xFFFF_FFFF_FFFF_FFFF

    def _node_qid(self, node: Node) -> bytes:
        return self._qid(os.fstat(self.tree.fd(node)))

    # -- the session

    def _version(self, message: Reader) -> bytes:
        msize, version = message.number(), message.text()
        if msize < wire.LEAST_MSIZE:
            raise refusal(errno.EMSGSIZE)
        self.reset()
        self.msize = min(msize, wire.MOST_MSIZE)
        return struct.pack("<I", self.msize) + wire.packed_text(wire.VERSION if version == wire.VERSION else b"unknown")

    def _auth(self, message: Reader) -> bytes:
        raise refusal(errno.ENOENT)  # none is needed

    def _attach(self, message: Reader) -> bytes:
        fid, _ = message.take("II")
        message.text()
        message.text()
        self._add(fid, self.tree.root, message.number())
        return self._node_qid(self.tree.root)

    def _flush(self, message: Reader) -> bytes:
        return b""  # what came before is done

    def _walk(self, message: Reader) -> bytes:
        number, new, count = message.take("IIH")
        names = [message.text() for _ in range(count)]
        fid = self._fid(number)
        if new == number and fid.file >= 0:
            raise refusal(errno.EINVAL)
        node, qids = fid.node, []
        for name in names:
            try:
                node = self.tree.child(node, name)
                qids.append(self._node_qid(node))
            except OSError:
                if not qids:
                    raise
                break
        if len(qids) == len(names):
            if new == number:
                self.tree.use(node)
                self.tree.release(fid.node)
                fid.node = node
            else:
                self._add(new, node, fid.uid)
        return struct.pack("<H", len(qids)) + b"".join(qids)

    def _clunk(self, message: Reader) -> bytes:
        number = message.number()
        self._fid(number)
        self._drop(number)
        return b""

    # -- files

    def _lopen(self, message: Reader) -> bytes:
        number, flags = message.take("II")
        fid = self._fid(number)
        if fid.file >= 0:
            raise refusal(errno.EINVAL)
        if self.read_only and (flags & wire.ACCESS or flags & wire.TRUNCATE):
            raise refusal(errno.EROFS)
        if self._files >= self._most_files:
            raise refusal(errno.EMFILE)
        fid.file = open_again(self.tree.fd(fid.node), _flags(flags) | (os.O_TRUNC if flags & wire.TRUNCATE else 0))
        self._files += 1
        return self._qid(os.fstat(fid.file)) + struct.pack("<I", 0)

    def _lcreate(self, message: Reader) -> bytes:
        number, name = message.number(), message.text()
        flags, mode, gid = message.take("III")
        fid = self._fid(number)
        if fid.file >= 0:
            raise refusal(errno.EINVAL)
        if self._files >= self._most_files:
            raise refusal(errno.EMFILE)
        directory = self.tree.fd(fid.node)
        try:
            file = self._new_file(directory, name, _flags(flags), mode, fid.uid, gid)
        except FileExistsError:
            if flags & wire.EXCLUSIVE:
                raise
            there = self.tree.fd(self.tree.child(fid.node, name))
            file = open_again(there, _flags(flags) | (os.O_TRUNC if flags & wire.TRUNCATE else 0))
        fid.file = file
        self._files += 1
        node = self.tree.use(self.tree.child(fid.node, name))
        self.tree.release(fid.node)
        fid.node = node
        return self._qid(os.fstat(file)) + struct.pack("<I", 0)

    def _new_file(self, directory: int, name: bytes, flags: int, mode: int, uid: int, gid: int) -> int:
        how = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(checked(name), how, mode & _MODES, dir_fd=directory)
        self._own(file, uid, gid)
        os.fchmod(file, mode & _MODES)
        return file

    def _own(self, fd: int, uid: int, gid: int) -> None:
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):  # a file system that knows no owners
                os.chown(magic(fd), uid, gid)

    def _getattr(self, message: Reader) -> bytes:
        fid = self._fid(message.number())
        found = os.fstat(self._fd(fid))
        times = [part for ns in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) for part in _time(ns)]
        return wire.ATTRIBUTES.pack(
            wire.BASIC, self._qid(found), found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_rdev,
            found.st_size, found.st_blksize, found.st_blocks, *times, 0, 0, 0, 0,
        )  # fmt: skip

    def _setattr(self, message: Reader) -> bytes:
        number, valid, mode, uid, gid, size, *times = message.take("IIIIIQQQQQ")
        fid = self._fid(number)
        fd = self._fd(fid)
        found = os.fstat(fd)
        if valid & (wire.SET_UID | wire.SET_GID):
            owner = uid if valid & wire.SET_UID else found.st_uid, gid if valid & wire.SET_GID else found.st_gid
            self._own(fd, *owner)
        if valid & wire.SET_MODE:
            os.chmod(magic(fd), mode & _MODES)
        if valid & wire.SET_SIZE:
            if not stat.S_ISREG(found.st_mode):
                raise refusal(errno.EINVAL)
            # A file that is open for writing can be cut whatever its mode is.
            writable = fid.file >= 0 and fcntl.fcntl(fid.file, fcntl.F_GETFL) & os.O_ACCMODE
            os.truncate(fid.file if writable else magic(fd), _offset(size))
        if valid & (wire.SET_ATIME | wire.SET_MTIME):
            now = time.time_ns()
            given = [times[0] * 10**9 + times[1], times[2] * 10**9 + times[3]]
            if max(given) >= 1 << 63:
                raise refusal(errno.EINVAL)
            atime, mtime = (
                (given[n] if valid & to else now) if valid & switch else old
                for n, switch, to, old in (
                    (0, wire.SET_ATIME, wire.SET_ATIME_TO, found.st_atime_ns),
                    (1, wire.SET_MTIME, wire.SET_MTIME_TO, found.st_mtime_ns),
                )
            )
            os.utime(magic(fd), ns=(atime, mtime))
        return b""

    def _fsync(self, message: Reader) -> bytes:
        fid = self._opened(message.number())
        if message.left and message.number():
            os.fdatasync(fid.file)
        else:
            os.fsync(fid.file)
        return b""

    def _statfs(self, message: Reader) -> bytes:
        found = os.fstatvfs(self._fd(self._fid(message.number())))
        return wire.STATFS.pack(
            wire.MAGIC, found.f_bsize, found.f_blocks * found.f_frsize // found.f_bsize,
            found.f_bfree * found.f_frsize // found.f_bsize, found.f_bavail * found.f_frsize // found.f_bsize,
            found.f_files, found.f_ffree, found.f_fsid & 0xFFFF_FFFF_FFFF_FFFF, found.f_namemax,
        )  # fmt: skip

    def _lock(self, message: Reader) -> bytes:
        message.take("IBIQQI")
        message.text()
        return b"\0"  # the guest's kernel has settled it among its own processes

    def _getlock(self, message: Reader) -> bytes:
        _, _, start, length, process = message.take("IBQQI")
        client = message.text()
        return struct.pack("<BQQI", wire.UNLOCKED, start, length, process) + wire.packed_text(client)

    def _no_xattr(self, message: Reader) -> bytes:
        raise refusal(errno.EOPNOTSUPP)

    # -- directories

    def _directory(self, number: int) -> tuple[Fid, int]:
        fid = self._fid(number)
        return fid, self.tree.fd(fid.node)

    def _readdir(self, message: Reader) -> bytes:
        number, offset, count = message.take("IQI")
        fid = self._opened(number)
        if offset == 0:
            fid.entries = self._listing(fid)
        device, found = os.fstat(fid.file).st_dev, bytearray()
        most = min(count, self._room - 4)
        for index, (name, inode, kind) in enumerate(fid.entries[offset : offset + most], offset + 1):
            bits = wire.QID_DIR if kind == _DT_DIR else wire.QID_LINK if kind == _DT_LINK else wire.QID_FILE
            qid = wire.QID.pack(bits, 0, self._path(device, inode))
            entry = _ENTRY.pack(qid, index, kind) + wire.packed_text(name)
            if len(found) + len(entry) > most:
                break
            found += entry
        return struct.pack("<I", len(found)) + bytes(found)

    def _listing(self, fid: Fid) -> list[tuple[bytes, int, int]]:
        above = fid.node.parent or fid.node
        found = [(b".", fid.node.identity[1], _DT_DIR), (b"..", above.identity[1], _DT_DIR)]
        with os.scandir(fid.file) as entries:
            for entry in entries:
                kind = _DT_LINK if entry.is_symlink() else _DT_DIR if entry.is_dir(follow_symlinks=False) else 0
                kind = kind or (_DT_FILE if entry.is_file(follow_symlinks=False) else 0)
                found.append((os.fsencode(entry.name), entry.inode(), kind))
        return found

    def _mkdir(self, message: Reader) -> bytes:
        number, name = message.number(), message.text()
        mode, gid = message.take("II")
        fid, directory = self._directory(number)
        os.mkdir(checked(name), mode & _MODES, dir_fd=directory)
        made = self.tree.child(fid.node, name)
        self._own(self.tree.fd(made), fid.uid, gid)
        os.chmod(magic(self.tree.fd(made)), mode & _MODES)
        return self._node_qid(made)

    def _symlink(self, message: Reader) -> bytes:
        number, name, target = message.number(), message.text(), message.text()
        gid = message.number()
        fid, directory = self._directory(number)
        if not target or b"\0" in target:
            raise refusal(errno.EINVAL)
        os.symlink(target, checked(name), dir_fd=directory)
        made = self.tree.child(fid.node, name)
        self._own(self.tree.fd(made), fid.uid, gid)
        return self._node_qid(made)

    def _readlink(self, message: Reader) -> bytes:
        _, fd = self._directory(message.number())
        return wire.packed_text(os.readlink(b"", dir_fd=fd))

    def _mknod(self, message: Reader) -> bytes:
        number, name = message.number(), message.text()
        mode, _, _, gid = message.take("IIII")
        fid, directory = self._directory(number)
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise refusal(errno.EPERM)  # devices and pipes would be the host's
        os.close(self._new_file(directory, name, os.O_WRONLY, mode, fid.uid, gid))
        return self._node_qid(self.tree.child(fid.node, name))

    def _link(self, message: Reader) -> bytes:
        number, existing, name = message.number(), message.number(), message.text()
        _, directory = self._directory(number)
        os.link(magic(self._fd(self._fid(existing))), checked(name), dst_dir_fd=directory)
        return b""

    def _rename(self, message: Reader) -> bytes:
        number, new_number, name = message.number(), message.number(), message.text()
        node = self._fid(number).node
        if node.parent is None:
            raise refusal(errno.EBUSY)
        self._move(node.parent, node.name, self._fid(new_number).node, name)
        return b""

    def _renameat(self, message: Reader) -> bytes:
        number, name = message.number(), message.text()
        new_number, new_name = message.number(), message.text()
        self._move(self._fid(number).node, name, self._fid(new_number).node, new_name)
        return b""

    def _move(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        source, target = self.tree.fd(parent), self.tree.fd(new_parent)
        os.rename(checked(name), checked(new_name), src_dir_fd=source, dst_dir_fd=target)
        self.tree.moved(parent, name, new_parent, new_name)

    def _unlinkat(self, message: Reader) -> bytes:
        number, name, flags = message.number(), message.text(), message.number()
        _, directory = self._directory(number)
        if flags & wire.REMOVE_DIRECTORY:
            os.rmdir(checked(name), dir_fd=directory)
        else:
            os.unlink(checked(name), dir_fd=directory)
        return b""

    def _remove(self, message: Reader) -> bytes:
        number = message.number()
        node = self._fid(number).node
        try:
            if self.read_only:
                raise refusal(errno.EROFS)
            if node.parent is None:
                raise refusal(errno.EBUSY)
            remove = os.rmdir if stat.S_ISDIR(node.mode) else os.unlink
            remove(node.name, dir_fd=self.tree.fd(node.parent))
        finally:
            self._drop(number)  # whether it worked or not
        return b""


def _flags(flags: int) -> int:
    """What of a guest's flags is passed on to open(2)."""
    access = flags & wire.ACCESS
    if access == wire.ACCESS:
        raise refusal(errno.EINVAL)
    for bit, there in ((wire.APPEND, os.O_APPEND), (wire.DATA_SYNC, os.O_DSYNC), (wire.SYNC, os.O_SYNC)):
        access |= there if flags & bit else 0
    return access


def _offset(value: int) -> int:
    if value >= 1 << 63:
        raise refusal(errno.EINVAL)
    return value


def _time(ns: int) -> tuple[int, int]:
    """Seconds and nanoseconds; times before 1970 wrap as Linux's do."""
    return ns // 10**9 & 0xFFFF_FFFF_FFFF_FFFF, ns % 10**9


def _reply(reply: Sequence[memoryview], kind: int, tag: int, body: bytes, more: int = 0) -> int:
    size = wire.HEADER.size + len(body)
    fill(reply, wire.HEADER.pack(size + more, kind, tag) + body)
    return size + more
