"""Images that the machines of one process have in common: they are executed and read, and nothing is stored in them."""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..native.codespace import CodeSpace
from .image import Image

_lock = threading.Lock()


class _Kept(NamedTuple):
    """An image where it lies, and who uses it."""

    image: Image
    space: CodeSpace
    users: set[Shared]


_images: dict[str, _Kept] = {}
"""By what they are made of."""


class Shared:
    """One machine's part in an image that others may use too."""

    def __init__(self, name: str) -> None:
        """Join those who use the image of this name, if there are any."""
        self._name = name
        with _lock:
            self._kept = _images.get(name)
            if self._kept is not None:
                self._kept.users.add(self)

    @property
    def image(self) -> Image | None:
        """The image that is shared."""
        return self._kept.image if self._kept is not None else None

    def offer(self, image: Image, space: CodeSpace) -> None:
        """Let others use an image that lies at the beginning of a space, unless they have another one by now."""
        with _lock:
            if self._name not in _images:
                self._kept = _images[self._name] = _Kept(image, space, {self})

    def keeps(self, space: CodeSpace) -> bool:
        """Whether a space is there for the image, and closed with it."""
        return self._kept is not None and self._kept.space is space

    def close(self) -> None:
        """Use it no more; the last one closes its space."""
        with _lock:
            kept, self._kept = self._kept, None
            if kept is None:
                return
            kept.users.discard(self)
            if kept.users:
                return
            del _images[self._name]
        kept.space.close()
