"""How far a run of the benchmark has come: a bar on a terminal, a line per step elsewhere. All on standard error."""

import sys
from types import TracebackType
from typing import Any


class Progress:
    """Units of work done out of `total`, and what is being done."""

    def __init__(self, total: int) -> None:
        self._done, self._total, self._step = 0, total, ""
        self._display: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Display

            self._display = Display(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), console=Console(stderr=True), redirect_stdout=False,
            )  # fmt: skip
            self._task = self._display.add_task("", total=self._total)
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def step(self, what: str) -> None:
        """Begin something."""
        self._step = what
        if self._display is None:
            print(f"[{self._done}/{self._total}] {what}", file=sys.stderr, flush=True)
        else:
            self._display.update(self._task, description=what)

    def advance(self, what: str = "") -> None:
        """A unit is done; `what` it was."""
        self._done += 1
        if self._display is not None:
            self._display.update(
                self._task, completed=self._done, description=f"{self._step}: {what}" if what else self._step
            )
