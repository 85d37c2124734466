"""Waiting for a machine, and having those return who wait."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import TYPE_CHECKING

from ..console.recorder import Recorder
from .hooks import Hooks
from .looking import Looking
from .outcome import Outcome

if TYPE_CHECKING:
    from .counting import Counting
    from .lockstep import Lockstep


class Waiting(Looking):
    """How whoever waits for a `Machine` hears of its end, of errors, and that it was stopped."""

    console: Recorder
    hooks: Hooks
    run_stopped: bool
    _ended: threading.Condition
    _holding: threading.RLock
    _outcome: Outcome | None
    _failure: BaseException | None
    counting: Counting | Lockstep

    @abstractmethod
    def hold(self) -> None:
        """Stop every vCPU between two instructions."""

    @abstractmethod
    def _failed(self, error: BaseException) -> None:
        """Have whoever waits get an error."""

    def give_up(self, error: BaseException) -> None:
        """Have whoever waits for the machine, now or later, get an error instead."""
        self._failed(error)

    def _check_wait(self) -> bool:
        """Whether the machine has ended; raises what keeps one from waiting for it, or a hook or a thread raised."""
        self.hooks.refuse("waiting for the machine")
        self.hooks.raise_error()
        if self._failure is not None:
            raise self._failure
        return self._outcome is not None

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait for the machine to end; None when `timeout` host seconds pass first, or it was stopped (`stop_run`).

        Raises HookError with what a hook raised; the machine is held then.
        """
        self._check_wait()
        with self._ended:
            self._ended.wait_for(
                lambda: self._outcome is not None or self._failure is not None or self.run_stopped, timeout
            )
        self._check_wait()
        return self._outcome

    def stop_run(self) -> None:
        """Hold the machine and have `run` and `wait` return; for any thread, those of hooks as well."""
        with self._ended:
            self.run_stopped = True
            self._ended.notify_all()
        if not self.counting.active:  # else the calling thread is the one that runs, and looks itself
            if self._holding.acquire(blocking=False):
                try:
                    self._hold_stopped()
                finally:
                    self._holding.release()
            else:  # somebody holds the machine just now, and may wait for this very vCPU's exit to be answered
                threading.Thread(target=self._hold_stopped, name="machine-stop", daemon=True).start()
        self.console.wake()

    def _hold_stopped(self) -> None:
        with self._holding:
            if self.run_stopped:  # else whoever waited has returned, and the next run has begun
                self.hold()
