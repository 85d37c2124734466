"""The image of a core: runtime, tables and stencil templates, built by LLVM once and kept as bytes on disk.

An image is position-dependent: it is relocated for the address its CodeSpace got, which is nearly always the same, so
a later start reads one file and runs. The key covers this package's sources and the host CPU.

Building takes seconds. A machine does not wait for it: it starts with a quick image that is somewhat slower, while
another process (`builder`) builds the real one, which the engine takes over when it is there.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from .stencil_process import StencilProcess, modes

MAGIC = b"pvimage1"
KEPT = 24
"""Images kept on disk: three cores, a few revisions, a few machines in one process."""


class Image:
    """What a CodeSpace holds after loading: symbols {name: address}, and where free space begins.

    `compile_handler(word)` adds what a quick image lacks.
    """

    def __init__(
        self, symbols: dict[str, int], used: int, compile_handler: Callable[[int], None] | None = None
    ) -> None:
        self.symbols, self.used, self.compile_handler = symbols, used, compile_handler


def cache_directory() -> Path | None:
    """Where built images are kept: $POWERVISOR_CACHE, else the XDG cache directory; None when it is not writable."""
    root = os.environ.get("POWERVISOR_CACHE")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "powervisor")
    path = Path(root) / "images"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path


def image_key(core: Core, base: int, natives: list[NativeFunction]) -> str:
    """Hash of everything an image depends on."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for room in ("native", "isa", "vcpu", "insns", "translate", "devices"):
        for path in sorted((root / room).glob("*.py")):
            if room != "devices" or path.name.startswith("mpic") or path.name.endswith("_native.py"):
                digest.update(path.read_bytes())
    for name in ("model name", "flags"):
        digest.update(_cpuinfo(name).encode())
    digest.update(f"{core.name} {base:#x} {sorted(f.name for f in natives)}".encode())
    return digest.hexdigest()[:32]


def _cpuinfo(name: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next((line for line in lines if line.startswith(name)), "")
    except OSError:
        return ""


class Store:
    """Images of a core with the natives a machine adds, built or from the cache."""

    def __init__(self, core: Core, natives: list[NativeFunction]) -> None:
        self.core, self.natives = core, natives
        self.directory = cache_directory()

    def path(self, base: int) -> Path | None:
        """The cached file of the image for an address; None without a cache."""
        if self.directory is None:
            return None
        return self.directory / f"{self.core.name}-{image_key(self.core, base, self.natives)}.image"

    def load(self, space: CodeSpace) -> Image | None:
        """The cached image, loaded into an empty CodeSpace."""
        path = self.path(space.base)
        return _read(path, space) if path is not None else None

    def build(self, space: CodeSpace) -> Image:
        """Build the image in this process, and keep it."""
        image = build(self.core, space, self.natives)
        if (path := self.path(space.base)) is not None:
            write(path, image, space)
        return image

    def build_quick(self, space: CodeSpace) -> Image:
        """An image with fewer stencils and less care, in a fraction of the time."""
        return build(self.core, space, self.natives, quick=True)


class Building:
    """An image being built by another process, which outlives this one: the next start finds it in the cache."""

    def __init__(self, store: Store, space: CodeSpace) -> None:
        self._store, self._space = store, space
        self._own: str | None = None
        path = store.path(space.base)
        if path is None:
            self._own = tempfile.mkdtemp(prefix="powervisor-")
            path = Path(self._own) / "image"
        self._path = path
        names = [function.name for function in store.natives]
        command = [sys.executable, "-m", f"{__package__}.builder", store.core.name, hex(space.base), str(path), *names]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        self._waiter = threading.Thread(target=process.wait, name="image-builder", daemon=True)
        self._waiter.start()

    def wait(self) -> None:
        """Wait until the other process has ended."""
        self._waiter.join()

    def result(self) -> Image:
        """The image, loaded into the CodeSpace, which must still be there; built here if the other could not."""
        self.wait()
        image = _read(self._path, self._space)
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        return image if image is not None else self._store.build(self._space)


def _read(path: Path, space: CodeSpace) -> Image | None:
    """Load a cached image; None when there is none or it is damaged."""
    try:
        with open(path, "rb") as file:
            head = file.read(8 + 16 + 32)
            if len(head) != 56 or head[:8] != MAGIC:
                return None
            names, size = struct.unpack_from("<QQ", head, 8)
            rest = file.read(names + size)
    except OSError:
        return None
    if len(rest) != names + size or hashlib.sha256(rest).digest() != head[24:]:
        return None
    ctypes.memmove(space.take(size), rest[names:], size)
    return Image(json.loads(rest[:names]), size)


def write(path: Path, image: Image, space: CodeSpace) -> None:
    """Keep an image: a temporary file renamed, so that readers see all of it or nothing."""
    names = json.dumps(image.symbols).encode()
    data = ctypes.string_at(space.base, image.used)
    rest = names + data
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(MAGIC + struct.pack("<QQ", len(names), len(data)) + hashlib.sha256(rest).digest() + rest)
        temporary.replace(path)
        prune(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)


def prune(directory: Path) -> None:
    """Keep the newest images; every change of the sources leaves some behind."""
    images = sorted(directory.glob("*.image"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in images[KEPT:]:
        old.unlink(missing_ok=True)


def build(core: Core, space: CodeSpace, natives: list[NativeFunction], quick: bool = False) -> Image:
    """Compile the runtime and every stencil for a core and lay them out in a CodeSpace."""
    collecting = gc.isenabled()
    gc.disable()  # syntax trees and text, none of it in cycles: looking for garbage would take a quarter of the time
    try:
        return _build(core, space, natives, quick)
    finally:
        if collecting:
            gc.enable()


def _build(core: Core, space: CodeSpace, natives: list[NativeFunction], quick: bool) -> Image:
    stencils = [StencilProcess(core.name, cm, quick) for cm in modes(core, quick)]
    from .layout import Layout  # what it imports takes time, which the processes use

    layout = Layout(core, space, quick)
    symbols = layout.build({f.name: f for f in natives}, stencils)
    return Image(symbols, space.used, layout.later.compile if layout.later is not None else None)
