"""Restarts a board."""

from __future__ import annotations

from . import virtual_boards
from .link.client import Link
from .link.replies import LinkError
from .link.serial_line import reset as reset_at_prompt
from .link.transport import LineLost
from .profiles import load_board


def reset(port: str, hard: bool = False) -> None:
    """Ends what runs on the board and starts it again: MicroPython alone or, `hard`, the chip.

    Raises LinkError if the board does not answer.
    """
    board = virtual_boards.find(port)
    try:
        if board and load_board(board.board).port == "unix":
            Link.connect(port).close()  # without a prompt of its own: it ends with its agent, and is started again
        else:
            reset_at_prompt(port, hard)
    except LineLost as error:
        raise LinkError(str(error)) from error
