"""Boards by name."""

from __future__ import annotations

from powervisor.boards.board import Board, nearest
from powervisor.boards.ppce500 import PPCE500
from powervisor.errors import UserError, argument

BOARDS = {board.name: board for board in (PPCE500,)}
DEFAULT = PPCE500.name


def names() -> list[str]:
    """All board names."""
    return list(BOARDS)


def get(name: str) -> Board:
    """The board `name`. Raises UserError with the nearest names."""
    if name not in BOARDS:
        raise UserError(f"{argument('board')} {name}: no such board; there is {nearest(name, BOARDS)}")
    return BOARDS[name]
