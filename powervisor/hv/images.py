"""Images of cores in the cache, without a machine that runs with them."""

from __future__ import annotations

from ..isa.cores import Core
from ..native.codespace import CodeSpace
from ..native.lang import NativeFunction
from ..translate.engine import CODE_SPACE
from ..translate.image import Store


def keep(core: Core, natives: list[NativeFunction], build: bool) -> bool:
    """Whether the image that a machine of this core begins with is in the cache; with `build` it is put there."""
    store = Store(core, natives)
    space = CodeSpace(CODE_SPACE)  # at the address where a process has its first machine
    try:
        if store.load(space) is not None:
            return True
        if not build:
            return False
        store.build(space)
        path = store.path(space.base)
        return path is not None and path.exists()
    finally:
        space.close()
