"""The process that compiles regions: `python -m powervisor.translate.tier1.worker OPTIONS`.

It reads regions from standard input and answers with objects, each a length and so many bytes; an answer of length 0
means that the region could not be compiled. It gives way to the machine that it works for.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from typing import IO

from .options import DEFAULTS, RegionOptions
from .shape import Region, packed, unpacked

LENGTH = struct.Struct("<I")
NICENESS = 5


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message."""
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None at the end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size: int = LENGTH.unpack(head)[0]
    data = stream.read(size)
    return data if len(data) == size else None


class Worker:
    """The other process, started with the first region. One thread uses it."""

    def __init__(self, options: RegionOptions = DEFAULTS) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._starting = threading.Lock()

    def compile(self, region: Region) -> bytes:
        """The region's object; b"" when there is none (the process was killed or cannot be started, LLVM refused)."""
        try:
            process = self._started()
            if process is None:
                return b""
            assert process.stdin is not None and process.stdout is not None
            send(process.stdin, packed(region))
            data = receive(process.stdout)
        except OSError:
            data = None
        if data is None:
            self._end()
        return data or b""

    def _started(self) -> subprocess.Popen[bytes] | None:
        with self._starting:
            if self._process is None and not self._stopped:
                quiet = None if os.environ.get("POWERVISOR_DEBUG") else subprocess.DEVNULL
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, self._options.text()],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, start_new_session=True,
                )  # fmt: skip
            return self._process

    def stop(self) -> None:
        """Nothing is compiled any more; for any thread, also while another one waits for an object."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process."""
        self.stop()
        self._end()

    def _end(self) -> None:
        """End the process: the next region starts another one, unless it was stopped."""
        with self._starting:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        assert process.stdin is not None and process.stdout is not None
        with process.stdout, process.stdin:
            process.wait()


def compile_region(region: Region, options: RegionOptions = DEFAULTS) -> bytes:
    """The object of a region."""
    from ...insns import TABLE
    from ...isa import cores
    from ...native.llvm import REGION_PASSES, compile_object
    from .build import region_ir

    text = region_ir(region, TABLE.for_core(cores.get(region.core).categories), options)
    passes = tuple(name for name in REGION_PASSES if name not in options.without)
    return compile_object(text, options.level, passes)


def main() -> None:
    """Compile until standard input ends."""
    os.nice(NICENESS)
    options = RegionOptions.of(sys.argv[1])
    while (data := receive(sys.stdin.buffer)) is not None:
        send(sys.stdout.buffer, compile_region(unpacked(data), options))


if __name__ == "__main__":
    main()
