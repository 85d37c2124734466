"""The process that builds an image: `python -m powervisor.translate.builder CORE BASE PATH NATIVE...`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from ..isa import cores
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from .image import build, write

SPACE = 64 << 20
"""Bytes reserved for an image; what is translated later needs none here."""


def native_function(name: str) -> NativeFunction:
    """The native function of a name as `NativeFunction.name` gives it."""
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(f"powervisor.{module}"), attribute)
    assert isinstance(function, NativeFunction)
    return function


def main(core: str, base: str, path: str, *natives: str) -> None:
    """Build the image of a core for an address and write it to a path."""
    os.nice(19)  # a machine is running meanwhile, on the quick image
    space = CodeSpace(SPACE, int(base, 16))
    image = build(cores.get(core), space, [native_function(name) for name in natives])
    write(Path(path), image, space)


if __name__ == "__main__":
    main(*sys.argv[1:])
