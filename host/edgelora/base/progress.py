"""Progress of long work: one callback signature, and an estimate of the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # done, total, what: the step in words for users


def no_progress(done: int, total: int, what: str) -> None:
    """For callers that show no progress."""


class TimeLeft:
    """An estimate of the remaining time of the current phase, from its progress reports.

    A phase begins with its first report, and ends where `done` falls or `total` changes. Its rate ignores work before
    that report, such as that of a resumed run.
    """

    def __init__(self) -> None:
        self._since, self._first = 0.0, 0  # of the phase: time of the first report, and `done` then
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
        """The remaining time; None before two reports of the phase. Counts down between reports."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def __str__(self) -> str:
        """The time for users; "" if unknown."""
        seconds = self.seconds
        return "" if seconds is None else f"{seconds:.0f} s left"
