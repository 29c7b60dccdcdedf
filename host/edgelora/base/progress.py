"""How far work has come: one signature for all that takes long, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # done, total, what: of what is done, in words for people


def no_progress(done: int, total: int, what: str) -> None:
    """For callers that show no progress."""


class TimeLeft:
    """The time that the present phase of some work still takes, from its reports.

    A phase begins with its first report, and ends where `done` falls or `total` changes. Neither what came before that
    report nor what a resumed run had done already counts for its rate.
    """

    def __init__(self) -> None:
        self._since, self._first = 0.0, 0  # of the phase: when it was first reported, and how much was done then
        self._done, self._total = 0, -1
        self._ends: float | None = None

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < self._done or total != self._total:
            self._since, self._first = now, done
        self._done, self._total = done, total
        new = done - self._first
        self._ends = now + (now - self._since) * (total - done) / new if new > 0 else None

    @property
    def seconds(self) -> float | None:
        """None before two reports of the phase give its rate. Runs down between reports."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def __str__(self) -> str:
        """For people; "" while it is not known."""
        seconds = self.seconds
        return "" if seconds is None else f"{seconds:.0f} s left"
