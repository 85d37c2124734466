"""The image of a core: runtime, tables and stencil templates, built by LLVM once and kept as bytes on disk.

An image is position-dependent: it is relocated for the address its CodeSpace got, which is nearly always the same, so
a later start reads one file and runs. The key covers this package's sources, the host CPU and llvmlite's version.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction

MAGIC = b"pvimage1"


class Image:
    """What a CodeSpace holds after loading: symbols {name: address}, and where free space begins."""

    def __init__(self, symbols: dict[str, int], used: int) -> None:
        self.symbols, self.used = symbols, used


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
            if room != "devices" or path.name.startswith("mpic"):
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


def load_or_build(
    core: Core, space: CodeSpace, natives: list[NativeFunction], progress: Callable[[str], None] | None = None
) -> Image:
    """Put the core's image at the start of an empty CodeSpace; `natives` are compiled in and exported by name."""
    directory = cache_directory()
    path = directory / f"{core.name}-{image_key(core, space.base, natives)}.image" if directory is not None else None
    if path is not None:
        image = _read(path, space)
        if image is not None:
            return image
    if progress is not None:
        progress(f"building the {core.name} translator (once)")
    image = build(core, space, natives)
    if path is not None:
        _write(path, image, space)
    return image


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


def _write(path: Path, image: Image, space: CodeSpace) -> None:
    """Keep an image: a temporary file renamed, so that readers see all of it or nothing."""
    names = json.dumps(image.symbols).encode()
    data = ctypes.string_at(space.base, image.used)
    rest = names + data
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(MAGIC + struct.pack("<QQ", len(names), len(data)) + hashlib.sha256(rest).digest() + rest)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def build(core: Core, space: CodeSpace, natives: list[NativeFunction]) -> Image:
    """Compile the runtime and every stencil for a core and lay them out in a CodeSpace."""
    from ..insns import TABLE
    from .layout import Layout

    symbols = Layout(core, TABLE.for_core(core.categories), space).build({f.name: f for f in natives})
    return Image(symbols, space.used)
