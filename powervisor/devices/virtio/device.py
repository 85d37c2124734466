"""A virtio device without its transport: features, status, queues, and the thread that serves them.

A device type is a subclass: its number, its own features, its configuration, and what it does with a chain.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from powervisor.devices.device import Device, state
from powervisor.devices.services import Services
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import Chain, Ring, RingError
from powervisor.memory.space import Dma


class Status:
    """Bits of the device status field. Plain numbers: an IntFlag's operators take a microsecond each."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    FAILED = 128


class Feature:
    """Features that are no device type's own."""

    INDIRECT = 1 << 28
    EVENT_INDEX = 1 << 29
    VERSION_1 = 1 << 32
    ACCESS_PLATFORM = 1 << 33
    PACKED = 1 << 34


LEGACY_FEATURES = 0xFFFF_FFFF
MOST_COMPLAINTS = 10
"""A guest that breaks its rings on purpose fills nobody's log."""


class Transport(Protocol):
    """How the device reaches the driver. Interrupts are asked for under the machine's lock."""

    def memory(self) -> Dma | None:
        """Memory as the rings address it; None while the driver lets nothing through."""

    def queue_interrupt(self, queue: Queue) -> None:
        """Chains of `queue` were used."""

    def configuration_interrupt(self) -> None:
        """Status or configuration changed."""


