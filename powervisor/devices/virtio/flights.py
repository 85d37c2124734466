"""Requests that storage works on while the queue goes on: begun by the worker, ended on any thread, given back by the
worker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from powervisor.block.backend import Concurrent, Job
from powervisor.devices.virtio.queue import Queue
from powervisor.devices.virtio.ring import Chain, Ring

PATIENCE_SECONDS = 30
"""A reset does not wait longer for storage that does not answer."""


class Flight(NamedTuple):
    """A request on its way: the jobs that are left, and what becomes of it; `ended` answers the bytes written."""

    queue: Queue
    chain: Chain
    jobs: list[Job]
    ended: Callable[[OSError | None], int]


class Flights:
    """All requests that `storage` works on. Everything but what it calls back is done by one thread at a time."""

    def __init__(self, storage: Concurrent, ring: Callable[[Queue], None]) -> None:
        self._storage, self._ring = storage, ring
        self._landed: deque[tuple[Flight, OSError | None]] = deque()
        self._flying = 0
        self._changed = threading.Condition()

    def begin(self, flight: Flight) -> None:
        """Begin the next job; its queue is rung when that is done."""
        with self._changed:
            self._flying += 1

        def done(error: OSError | None) -> None:
            with self._changed:
                self._flying -= 1
                self._landed.append((flight, error))
                self._changed.notify_all()
            self._ring(flight.queue)

        self._storage.begin(flight.jobs.pop(0), done)

    def land(self, queue: Queue | None, ring: Ring | None) -> None:
        """Go on with what is done: to its next job, or back into the ring. Of `queue`, or of all queues."""
        for _ in range(len(self._landed)):
            flight, error = self._landed.popleft()
            if queue is not None and flight.queue is not queue:
                self._landed.append((flight, error))
            elif flight.jobs and error is None:
                self.begin(flight)
            elif (target := ring or flight.queue.ring) is not None:
                target.push(flight.chain, flight.ended(error))

    def finish(self, queues: Iterable[Queue]) -> None:
        """Wait until storage has done with guest memory, and give everything back."""
        while True:
            with self._changed:
                if not self._landed and self._flying and not self._changed.wait(PATIENCE_SECONDS):
                    self._storage.abandon(f"no answer for {PATIENCE_SECONDS} seconds")
                if not self._landed and not self._flying:
                    break
            self.land(None, None)
        for queue in queues:
            if queue.ring is not None:
                queue.owes_interrupt |= queue.ring.publish()
