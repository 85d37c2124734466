"""Images that the machines of one process have in common: executed and read; nothing of a machine is stored in them.

The last one who uses an image closes its space, where the translated code of the machine that brought it may lie too.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from ..native.codespace import CodeSpace
from .image import Building, Image

_lock = threading.Lock()


class Place:
    """Where an image lies, or will when it has been built."""

    def __init__(self, space: CodeSpace, image: Image | None = None) -> None:
        self.space, self.image = space, image
        self.users: set[Shared] = set()


class Coming:
    """An image that is being built, for all who wait for it."""

    def __init__(self, name: str, building: Building, place: Place) -> None:
        self._name, self._building, self.place = name, building, place
        self._loading = threading.Lock()

    def wait(self) -> None:
        """Wait until it has been built."""
        self._building.wait()

    def result(self) -> Image:
        """The image, loaded; from now on new machines begin with it."""
        with self._loading:
            if self.place.image is None:
                self.place.image = self._building.result()
                with _lock:
                    _images[self._name] = _Entry(self.place, None)
            return self.place.image

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._building.abandon()


class _Entry(NamedTuple):
    place: Place
    coming: Coming | None


_images: dict[str, _Entry] = {}
"""What new machines begin with, by what it is made of."""


class Shared:
    """One machine's part in images that others may use too."""

    def __init__(self, name: str, quick: bool) -> None:
        """Join those who use the image of this name, if there are any; only if `quick`, with a quick one."""
        self._name = name
        self._places: list[Place] = []
        self.image: Image | None = None
        """The image to begin with."""
        self.coming: Coming | None = None
        """A better one that others are waiting for."""
        with _lock:
            if (entry := _images.get(name)) is not None and (quick or entry.coming is None):
                self.image, self.coming = entry.place.image, entry.coming
                self._join(entry)

    def _join(self, entry: _Entry) -> None:
        for place in (entry.place, *([entry.coming.place] if entry.coming else ())):
            place.users.add(self)
            self._places.append(place)

    def offer(self, image: Image, space: CodeSpace) -> None:
        """Let others use an image that lies at the beginning of a space."""
        self._offer(_Entry(Place(space, image), None))

    def offer_quick(self, image: Image, space: CodeSpace, building: Building, final: CodeSpace) -> Coming:
        """Let others use a quick image, and wait for the one that will be in the space `final`."""
        coming = Coming(self._name, building, Place(final))
        self._offer(_Entry(Place(space, image), coming))
        return coming

    def _offer(self, entry: _Entry) -> None:
        with _lock:
            self._join(entry)
            _images.setdefault(self._name, entry)  # another machine may have been quicker

    def owns(self, image: Image, space: CodeSpace) -> bool:
        """Whether an image lies in a space."""
        return any(place.space is space and place.image is image for place in self._places)

    def leave(self, space: CodeSpace) -> bool:
        """Whether a machine's space stays for those who use the image in it, without the machine's own code."""
        place = next((place for place in self._places if place.space is space), None)
        if place is not None and place.image is not None:
            space.give_back(place.image.used)
        return place is not None

    @property
    def waits_alone(self) -> bool:
        """Whether nobody else waits for what is coming."""
        return self.coming is None or self.coming.place.users <= {self}

    def close(self) -> None:
        """Use nothing of it any more."""
        with _lock:
            for place in self._places:
                place.users.discard(self)
            unused = [place for place in self._places if not place.users]
            self._places = []
            entry = _images.get(self._name)
            if entry is not None and entry.place in unused:
                del _images[self._name]
        for place in unused:
            place.space.close()
