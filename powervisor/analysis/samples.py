"""What was counted up to moments of a machine's life, ever further apart so that a long run fits."""

from __future__ import annotations

from typing import Any

MOST = 240
"""Samples kept; when there are more, every other one goes, and they are taken half as often."""


class Samples:
    """Cumulative counts over time: a column for each, all as long as `seconds`."""

    def __init__(self) -> None:
        self.every = 1
        """Only each so manieth look becomes a sample."""
        self._looks = 0
        self.seconds: list[float] = []
        self.columns: dict[str, dict[str, list[float]]] = {}

    def due(self) -> bool:
        """Whether this look is to become a sample."""
        self._looks += 1
        return (self._looks - 1) % self.every == 0

    def add(self, seconds: float, counts: dict[str, dict[str, float]]) -> None:
        """Keep what was counted, by group and name; what was not counted before was 0."""
        before = len(self.seconds)
        self.seconds.append(round(seconds, 3))
        for group, row in counts.items():
            columns = self.columns.setdefault(group, {})
            for name in columns.keys() | row.keys():
                column = columns.setdefault(name, [0] * before)
                column.append(row.get(name, column[-1] if column else 0))
        if len(self.seconds) > MOST:
            self.every *= 2
            self.seconds = self.seconds[::2]
            for columns in self.columns.values():
                for name in columns:
                    columns[name] = columns[name][::2]

    def json(self) -> dict[str, Any]:
        """All of them."""
        groups = {
            group: {name: list(column) for name, column in columns.items()} for group, columns in self.columns.items()
        }
        return {"seconds": list(self.seconds), **groups}
