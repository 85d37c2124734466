"""What a loaded image is, whatever its file format."""

from __future__ import annotations

import os
import stat
import zlib
from typing import NamedTuple

from powervisor.errors import UserError, argument


class Segment(NamedTuple):
    """`data` at physical `pa`, followed by zeros up to `size` bytes."""

    pa: int
    data: bytes
    size: int

    @property
    def end(self) -> int:
        return self.pa + self.size


class Image(NamedTuple):
    """An image in physical addresses. `bits` is 32 or 64 when the format tells."""

    where: str
    """The option and file, for messages: `-kernel uImage`."""
    entry: int
    segments: tuple[Segment, ...]
    bits: int | None = None
    toc: int = 0
    """What r2 holds at entry: the TOC pointer of a 64-bit ELF program."""

    @property
    def base(self) -> int:
        """The lowest address used."""
        return min(segment.pa for segment in self.segments)

    @property
    def end(self) -> int:
        """One past the highest address used."""
        return max(segment.end for segment in self.segments)

    def check_fits(self, ram_size: int) -> Image:
        """This image. Raises UserError with the exact sizes when it leaves RAM."""
        for segment in self.segments:
            if not 0 <= segment.pa < segment.end <= ram_size:
                raise UserError(
                    f"{self.where}: needs 0x{segment.pa:x}..0x{segment.end:x} ({segment.size} bytes), "
                    f"beyond RAM of {ram_size >> 20} MiB; give a larger {argument('memory')} or link it lower"
                )
        return self


def read_file(option: str, path: str | os.PathLike[str]) -> bytes:
    """The bytes of `path`. Raises UserError, naming `option`."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise UserError(f"{option} {path}: not a file that can be read to its end")
            return file.read()
    except OSError as error:
        hint = "check the path" if isinstance(error, FileNotFoundError) else "check the file and its permissions"
        raise UserError(f"{option} {path}: {error.strerror}; {hint}") from error
    except MemoryError as error:
        raise UserError(f"{option} {path}: too large for the host's memory") from error


def gunzip(data: bytes, limit: int, where: str) -> bytes:
    """Decompress gzip `data` to at most `limit` bytes. Raises UserError, naming `where`."""
    stream = zlib.decompressobj(wbits=31)
    try:
        out = stream.decompress(data, limit)
    except zlib.error as error:
        raise UserError(f"{where}: corrupt gzip data ({error}); fetch or build the file again") from error
    if stream.unconsumed_tail:
        larger = f"give a larger {argument('memory')}"
        raise UserError(f"{where}: more than {limit >> 20} MiB when decompressed, beyond RAM; {larger}")
    if not stream.eof:
        raise UserError(f"{where}: truncated gzip data ({len(data)} bytes); fetch or build the file again")
    return out
