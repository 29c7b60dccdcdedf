"""Byte streams to a board: one small interface over USB serial, UART, pseudo-terminals and sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from edgelora.base.errors import EdgeloraError

LOOK_SECONDS = 0.25  # between looks at the clock while nothing comes
Clock = Callable[[], float]


class LineLost(EdgeloraError, ConnectionError):
    """The byte stream broke: cable pulled, board reset, or port closed."""


class Interrupted(LineLost):
    """Somebody wants what goes on over this line to end."""


class Deadline:
    """Passes `seconds` from now on a clock, at the latest after `real` seconds on the wall."""

    def __init__(self, clock: Clock, seconds: float, real: float = float("inf")) -> None:
        self._clock, self._end, self._real_end = clock, clock() + seconds, time.monotonic() + real

    @property
    def left(self) -> float:
        """Seconds until then, 0 when it has passed."""
        return max(0.0, min(self._end - self._clock(), self._real_end - time.monotonic()))

    @property
    def look(self) -> float:
        """How long to wait in one go: a board's clock may be slower than the wall's, and the other way round."""
        return min(self.left, LOOK_SECONDS)


class Transport(Protocol):
    """What the link needs of a line to a board."""

    def clock(self) -> float:
        """Seconds that count for the board: its own if it is virtual. Raises LineLost when they stand still."""
        ...

    def read(self, size: int, timeout: float) -> bytes:
        """Up to `size` bytes as soon as there are any; b"" after `timeout` seconds. Raises LineLost."""
        ...

    def write(self, data: bytes) -> None:
        """Sends all of `data`. Raises LineLost, also when the board takes nothing for a while."""
        ...

    def launch(self, probe: str, source: str, statement: str) -> None:
        """Runs `statement` at the board's REPL. Raises LineLost if there is no REPL to be had.

        `probe` is run first; if it prints False, `source` is run before the statement.
        """
        ...

    def hurry(self) -> None:
        """From now on real seconds count: somebody wants to leave."""
        ...

    def close(self) -> None:
        """Releases the port; never raises."""
        ...
