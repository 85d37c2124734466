"""How far a build has come: a moving bar on a terminal, a line per step elsewhere. All on standard error."""

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """Steps of one build, shown under `title`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._begin = time.monotonic()
        self._display: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Display

            self._display = Display(
                TextColumn(f"[bold]{self.title}"), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), console=Console(stderr=True),
            )  # fmt: skip
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish_step()
        if self._display is not None:
            self._display.stop()
        if kind is None:
            print(f"{self.title}: built in {time.monotonic() - self._begin:.0f} s", file=sys.stderr)

    def step(self, what: str, total: int | None = None) -> None:
        """Begin the next step, of about `total` units."""
        self._finish_step()
        if self._display is not None:
            self._task = self._display.add_task(what, total=total)
        else:
            print(f"{self.title}: {what}", file=sys.stderr, flush=True)

    def advance(self) -> None:
        """One more unit of this step is done."""
        if self._display is not None:
            self._display.advance(self._task)

    def _finish_step(self) -> None:
        if self._display is not None and self._task is not None:
            # The totals are estimates; a finished step is whole.
            done = self._display.tasks[-1].completed
            self._display.update(self._task, total=max(done, 1), completed=max(done, 1))
