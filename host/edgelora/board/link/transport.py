"""Byte streams to a board: one small interface over USB serial, UART, pseudo-terminals and sockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from edgelora.base.errors import EdgeloraError

LOOK_SECONDS = 0.25  # between checks of the clock while no data comes
Clock = Callable[[], float]


class LineLost(EdgeloraError, ConnectionError):
    """The byte stream broke: cable pulled, board reset, or port closed."""


class Interrupted(LineLost):
    """The exchange over this line was interrupted on request."""


class Stuck(LineLost):
    """The board accepts no data."""


class Deadline:
    """A deadline `seconds` from now on a clock, at the latest after `real` seconds of real time."""

    def __init__(self, clock: Clock, seconds: float, real: float = float("inf")) -> None:
        self._clock, self._end, self._real_end = clock, clock() + seconds, time.monotonic() + real

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0 when it has passed."""
        return max(0.0, min(self._end - self._clock(), self._real_end - time.monotonic()))

    @property
    def look(self) -> float:
        """How long to wait at once: a board's clock may be slower or faster than real time."""
        return min(self.left, LOOK_SECONDS)


class Transport(Protocol):
    """The interface of a line to a board."""

    def clock(self) -> float:
        """The clock for timeouts in seconds: a virtual board's own. Raises LineLost if it stops."""
        ...

    def read(self, size: int, timeout: float) -> bytes:
        """Up to `size` bytes as soon as any are available; b"" after `timeout` seconds. Raises LineLost."""
        ...

    def write(self, data: bytes) -> None:
        """Sends all of `data`. Raises LineLost, also if the board accepts nothing for a while."""
        ...

    def launch(self, probe: str, source: str, statement: str) -> None:
        """Runs `statement` at the board's REPL. Raises LineLost if the REPL can't be reached.

        `probe` is run first; if it prints False, `source` is run before the statement.
        """
        ...

    def hurry(self) -> None:
        """Switches timeouts to real time, for leaving."""
        ...

    def close(self) -> None:
        """Releases the port; never raises."""
        ...
