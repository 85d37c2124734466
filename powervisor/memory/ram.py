"""Guest RAM: one contiguous host mapping that begins at guest-physical 0."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from powervisor.errors import UserError, argument
from powervisor.memory import pagemap
from powervisor.memory.contents import Base, Contents
from powervisor.memory.pagemap import Run

MIB = 1 << 20
HUGE_PAGE = 2 * MIB

_PROT_NONE, _PROT_RW = 0, mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000
_MADV_DONTNEED, _MADV_REMOVE, _MADV_HUGEPAGE, _MADV_DONTDUMP, _MADV_POPULATE_WRITE = 4, 9, 14, 16, 23
_HUGETLBFS_MAGIC = 0x958458F6
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def describe_size(size: int) -> str:
    """`size` bytes as a person writes it: 512 MiB, 6 GiB, 1000 bytes."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size} bytes"


def host_memory(*names: str) -> int:
    """Bytes in the given lines of /proc/meminfo together; without names memory and swap in total."""
    total = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in (names or ("MemTotal", "SwapTotal")):
            total += int(rest.split()[0]) << 10
    return total


class Ram:
    """`size` bytes of guest RAM, zero and untouched until used.

    The mapping is shared until the first `keep`, aligned to huge pages, and has inaccessible
    guard pages on both sides, so that a stray native access faults instead of reaching the VMM.
    `mem_path` names a directory of a hugetlbfs, which holds the backing file; `prealloc`
    makes the host commit every page now, until the first `keep`. Raises UserError when the host cannot provide it.
    """

    def __init__(self, size: int, mem_path: str | os.PathLike[str] | None = None, prealloc: bool = False) -> None:
        if size <= 0 or size % mmap.PAGESIZE:
            raise UserError(f"{_wanted(size)}: RAM must be a positive number of whole host pages")
        if size > (available := host_memory()):
            raise UserError(
                f"{_wanted(size)}: the host has only {available >> 20} MiB of memory and swap; "
                f"give a smaller {argument('memory')}"
            )
        self.size = size
        self._reserved = 0
        self._base: Base | None = None
        if mem_path is None:
            page = HUGE_PAGE
            self.fd = os.memfd_create("powervisor-ram", os.MFD_CLOEXEC)
            try:
                os.ftruncate(self.fd, size)
            except OSError as error:
                os.close(self.fd)
                said = f"{_wanted(size)}: the host gives no file of that size ({error.strerror}; see ulimit -f)"
                raise UserError(said) from None
        else:
            self.fd, page = _open_backing(Path(mem_path), size)
        try:
            self._hugetlb = mem_path is not None
            self._map(max(page, HUGE_PAGE))
            if prealloc:
                self._populate()
            self.view = memoryview((ctypes.c_ubyte * size).from_address(self.address)).cast("B")
        except BaseException:
            self.close()
            raise

    def _map(self, align: int) -> None:
        reserved = self.size + 3 * align
        base = _libc.mmap(None, reserved, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
        if base == _MAP_FAILED:
            raise UserError(f"{_wanted(self.size)}: no room in the host's address space (see ulimit -v)")
        self._reserved_at, self._reserved = base, reserved
        self.address = (base + 2 * align - 1) // align * align
        # Huge pages are reserved at mmap: without that, a missing page would kill the VMM at first touch.
        self._map_file(mmap.MAP_SHARED | (0 if self._hugetlb else _MAP_NORESERVE), self.fd)

    def _map_file(self, flags: int, fd: int) -> None:
        if _libc.mmap(self.address, self.size, _PROT_RW, flags | _MAP_FIXED, fd, 0) == _MAP_FAILED:
            code = ctypes.get_errno()
            raise UserError(f"{_wanted(self.size)}: the host cannot map guest RAM ({os.strerror(code)})")
        _libc.madvise(self.address, self.size, _MADV_HUGEPAGE)
        _libc.madvise(self.address, self.size, _MADV_DONTDUMP)

    def _populate(self) -> None:
        # Asked first: a host that runs out while populating kills a process instead of refusing.
        if not self._hugetlb and self.size > (free := host_memory("MemAvailable", "SwapFree")):
            raise UserError(
                f"{argument('mem_prealloc')}: {describe_size(self.size)} wanted and {free >> 20} MiB available "
                f"on the host; give a smaller {argument('memory')} or leave {argument('mem_prealloc')} out"
            )
        if _libc.madvise(self.address, self.size, _MADV_POPULATE_WRITE) == 0:
            return
        code = ctypes.get_errno()
        if code == errno.EINVAL:  # a host kernel before 5.14
            try:
                os.posix_fallocate(self.fd, 0, self.size)
                return
            except OSError as error:
                code = error.errno or errno.ENOMEM
        raise UserError(
            f"{argument('mem_prealloc')}: the host cannot provide {describe_size(self.size)} now "
            f"({os.strerror(code)}); give a smaller {argument('memory')} or leave {argument('mem_prealloc')} out"
        )

    def lock(self) -> None:
        """Keep all of it in the host's memory, until the first `keep`. Raises UserError when the host does not."""
        if _libc.mlock(self.address, self.size):
            why = os.strerror(ctypes.get_errno())
            remedy = f"raise the limit (ulimit -l), or leave {argument('mem_lock')} out"
            raise UserError(
                f"{argument('mem_lock')}: the host does not lock {describe_size(self.size)} ({why}); {remedy}"
            )

    def _span(self, key: slice) -> tuple[int, int]:
        start = 0 if key.start is None else key.start
        stop = self.size if key.stop is None else key.stop
        if key.step not in (None, 1):
            raise IndexError("guest RAM is sliced in steps of 1 only")
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"0x{start:x}..0x{stop:x} is outside guest RAM (0..0x{self.size:x})")
        return start, stop

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice) -> bytes:
        start, stop = self._span(key)
        return bytes(self.view[start:stop])

    def __setitem__(self, key: slice, data: bytes | bytearray | memoryview) -> None:
        start, stop = self._span(key)
        if len(data) != stop - start:
            raise IndexError(f"{len(data)} bytes do not fill 0x{start:x}..0x{stop:x} ({stop - start} bytes)")
        self.view[start:stop] = data

    def clear(self, start: int, stop: int) -> None:
        """Zero `start`..`stop` and give whole pages back to the host, unless they are reserved huge pages."""
        start, stop = self._span(slice(start, stop))
        if self._base is not None:
            self._hide(start, stop)
            return
        first = -(-start // HUGE_PAGE) * HUGE_PAGE
        last = stop // HUGE_PAGE * HUGE_PAGE
        if first < last and not self._hugetlb and _libc.madvise(self.address + first, last - first, _MADV_REMOVE) == 0:
            ctypes.memset(self.address + start, 0, first - start)
            ctypes.memset(self.address + last, 0, stop - last)
        else:
            ctypes.memset(self.address + start, 0, stop - start)

    def discard(self, start: int, stop: int) -> None:
        """Give the host's pages that lie wholly in `start`..`stop` back; they read as 0. Reserved huge pages stay."""
        start, stop = self._span(slice(start, stop))
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
        if self._base is not None:
            self._hide(first, last)
        elif first < last and not self._hugetlb and _libc.madvise(self.address + first, last - first, _MADV_REMOVE):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def touched(self) -> list[Run]:
        """Runs in order outside of which nothing was ever written."""
        if self._hugetlb:
            return [(0, self.size)]
        if self._base is None:
            return list(pagemap.data_runs(self.fd, 0, self.size))
        there = [*pagemap.data_runs(self._base.fd, 0, self.size), *pagemap.own_pages(self.address, self.size)]
        return pagemap.joined(sorted(there))

    # -- moments kept

    def keep(self) -> Contents:
        """What the RAM holds now, while nobody writes to it; costs what was written since the last time, mostly."""
        base = self._base
        if self._hugetlb or not pagemap.available():
            return Contents.filled(self.size, self._pieces())
        if base is None:
            base, self.fd = Base(self.size, self.fd), -1
            self._use(base)
            return Contents(base)
        runs = pagemap.own_pages(self.address, self.size)
        with base.lock:
            newest = base.newest
            if not runs and newest is not None:
                return newest
            if base.users == 1:
                if newest is not None:
                    newest = newest.replace(runs, self.view)
                else:
                    self._write_to(base, runs)
                    newest = Contents(base)
                self._forget(runs)
                return newest
        base = base.copy()
        self._write_to(base, runs)
        self._use(base)
        return Contents(base)

    def restore(self, contents: Contents) -> list[Run]:
        """Hold what was kept of this RAM or another of this size, while nobody looks; answers what may have changed."""
        if contents.size != self.size:
            raise ValueError(f"{contents.size} bytes of RAM kept, {self.size} there")
        if self._hugetlb or not pagemap.available():
            return self._overwrite(contents)
        if contents.base is self._base:
            changed = pagemap.own_pages(self.address, self.size)
            self._forget(changed)
        else:
            changed = [(0, self.size)]
            self._use(contents.base)
        for offset, data in contents.differences():
            self.view[offset : offset + len(data)] = data
            changed.append((offset, len(data)))
        return pagemap.joined(sorted(changed))

    def _use(self, base: Base) -> None:
        """Map `base` from now on, of which only this RAM sees what is written."""
        with base.lock:
            base.users += 1
        self._map_file(mmap.MAP_PRIVATE | _MAP_NORESERVE, base.fd)
        self._leave()
        self._base = base

    def _leave(self) -> None:
        """The base that was mapped is not used any more, nor the file before there was one."""
        if self._base is not None:
            with self._base.lock:
                self._base.users -= 1
            self._base = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write_to(self, base: Base, runs: list[Run]) -> None:
        for offset, length in runs:
            base.write(offset, self.view[offset : offset + length])

    def _forget(self, runs: list[Run]) -> None:
        """Show the base again where pages are RAM's own."""
        for offset, length in runs:
            _libc.madvise(self.address + offset, length, _MADV_DONTNEED)

    def _hide(self, start: int, stop: int) -> None:
        """Zero a range over a base; pages that it does not have go back to the host."""
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, stop // page * page
        if first >= last:
            ctypes.memset(self.address + start, 0, max(stop - start, 0))
            return
        ctypes.memset(self.address + start, 0, first - start)
        ctypes.memset(self.address + last, 0, stop - last)
        self._forget([(first, last - first)])
        assert self._base is not None
        for offset, length in pagemap.data_runs(self._base.fd, first, last):
            ctypes.memset(self.address + offset, 0, length)

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """What is not 0, where a base cannot be mapped."""
        for at in range(0, self.size, HUGE_PAGE):
            data = os.pread(self.fd, min(HUGE_PAGE, self.size - at), at)
            if data.count(0) != len(data):
                yield at, data

    def _overwrite(self, contents: Contents) -> list[Run]:
        changed = []
        for at in range(0, self.size, HUGE_PAGE):
            wanted = contents.read(at, min(HUGE_PAGE, self.size - at))
            if wanted != os.pread(self.fd, len(wanted), at):
                self.view[at : at + len(wanted)] = wanted
                changed.append((at, len(wanted)))
        return changed

    def close(self) -> None:
        """Unmap the RAM. Nothing may use `address` or `view` afterwards."""
        if hasattr(self, "view"):
            self.view.release()
        if self._reserved:
            _libc.munmap(self._reserved_at, self._reserved)
            self._reserved = 0
        self._leave()


def _wanted(size: int) -> str:
    """The argument that says how much RAM, with its value, for messages."""
    return f"{argument('memory')} {describe_size(size)}"


def _free_huge_pages(page: int) -> int:
    """Huge pages of `page` bytes that nobody uses or has reserved."""
    pool = Path(f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB")
    free, reserved = (int((pool / name).read_text()) for name in ("free_hugepages", "resv_hugepages"))
    return free - reserved


def _is_hugetlbfs(path: Path) -> bool:
    """Whether `path` is on a hugetlbfs, by the type that statfs(2) tells."""
    buffer = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer[0] == _HUGETLBFS_MAGIC


def _too_few(option: str, free: int, page: int, size: int) -> str:
    return (
        f"{option}: {free} free pages of {describe_size(page)}, {size // page} needed; "
        f"raise /proc/sys/vm/nr_hugepages or give a smaller {argument('memory')}"
    )


def _open_backing(path: Path, size: int) -> tuple[int, int]:
    """An unlinked file of `size` bytes in directory `path`, and the page size of that file system."""
    option = f"{argument('mem_path')} {path}"
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise UserError(f"{option}: {what}; give the mount point of a hugetlbfs")
    try:
        if not _is_hugetlbfs(path):
            raise UserError(f"{option}: not on a hugetlbfs; give a directory of one, or leave it out")
        fs = os.statvfs(path)
        page = fs.f_bsize
        if size % page:
            memory = argument("memory")
            raise UserError(f"{option}: its pages are {describe_size(page)}; make {memory} a multiple of that")
        # Without a size limit a hugetlbfs reports no blocks: then the kernel's pool counts.
        free = fs.f_bavail if fs.f_blocks else _free_huge_pages(page)
        if free * page < size:
            raise UserError(_too_few(option, free, page, size))
        name = path / f"powervisor-ram-{os.getpid()}-{os.urandom(4).hex()}"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(name)
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
    except OSError as error:
        why = f"cannot hold guest RAM ({error.strerror})"
        raise UserError(f"{option}: {why}; check its permissions and free space") from error
    return fd, page
