"""The two formats a Linux guest comes in, written: the newc cpio archive and the legacy U-Boot image.

Written from the format descriptions in the Linux documentation (driver-api/early-userspace/buffer-format) and U-Boot's
legacy image header (doc/usage). Both come out the same for the same input: no times, no owners.
"""

import stat
import struct
import zlib

_UIMAGE_MAGIC = 0x2705_1956
_UIMAGE = struct.Struct(">7I4B32s")
_OS_LINUX, _ARCH_POWERPC, _TYPE_KERNEL, _COMPRESSION_GZIP = 5, 7, 2, 1


class Cpio:
    """Collects files for an initial RAM disk; parent directories are made as needed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._directories: set[str] = set()
        self._inode = 0

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A directory, once."""
        if path and path not in self._directories:
            self.directory(path.rpartition("/")[0])
            self._directories.add(path)
            self._add(path, stat.S_IFDIR | mode)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self.directory(path.rpartition("/")[0])
        self._add(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.directory(path.rpartition("/")[0])
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device."""
        self.directory(path.rpartition("/")[0])
        self._add(path, stat.S_IFCHR | mode, device=(major, minor))

    def data(self) -> bytes:
        """The whole archive."""
        return b"".join([*self._parts, _entry("TRAILER!!!", 0, 0, b"", (0, 0))])

    def _add(self, path: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        self._parts.append(_entry(path, self._inode, mode, data, device))


def _entry(path: str, inode: int, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, uid, gid, links, mtime, size, dev major and minor, rdev major and minor, name size, checksum
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def uimage(payload: bytes, name: str, load: int = 0, entry: int = 0) -> bytes:
    """A PowerPC Linux kernel, compressed with gzip by the caller, behind the header U-Boot reads."""

    def header(own_crc: int) -> bytes:
        return _UIMAGE.pack(
            _UIMAGE_MAGIC, own_crc, 0, len(payload), load, entry, zlib.crc32(payload),
            _OS_LINUX, _ARCH_POWERPC, _TYPE_KERNEL, _COMPRESSION_GZIP, name.encode()[:32],
        )  # fmt: skip

    return header(zlib.crc32(header(0))) + payload  # the header's CRC counts itself as zero
