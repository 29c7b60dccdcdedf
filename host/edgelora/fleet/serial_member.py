"""A board on a serial line as a member of a fleet's rounds."""

from __future__ import annotations

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.core.twin import device
from edgelora.learn.training.board.board_run import GO_MS

from .messages import Stage

ADAPTER_PATH: str = device.module("fleet").ADAPTER  # the round's global adapter on a board
COHORT_AT = 16 + 64  # offset of `cohort`, u16, in a TASK message


class BoardMember:
    """A board behind a link, with the base of the round's adapter. samples: path of its training samples on the board.

    The caller opens the link and enrolls the board. progress: is called with trained samples a few times a second, and
    after other slow steps; if it raises, `answer` ends, and a later `answer` to the same message continues the work.
    """

    def __init__(self, link: Link, samples: str, progress: Progress = no_progress, **settings: int | None) -> None:
        self._link, self._samples, self._progress, self._settings = link, samples, progress, settings

    def answer(self, message: bytes, adapter: bytes = b"") -> bytes:
        """The board's reply. adapter: the global `.ela`, with TASK. DeviceError: the board refuses the message."""
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
    """The most neighbours that a TASK message allows, so that a board allocates for no more; 0 if it has no cohort."""
    return max(int.from_bytes(task[COHORT_AT : COHORT_AT + 2], "little") - 1, 0)
