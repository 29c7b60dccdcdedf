"""Long-running jobs as pages see them: progress and result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Literal

from edgelora.board.link.transport import Interrupted

from .error_messages import is_bug, trouble_of

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
log = logging.getLogger(__name__)


class Cancelled(Exception):
    """The job was cancelled. Work may raise it at any point where stopping is safe."""


class Job:
    """A job, done by another thread. Any thread may read it. It outlives the page that started it.

    state: see `JobState`. done, total, text: its progress; total 0 if unknown. error: a message
    for users; remedy: what to do, or "". result: what the work returned.
    """

    def __init__(
        self,
        name: str,
        exclusive: bool = True,
        wanted: Callable[[], bool] = lambda: False,
        changed: Callable[[], None] = lambda: None,
        unwanted: Callable[[], None] = lambda: None,
    ) -> None:
        """wanted: whether other jobs wait for the board; changed: called after each change, on the thread that made it;
        unwanted: called when it is cancelled."""
        self.name, self.exclusive = name, exclusive
        self.state: JobState = "queued"
        self.done = self.total = 0
        self.text = self.error = self.remedy = ""
        self.result: Any = None
        self._wanted, self._changed, self._unwanted = wanted, changed, unwanted
        self._cancelled = threading.Event()
        self._ended = threading.Event()

    def progress(self, done: int, total: int, text: str) -> None:
        """Reports progress; fits `Progress`. Raises `Cancelled` if the job was cancelled."""
        self.done, self.total, self.text = done, total, text
        self._changed()
        if self.cancelled:
            raise Cancelled

    def tell(self, text: str) -> None:
        """Reports the current step, where there is nothing to count."""
        self.text = text
        self._changed()

    @property
    def share(self) -> float | None:
        """The completed share of the work, 0 to 1; None if unknown."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled. Long work checks this often."""
        return self._cancelled.is_set()

    @property
    def wanted(self) -> bool:
        """Whether other jobs wait for the board: work that is not exclusive then returns, and is called again later."""
        return self._wanted()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def cancel(self) -> None:
        """Requests cancellation."""
        self._cancelled.set()
        self._unwanted()
        self._changed()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for its end; returns whether it has ended."""
        return self._ended.wait(seconds)

    def run(
        self,
        work: Callable[[], Any],
        forgiven: tuple[type[Exception], ...] = (),
        gave_way: Callable[[], bool] = lambda: False,
    ) -> Exception | None:
        """Does the work on this thread and records the outcome. Returns the error that ended it, if any.

        It is queued again after forgiven errors, and after yielding to other jobs.
        """
        if self.cancelled:
            self.end("cancelled")
            return None
        self.state = "running"
        self._changed()
        try:
            self.result = work()
        except Cancelled:
            self.end("cancelled")
        except Exception as error:
            if isinstance(error, forgiven) and not self.cancelled:
                self._again()
            elif isinstance(error, Interrupted) and self.cancelled:
                self.end("cancelled")
            else:
                self.fail(error)
            return error
        else:
            if gave_way() and not self.cancelled:
                self._again()
            else:
                self.end("cancelled" if self.cancelled and self.result is None else "done")
        return None

    def fail(self, error: Exception) -> None:
        """Records an error, and logs bugs."""
        if is_bug(error):
            log.exception("%s", self.name, exc_info=error)
        trouble = trouble_of(error)
        self.error, self.remedy = trouble.what, trouble.remedy
        self.end("failed")

    def end(self, state: JobState) -> None:
        self.state = state
        self._changed()
        self._ended.set()

    def _again(self) -> None:
        self.state = "queued"
        self._changed()
