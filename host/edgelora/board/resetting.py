"""Restarts a board."""

from __future__ import annotations

from . import virtual_boards
from .link.client import Link
from .link.replies import LinkError
from .link.serial_line import reset as reset_at_prompt
from .link.transport import LineLost
from .profiles import load_board


def reset(port: str, hard: bool = False) -> None:
    """Stops any program and restarts the board: only MicroPython or, if `hard`, the chip.

    Raises LinkError if the board does not answer.
    """
    board = virtual_boards.find(port)
    try:
        if board and load_board(board.board).port == "unix":
            Link.connect(port).close()  # it has no prompt: it ends with its agent, and is started again
        else:
            reset_at_prompt(port, hard)
    except LineLost as error:
        raise LinkError(str(error)) from error
