"""A board at the end of a serial line, as a member of a fleet's rounds."""

from __future__ import annotations

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link

from .messages import Stage

ADAPTER_PATH = "/fleet.ela"  # of the round's global adapter on a board
COHORT_AT = 16 + 64  # in a TASK message: u16
GO_MS = 200  # of the board's time for each request: how long an exception of `progress` may take


class BoardMember:
    """A board behind a link, which has the base of the round's adapter. samples: path on it of what it learns.

    link: is the caller's, as is enrolment. progress: of a training in samples, told after each fraction of a second,
    and after the board's slow steps otherwise; an exception of it ends `answer`, which goes on with the same message.
    """

    def __init__(self, link: Link, samples: str, progress: Progress = no_progress, **settings: int | None) -> None:
        self._link, self._samples, self._progress, self._settings = link, samples, progress, settings

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        """What the board replies. adapter: the global `.ela`, with TASK. DeviceError: the board refuses the message."""
        if adapter and message[4:5] == bytes([Stage.TASK]):
            if not self._link.holds(ADAPTER_PATH, adapter):
                self._link.put(ADAPTER_PATH, adapter)
            self._link.fleet_open(self._samples, **{"neighbours": neighbours_in(message)} | self._settings)
        self._link.fleet_send(message)
        what = Stage(message[4]).name.lower() if message[4:5] else ""
        while True:
            reached = self._link.fleet_go(GO_MS)
            if reached.state == "ready":
                return self._link.fleet_reply(reached)
            self._progress(reached.samples, reached.steps, what)


def neighbours_in(task: bytes) -> int:
    """Others of a cohort by a TASK message, so that a board makes room for no more; 0 if it tells none."""
    return max(int.from_bytes(task[COHORT_AT : COHORT_AT + 2], "little") - 1, 0)
