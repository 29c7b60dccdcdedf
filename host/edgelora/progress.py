"""How far work has come: one signature for all that takes long."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # done, total, what: of what is done, in words for people


def untold(done: int, total: int, what: str) -> None:
    """The progress that nobody asked for."""
