"""Stopping a machine's vCPUs and its time, and letting them go on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from .life import Held, Life, Released
from .stops import MachineStops
from .waiting import Waiting


class Holding(Waiting):
    """Who holds a `Machine` is for `stops` to know; this does it."""

    stops: MachineStops
    life: Life
    _held: bool

    @abstractmethod
    def _drain(self) -> None:
        """Pass on what the guest printed until now."""

    def hold(self) -> None:
        """Stop every vCPU between two instructions, and the guest's time with them, until `release`."""
        with self._holding:
            self.stops.by_program = True
            self.stand()

    def stand(self) -> None:
        """As `hold`, for `stops`, which knows who wants it."""
        with self._holding:
            if self._hold():
                self.life.tell(Held())

    def _hold(self) -> bool:
        """False when they were held."""
        if self._held:
            return False
        self._held = True
        self.vm.pause()
        self.clock.hold()
        self.vm.stop_clock()
        self._drain()
        return True

    def release(self) -> None:
        """Let the vCPUs go on where `hold` stopped them."""
        with self._holding:
            self.run_stopped = self.stops.by_program = False
            if self._held:
                self._release()
                self.life.tell(Released())

    def _release(self) -> None:
        self._held = False
        self.vm.start_clock()
        self.clock.release()
        self.vm.resume()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """`hold`, and nobody else lets the vCPUs go on meanwhile; then they are as before."""
        with self._holding:
            before = self._held
            self._hold()
            try:
                yield
            finally:
                if not before and not self.run_stopped:
                    self._release()

    @property
    def held(self) -> bool:
        """Whether `hold` stopped the vCPUs."""
        return self._held
