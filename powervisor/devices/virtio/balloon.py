"""The memory balloon (virtio 1.2, section 5.5): the guest lends pages of its RAM to the host.

Pages are 4 KiB. What the guest puts into the balloon, or reports as free, is given back to the host at once; taking a
page out again needs nothing: the host gives a fresh one when it is touched.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from powervisor.buffers import part
from powervisor.devices.device import state
from powervisor.devices.services import Services
from powervisor.devices.virtio.device import RequestDevice, Status
from powervisor.devices.virtio.pci import VirtioPci, VirtioPciOptions
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import Chain, Ring, RingError
from powervisor.errors import PowervisorError
from powervisor.memory.space import BusError
from powervisor.properties import prop

PAGE = 4096
STATISTICS, DEFLATE_ON_OOM, REPORTING = 1 << 1, 1 << 2, 1 << 5
"""Features."""
_ACTUAL_AT = 4
_INFLATE, _DEFLATE = 0, 1
_QUEUE_SIZE = 128
MOST_PAGES = 1 << 16
"""Pages that one request may name; drivers name 256."""
_STATISTIC = "HQ"
_STATISTIC_SIZE = struct.calcsize("=" + _STATISTIC)
NAMES = (
    "swap-in", "swap-out", "major-faults", "minor-faults", "free-memory", "total-memory", "available-memory",
    "disk-caches", "hugetlb-allocations", "hugetlb-failures",
)  # fmt: skip
"""Statistics by tag; memory in bytes."""


@dataclass(frozen=True)
class BalloonOptions(VirtioPciOptions):
    """Properties of virtio-balloon-pci."""

    deflate_on_oom: bool = prop(False, "a guest that runs out of memory may take pages back")
    free_page_reporting: bool = prop(False, "the guest's free pages are given back to the host all the time")


class VirtioBalloon(RequestDevice):
    """The balloon of a machine."""

    kind = 5

    wanted: int = state(int, keep=True)
    """Pages the host would like to have."""
    actual: int = state(int)
    """Pages the guest has put into the balloon."""

    def __init__(self, name: str, services: Services, options: BalloonOptions) -> None:
        features = STATISTICS | options.features()
        features |= DEFLATE_ON_OOM if options.deflate_on_oom else 0
        features |= REPORTING if options.free_page_reporting else 0
        self.pages = services.memory.space.ram.size // PAGE
        self.given_back = 0
        """Bytes that went to the host, as often as they did."""
        self.on_change: Callable[[int], None] | None = None
        """Told of `memory` when the driver says that it is another; under the machine's lock."""
        self._failed = False
        self._statistics: dict[str, int] = {}
        self._rounds = 0  # times that the statistics' buffer is still to be given back to the driver
        self._answered = threading.Condition()
        queues = 4 if options.free_page_reporting else 3
        super().__init__(name, services, (_QUEUE_SIZE,) * queues, features)

    # -- the host's side

    @property
    def target(self) -> int:
        """Bytes of RAM the guest is asked to do with; asking for less makes it give pages back, some time later."""
        return (self.pages - self.wanted) * PAGE

    @target.setter
    def target(self, size: int) -> None:
        if not 0 < size <= self.pages * PAGE:
            raise PowervisorError(f"balloon: {size} bytes are not within 1..{self.pages * PAGE}, the guest's RAM")
        with self.services.lock:
            self.wanted = self.pages - -(-size // PAGE)
            self.generation = self.generation + 1 & 0xFF
            if self.transport and self.status & Status.DRIVER_OK:
                self.transport.configuration_interrupt()

    @property
    def memory(self) -> int:
        """Bytes of RAM the guest has now, without what is in the balloon."""
        return (self.pages - min(self.actual, self.pages)) * PAGE

    def guest_statistics(self, timeout: float = 5.0) -> dict[str, int]:
        """What the guest tells of its memory (see `NAMES`). Raises PowervisorError when it does not answer."""
        with self._answered:
            # The driver fills its buffer when it gets it back: the first time it is as old as the last question.
            with self.services.lock:
                self._rounds = 2
                self.notify(self._statistics_queue)
            if not self._answered.wait_for(lambda: self._rounds == 0, timeout):
                self._rounds = 0
                raise PowervisorError(f"balloon: no statistics within {timeout:g} s; is the guest's driver there?")
            return dict(self._statistics)

    # -- the guest's side

    def configuration(self, order: str) -> bytes:
        """What is wanted and what is there, in pages; little-endian for legacy drivers too."""
        return struct.pack("<IIII", self.wanted, self.actual, 0, 0)

    def configure(self, offset: int, data: bytes) -> None:
        """The driver tells how many pages are in the balloon; legacy drivers do so byte by byte."""
        at = offset - _ACTUAL_AT
        if 0 <= at <= 4 - len(data):
            told = bytearray(self.actual.to_bytes(4, "little"))
            told[at : at + len(data)] = data
            self.actual = int.from_bytes(told, "little")
            if self.on_change is not None:
                self.on_change(self.memory)

    @property
    def _statistics_queue(self) -> int:
        """Queues that the driver did not want are not counted."""
        return 2 if self.has(STATISTICS) else -1

    def awaits(self, queue: Queue) -> bool:
        """The buffer of statistics stays until somebody asks."""
        return queue.index != self._statistics_queue or bool(self._rounds)

    def serve(self, queue: Queue, ring: Ring) -> None:
        """Statistics when they were asked for; everything else at once."""
        if queue.index != self._statistics_queue:
            super().serve(queue, ring)
            return
        while self._rounds and (chain := ring.pop()) is not None:
            content = b"".join(part(chain.readable, 0, 2 * len(NAMES) * _STATISTIC_SIZE))
            whole = content[: len(content) // _STATISTIC_SIZE * _STATISTIC_SIZE]
            told = dict(struct.iter_unpack(self.order + _STATISTIC, whole))
            ring.push(chain, 0)
            with self._answered:
                self._statistics = {name: told[tag] for tag, name in enumerate(NAMES) if tag in told}
                self._rounds -= 1
                self._answered.notify_all()

    def handle(self, queue: Queue, chain: Chain) -> int:
        """Pages into the balloon, or reported as free; those taken out need nothing."""
        if queue.index == _INFLATE:
            length = sum(map(len, chain.readable))
            if length % 4 or length > 4 * MOST_PAGES:
                raise RingError(f"{length} bytes of page numbers")
            frames = sorted(frame for (frame,) in struct.iter_unpack(self.order + "I", b"".join(chain.readable)))
            self._give_back((first * PAGE, count * PAGE) for first, count in _runs(frames))
        elif queue.index != _DEFLATE:
            self._give_back(chain.written_places)
        return 0

    def _give_back(self, places: Iterable[tuple[int, int]]) -> None:
        for pa, length in places:
            try:
                self.services.memory.space.discard(pa, length)
                self.given_back += length
            except BusError:
                raise RingError(f"pages at 0x{pa:x} are not in RAM") from None
            except OSError as error:
                if not self._failed:
                    self._failed = True
                    self.services.warn(f"{self.name}: the host does not take pages back ({error.strerror})")


def _runs(frames: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted page numbers as first pages and counts of what lies in a row."""
    first = count = 0
    for frame in frames:
        if count and frame == first + count:
            count += 1
        elif not count or frame >= first + count:
            if count:
                yield first, count
            first, count = frame, 1
    if count:
        yield first, count


class VirtioBalloonPci(VirtioPci):
    """The memory balloon on PCI."""

    model = "virtio-balloon-pci"
    summary = "lets the host take RAM back from the guest"
    options_type = BalloonOptions
    class_code = 0x00FF00

    def __init__(self, name: str, options: Any, services: Services) -> None:
        self.balloon = VirtioBalloon(name, services, options)
        super().__init__(name, options, services, self.balloon)
