"""Firmware onto a board."""

from .rp2 import INFO_NAME, board_id, volumes
from .write import flash

__all__ = ["INFO_NAME", "board_id", "flash", "volumes"]
