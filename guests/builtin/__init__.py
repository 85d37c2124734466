"""The guest that ships inside the package: a bare-metal program of our own for e500mc, e5500 and e6500.

It prints the core, memory and device tree, tests timers, interrupts, MMU, floating point and SMP, measures speed, and
offers a prompt; commands in the boot arguments are run first. It is built when it is first used, within a second, and
kept in the cache directory under a hash of its sources.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import powervisor

from .. import catalogue

_ROOMS = ("guests/builtin", "guests/builtin/program", "native", "isa", "insns", "devices", "boards")
KEPT = 8
"""Files of the cache: the newest; every version has its own."""
_unkept: list[Path] = []


def image(bits: int) -> Path:
    """The guest's ELF file for cores of `bits` bits: one 32-bit program serves both kinds.

    Without a cache directory that can be written the file is a temporary one, removed when Python ends.
    """
    name = f"builtin-{_key()}.elf"
    kept = catalogue.cache() / name
    if kept.is_file():
        return kept
    if _unkept:
        return _unkept[0]
    from .build import build

    data = build()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        made = _write(data, kept)
        _prune(kept.parent)
        return made
    except OSError:
        handle, path = tempfile.mkstemp(suffix=".elf", prefix="powervisor-builtin-")
        os.close(handle)
        _unkept.append(Path(path))
        atexit.register(_unkept[0].unlink, missing_ok=True)
        return _write(data, _unkept[0])


def _write(data: bytes, path: Path) -> Path:
    """Write a file that readers see whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
    return path


def _prune(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process prunes too
        for old in sorted(folder.glob("builtin-*.elf"), key=os.path.getmtime, reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)


def _key() -> str:
    """Hash of everything the guest is made from."""
    digest = hashlib.sha256()
    package = Path(powervisor.__file__).parent
    for room in _ROOMS:
        for path in sorted((package / room).iterdir()):
            if path.suffix in (".py", ".s"):
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:24]