class VirtioDevice(Device, ABC):
    """Base of all device types. `queue_sizes` are the most entries each queue may have."""

    kind: ClassVar[int]
    """The device type's number."""
    size = 0

    driver_status: int = state(int)
    """What the driver wrote last."""
    broken: bool = state(bool)
    """The driver broke the rules: nothing goes on before a reset."""
    features: int = state(int)
    """Those the driver accepted."""
    owes_interrupt: bool = state(bool)
    """The driver has not heard yet that the status changed."""
    generation: int = state(int, keep=True)
    """Changes with the configuration."""

    def __init__(self, name: str, services: Services, queue_sizes: tuple[int, ...], features: int) -> None:
        self.services = services
        self.offered = features
        self.queues = [Queue(index, size) for index, size in enumerate(queue_sizes)]
        self.transport: Transport | None = None
        self._busy = threading.RLock()  # rings and guest memory are in use; taken after the machine's lock
        self._complaints = 0
        self._bell = services.worker()(name, self._work)
        super().__init__(name)

    # -- what a device type says

    def configuration(self, order: str) -> bytes:
        """The device-specific configuration; `order` is struct's sign of the byte order the driver expects."""
        return b""

    def configure(self, offset: int, data: bytes) -> None:
        """The driver wrote configuration bytes."""

    @abstractmethod
    def serve(self, queue: Queue, ring: Ring) -> None:
        """Take chains that are available, and give them back; on the worker's thread. Raises RingError."""

    def awaits(self, queue: Queue) -> bool:
        """Whether the driver should notify when it makes more available; asked after `serve`."""
        return True

    def finish(self) -> None:
        """Wait for chains that are worked on elsewhere, and give them back; called while nobody serves."""

    # -- what the transport does

    def has(self, feature: int) -> bool:
        """Whether the driver accepted `feature`."""
        return bool(self.features & feature)

    @property
    def legacy(self) -> bool:
        """Whether the driver is of the time before virtio 1.0, or has not said yet."""
        return not self.has(Feature.VERSION_1)

    @property
    def order(self) -> str:
        """Byte order of requests, for struct: the guest's own, or little-endian since 1.0."""
        return ">" if self.legacy else "<"

    @property
    def status(self) -> int:
        """The device status field."""
        return self.driver_status | (Status.NEEDS_RESET if self.broken else 0)

    def accept(self, features: int, mask: int) -> None:
        """The driver accepts those `features` that are in `mask`; what was not offered stays out."""
        if not self.status & (Status.FEATURES_OK | Status.DRIVER_OK):
            self.features = self.features & ~mask | features & mask & self.offered

    def set_status(self, value: int, modern: bool) -> None:
        """The driver writes the status; 0 resets."""
        if not value:
            self.reset()
            return
        if modern and value & Status.FEATURES_OK and not self.has(Feature.VERSION_1):
            value &= ~Status.FEATURES_OK
        began = value & ~self.status & Status.DRIVER_OK
        self.driver_status = value & ~Status.NEEDS_RESET
        if began:
            for queue in self.queues:
                self.notify(queue.index)

    def notify(self, index: int) -> None:
        """The driver notifies a queue; what does not exist or is not enabled has nothing to say."""
        if index < len(self.queues) and self.queues[index].enabled:
            self.queues[index].rung = True
            self._bell.ring()

    def refuse(self, why: str) -> None:
        """What the driver did in registers breaks the rules: nothing goes on before a reset."""
        with self._busy:
            if self.broken:
                return
            self._break(why)
            self.owes_interrupt = False
        if self.transport:
            self.transport.configuration_interrupt()

    def stop(self, queue: Queue) -> None:
        """The driver takes a queue out of use. Waits until the worker has done with it."""
        with self._busy:
            self.finish()
            queue.rung = False
            queue.reset()

    def reset(self) -> None:
        """Forget the driver. Waits until the worker has done with guest memory."""
        with self._busy:
            self.finish()
            for queue in self.queues:
                queue.rung = False
                queue.reset()
            super().reset()

    def close(self) -> None:
        """End the worker; let go of guest memory."""
        self._bell.close()
        with self._busy:
            self.finish()
            for queue in self.queues:
                queue.ring = None

    # -- saving

    @contextmanager
    def still(self) -> Iterator[None]:
        """The worker has done with guest memory, and waits."""
        with self._busy:
            self.finish()
            yield

    def save(self) -> dict[str, Any]:
        """All state by name, with chains given back that the worker has; under the machine's lock."""
        with self._busy:
            self.finish()
            return {**super().save(), "queues": [queue.save() for queue in self.queues]}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state `save` returned. Raises ValueError for what this device does not have."""
        queues = saved.get("queues", [])
        if len(queues) > len(self.queues):
            raise ValueError(f"{self.name}: saved state has {len(queues)} queues, not {len(self.queues)}")
        for queue, values in zip(self.queues, queues, strict=False):
            queue.check(values)
        with self._busy:
            self.finish()
            super().restore({name: value for name, value in saved.items() if name != "queues"})
            for queue in self.queues:
                queue.reset()
            for queue, values in zip(self.queues, queues, strict=False):
                queue.restore(values)
        if self.status & Status.DRIVER_OK:
            for queue in self.queues:
                self.notify(queue.index)

    # -- the worker

    def _work(self) -> None:
        # Serving one queue may be work for another, an earlier one too.
        while waiting := [queue for queue in self.queues if queue.rung or queue.owes_interrupt]:
            for queue in waiting:
                with self._busy:
                    queue.rung = False
                    self._batch(queue)
                if queue.owes_interrupt or self.owes_interrupt:
                    with self.services.lock:
                        self._interrupt(queue)

    def _interrupt(self, queue: Queue) -> None:
        """Send what is owed, unless the driver has reset the device meanwhile."""
        owed, queue.owes_interrupt = queue.owes_interrupt, False
        if owed and self.transport:
            self.transport.queue_interrupt(queue)
        owed, self.owes_interrupt = self.owes_interrupt, False
        if owed and self.transport:
            self.transport.configuration_interrupt()

    def _batch(self, queue: Queue) -> None:
        """Serve what is available now, and note whether the driver wants an interrupt."""
        ready = self.legacy or self.driver_status & Status.DRIVER_OK
        dma = self.transport.memory() if self.transport else None
        if not queue.enabled or not ready or self.broken or dma is None:
            return
        try:
            ring = queue.ring or self._open(queue, dma)
            ring.disable_notifications()
            try:
                self.serve(queue, ring)
            finally:
                queue.owes_interrupt |= ring.publish()
            if self.awaits(queue) and ring.enable_notifications():
                queue.rung = True
        except RingError as error:
            self._break(f"queue {queue.index}: {error}")

    def _open(self, queue: Queue, dma: Dma) -> Ring:
        indirect, event_index = self.has(Feature.INDIRECT), self.has(Feature.EVENT_INDEX)
        return queue.open(dma, self.has(Feature.PACKED), self.legacy, event_index, indirect)

    def _break(self, why: str) -> None:
        self.broken = self.owes_interrupt = True
        self._complaints += 1
        if self._complaints <= MOST_COMPLAINTS:
            last = "; further ones are not told" if self._complaints == MOST_COMPLAINTS else ""
            self.services.warn(f"{self.name}: {why}; the guest has to reset the device{last}")


class RequestDevice(VirtioDevice):
    """A device type whose chains are requests, done one after another."""

    def serve(self, queue: Queue, ring: Ring) -> None:
        """Do all that are there."""
        while (chain := ring.pop()) is not None:
            ring.push(chain, self.handle(queue, chain))

    @abstractmethod
    def handle(self, queue: Queue, chain: Chain) -> int:
        """Do what a chain asks for; answers how many bytes were written. Raises RingError."""
