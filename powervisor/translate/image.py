"""The image of a core: runtime, tables and stencil templates, built by LLVM once and kept as bytes on disk.

An image is position-dependent: it is relocated for the address its CodeSpace got, which is nearly always the same, so
a later start reads one file and runs. The key covers this package's sources and the host CPU.

Building takes seconds. A machine does not wait for it: it starts with a quick image that is somewhat slower, while
another process (`builder`) builds the real one, which the engine takes over when it is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from ..cache.images import path_of, read, whole, write
from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from .stencil_process import StencilProcess, modes


class Image:
    """What a CodeSpace holds after loading: symbols {name: address}, and where free space begins.

    `compile_handler(word)` adds what a quick image lacks; it is called by one thread at a time.
    """

    def __init__(
        self, symbols: dict[str, int], used: int, compile_handler: Callable[[int], None] | None = None
    ) -> None:
        self.symbols, self.used, self._compile_handler = symbols, used, compile_handler
        self._compiling = threading.Lock()

    def compile(self, word: int) -> None:
        """Add an instruction's handler, if this is a quick image that lacks it."""
        with self._compiling:
            if self._compile_handler is not None:
                self._compile_handler(word)


def image_key(core: Core, base: int, natives: list[NativeFunction]) -> str:
    """Hash of everything an image depends on."""
    own = f"{core.name} {base:#x} {sorted(f.name for f in natives)}"
    return hashlib.sha256(_version() + own.encode()).hexdigest()[:32]


@functools.cache
def _version() -> bytes:
    """Hash of what every image depends on, as it was when this process first asked."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for room in ("native", "isa", "vcpu", "insns", "translate", "devices"):
        for path in sorted((root / room).glob("*.py")):
            if room != "devices" or path.name.startswith("mpic") or path.name.endswith("_native.py"):
                digest.update(path.read_bytes())
    for name in ("model name", "flags"):
        digest.update(_cpuinfo(name).encode())
    digest.update(_llvm_version())
    return digest.digest()


def _llvm_version() -> bytes:
    """What tells one llvmlite, and so its LLVM, from another; importing it would take long."""
    found = importlib.util.find_spec("llvmlite")
    try:
        return Path(str(found and found.origin)).with_name("_version.py").read_bytes()
    except OSError:
        return b""


def _cpuinfo(name: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next((line for line in lines if line.startswith(name)), "")
    except OSError:
        return ""


class Store:
    """Images of a core with the natives a machine adds, built or from the cache."""

    def __init__(self, core: Core, natives: list[NativeFunction], cache: bool = True) -> None:
        """Without `cache` nothing on disk is read or written."""
        self.core, self.natives, self._cache = core, natives, cache

    @property
    def name(self) -> str:
        """What the image is made of in this process, wherever it lies."""
        return f"{self.core.name} {sorted(f.name for f in self.natives)}"

    def path(self, base: int) -> Path | None:
        """The cached file of the image for an address; None without a cache."""
        return path_of(self.core.name, image_key(self.core, base, self.natives)) if self._cache else None

    def load(self, space: CodeSpace) -> Image | None:
        """The cached image, loaded into an empty CodeSpace."""
        path = self.path(space.base)
        return _loaded(path, space) if path is not None else None

    def build(self, space: CodeSpace) -> Image:
        """Build the image in this process, and keep it."""
        image = build(self.core, space, self.natives)
        if (path := self.path(space.base)) is not None:
            write(path, contents(image, space))
        return image

    def build_quick(self, space: CodeSpace) -> Image:
        """An image with fewer stencils and less care, in a fraction of the time."""
        return build(self.core, space, self.natives, quick=True)


class Building:
    """An image being built by another process, which outlives this one: the next start finds it in the cache.

    It comes through memory that both share, since there may be no cache, and no room on the disk.
    """

    def __init__(self, store: Store, space: CodeSpace) -> None:
        self._store, self._space = store, space
        shared = os.memfd_create("powervisor-image")
        weakref.finalize(self, os.close, shared)
        self._shared = Path(f"/proc/self/fd/{shared}")
        names = [function.name for function in store.natives]
        command = [sys.executable, "-m", f"{__package__}.builder", store.core.name, hex(space.base), str(self._shared)]
        quiet = subprocess.DEVNULL
        kept = store.path(space.base)
        self._kept = kept if kept is not None and os.access(kept.parent, os.W_OK) else None
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # then it is built here
            self._process = subprocess.Popen(
                [*command, str(self._kept or ""), *names], pass_fds=(shared,),
                stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True,
            )  # fmt: skip
            self._waiter = threading.Thread(target=self._process.wait, name="image-builder", daemon=True)
            self._waiter.start()

    def wait(self) -> None:
        """Wait until the other process has ended."""
        if self._process is not None:
            self._waiter.join()

    def abandon(self) -> None:
        """The machine ends: without a cache that it can be kept in nobody wants the image any more."""
        if self._kept is None and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)  # with those it has started

    def result(self) -> Image:
        """The image, loaded into the CodeSpace, which must still be there; built here if the other could not."""
        self.wait()
        return _loaded(self._shared, self._space) or self._store.build(self._space)


def _loaded(path: Path, space: CodeSpace) -> Image | None:
    """Load an image; None when there is none or it is damaged."""
    found = read(path)
    if found is None:
        return None
    names, code = found
    ctypes.memmove(space.take(len(code)), code, len(code))
    return Image(json.loads(names), len(code))


def contents(image: Image, space: CodeSpace) -> bytes:
    """What is kept of an image."""
    return whole(json.dumps(image.symbols).encode(), ctypes.string_at(space.base, image.used))


def build(core: Core, space: CodeSpace, natives: list[NativeFunction], quick: bool = False) -> Image:
    """Compile the runtime and every stencil for a core and lay them out in a CodeSpace."""
    collecting = gc.isenabled()
    gc.disable()  # syntax trees and text, none of it in cycles: looking for garbage would take a quarter of the time
    try:
        return _build(core, space, natives, quick)
    finally:
        if collecting:
            gc.freeze()
            gc.unfreeze()  # to the oldest generation with all of it: the next look at the youngest would take 20 ms
            gc.enable()


def _build(core: Core, space: CodeSpace, natives: list[NativeFunction], quick: bool) -> Image:
    stencils = [StencilProcess(core.name, cm, quick) for cm in modes(core, quick)]
    from .layout import Layout  # what it imports takes time, which the processes use

    layout = Layout(core, space, quick)
    symbols = layout.build({f.name: f for f in natives}, stencils)
    return Image(symbols, space.used, layout.later.compile if layout.later is not None else None)
