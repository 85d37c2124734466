"""Boards by name."""

from __future__ import annotations

from powervisor.boards.board import Board, nearest
from powervisor.boards.hypervisor import BoardProperties, configured
from powervisor.boards.ppce500 import PPCE500
from powervisor.errors import UserError, argument
from powervisor.properties import parse

BOARDS = {board.name: board for board in (PPCE500,)}
DEFAULT = PPCE500.name


def names() -> list[str]:
    """All board names."""
    return list(BOARDS)


def get(text: str) -> Board:
    """The board of `NAME,property=value,...`. Raises UserError with the nearest names."""
    name, _, rest = text.partition(",")
    where = f"{argument('board')} {text}"
    if name not in BOARDS:
        raise UserError(f"{where}: no such board; there is {nearest(name, BOARDS)}")
    return configured(BOARDS[name], parse(BoardProperties, rest, where), where)
