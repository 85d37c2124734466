"""The process that builds an image: `python -m powervisor.translate.builder CORE BASE SHARED KEPT NATIVE...`."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

from ..cache.images import alone, read, whole, write
from ..isa import cores
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from .image import build, contents

SPACE = 64 << 20
"""Bytes reserved for an image; what is translated later needs none here."""


def native_function(name: str) -> NativeFunction:
    """The native function of a name as `NativeFunction.name` gives it."""
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(f"powervisor.{module}"), attribute)
    assert isinstance(function, NativeFunction)
    return function


def main(core: str, base: str, shared: str, kept: str, *natives: str) -> None:
    """Build the image of a core for an address; write it to memory shared with whoever waits, and to the cache."""
    os.nice(19)  # a machine is running meanwhile, on the quick image
    with alone(Path(kept)) if kept else contextlib.nullcontext():
        found = read(Path(kept)) if kept else None  # another process has built it meanwhile
        if found is None:
            space = CodeSpace(SPACE, int(base, 16))
            image = build(cores.get(core), space, [native_function(name) for name in natives])
            made = contents(image, space)
            if kept:
                write(Path(kept), made)
        else:
            made = whole(*found)
    Path(shared).write_bytes(made)


if __name__ == "__main__":
    main(*sys.argv[1:])
