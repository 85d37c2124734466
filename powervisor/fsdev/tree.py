"""The files below one directory of the host, reached in a way that cannot lead out of it.

Every step goes by one name, relative to the descriptor of a directory that was reached so before, and never through a
symbolic link (O_NOFOLLOW). ".." is never looked up: a node knows the one it was reached from. Whatever is done to a
file goes through the descriptor of that very file, so it cannot be exchanged between the look and the use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from weakref import WeakValueDictionary

KEPT_OPEN = 64
"""Descriptors that are kept for nodes; others are opened again when they are needed."""
MOST_LEVELS = 128
"""Directories that are opened again for one node."""
_LONGEST_NAME = 255


def refusal(code: int) -> OSError:
    """An error of the host's kind."""
    return OSError(code, os.strerror(code))


class Node:
    """A file, directory or link, as it was found under `name` in `parent`; None above the root."""

    __slots__ = ("__weakref__", "fd", "identity", "mode", "name", "parent", "users")

    def __init__(self, parent: Node | None, name: bytes, found: os.stat_result) -> None:
        self.parent, self.name = parent, name
        self.identity = found.st_dev, found.st_ino
        self.mode = found.st_mode
        self.fd = -1
        self.users = 0


class Tree:
    """The directory at `path`. Raises OSError when it cannot be opened."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.root = Node(None, b"/", os.fstat(fd))
        self.root.fd = fd
        self._open: OrderedDict[Node, None] = OrderedDict()
        self._nodes: WeakValueDictionary[tuple[Node, bytes], Node] = WeakValueDictionary()

    def close(self) -> None:
        """Close all descriptors."""
        self.forget()
        if self.root.fd >= 0:
            os.close(self.root.fd)
            self.root.fd = -1

    def forget(self) -> None:
        """Close those that can be opened again."""
        for node in list(self._open):
            self._shut(node)

    def fd(self, node: Node) -> int:
        """A descriptor (O_PATH) of the node. Raises OSError: ESTALE when something else is in its place now."""
        closed = []
        at = node
        while at.fd < 0:
            closed.append(at)
            assert at.parent is not None  # the root is always open
            at = at.parent
        if len(closed) > MOST_LEVELS:
            raise refusal(errno.ENAMETOOLONG)
        for at in reversed(closed):
            assert at.parent is not None
            fd = _find(at.parent.fd, at.name)
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != at.identity:
                os.close(fd)
                raise refusal(errno.ESTALE)
            self._keep(at, fd)
        if node in self._open:
            self._open.move_to_end(node)
        return node.fd

    def child(self, parent: Node, name: bytes) -> Node:
        """What is called `name` in the directory `parent`; ".." is what that was reached from. Raises OSError."""
        if name == b"..":
            return parent.parent or parent
        fd = _find(self.fd(parent), checked(name))
        found = os.fstat(fd)
        known = self._nodes.get((parent, name))
        if known is None or known.identity != (found.st_dev, found.st_ino):
            known = Node(parent, name, found)
            self._nodes[parent, name] = known
        if known.fd < 0:
            self._keep(known, fd)
        else:
            os.close(fd)
        return known

    def moved(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """A name was changed: who had it has the new one."""
        node = self._nodes.pop((parent, name), None)
        self._nodes.pop((new_parent, new_name), None)
        if node is not None:
            node.parent, node.name = new_parent, new_name
            self._nodes[new_parent, new_name] = node

    def use(self, node: Node) -> Node:
        """Count a user of the node."""
        node.users += 1
        return node

    def release(self, node: Node) -> None:
        """A user has gone."""
        node.users -= 1

    def tidy(self) -> None:
        """Close what nobody uses, and what was not used for long; between requests, which hold on to descriptors.

        A removed file's storage is kept by nothing but the guest's own handles.
        """
        for node in [node for node in self._open if not node.users]:
            self._shut(node)
        while len(self._open) > KEPT_OPEN:
            self._shut(next(iter(self._open)))

    def _keep(self, node: Node, fd: int) -> None:
        node.fd = fd
        self._open[node] = None

    def _shut(self, node: Node) -> None:
        if node in self._open:
            del self._open[node]
            os.close(node.fd)
            node.fd = -1


def checked(name: bytes) -> bytes:
    """A name that stands for an entry of a directory. Raises OSError for any other."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise refusal(errno.EINVAL)
    if len(name) > _LONGEST_NAME:
        raise refusal(errno.ENAMETOOLONG)
    return name


def magic(fd: int) -> str:
    """A path that leads to the very file of a descriptor, for calls that take no O_PATH descriptor."""
    return f"/proc/self/fd/{fd}"


def open_again(fd: int, flags: int) -> int:
    """Open the very file of an O_PATH descriptor; only regular files and directories. Raises OSError."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise refusal(errno.ELOOP if stat.S_ISLNK(mode) else errno.EACCES)
    return os.open(magic(fd), flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _find(directory: int, name: bytes) -> int:
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
