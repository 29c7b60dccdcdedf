"""Common parts of flashing: the error, and waiting for a restarting board."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgelora.base.errors import EdgeloraError
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.link.transport import Clock, Deadline, LineLost

POLL_SECONDS = 0.1
ERASE_WORST_SECONDS = 0.4  # of a sector of 4 KB: W25Q16JV data sheet, 9.6
FIRST_BOOT_ERASES = 66  # sectors: the adapter store's 64, and two that begin a file system
USB_SECONDS = 10.0  # for a computer to notice a board, or that it has left
RESTART_SECONDS = FIRST_BOOT_ERASES * ERASE_WORST_SECONDS + USB_SECONDS
REAL_TIMES = 30  # real time is limited to this multiple, for boards with their own clock
PROMPT_SECONDS = 0.5


class FlashError(EdgeloraError, RuntimeError):
    """Flashing failed; the message says what to do."""


def wait_for_repl(port: str, failure: str, clock: Clock | None = None) -> None:
    """Returns when MicroPython's prompt answers on `port`; raises `FlashError(failure)` if it does not."""

    def answers() -> bool:
        try:
            line = SerialLine(port)
        except LineLost:
            return False
        try:
            line.write(b"\r\x03\x02")  # leaves an open raw REPL
            said, deadline = b"", Deadline(line.clock, PROMPT_SECONDS, REAL_TIMES * PROMPT_SECONDS)
            while b">>>" not in said and deadline.left:
                said = said[-4096:] + line.read(4096, deadline.look)
            return b">>>" in said
        except LineLost:
            return False
        finally:
            line.close()

    wait_until(answers, RESTART_SECONDS, failure, clock)


def wait_until(condition: Callable[[], bool], timeout: float, failure: str, clock: Clock | None = None) -> None:
    """Polls until the condition holds; raises `FlashError(failure)` after `timeout` seconds (on `clock`)."""
    deadline = Deadline(clock or time.monotonic, timeout, REAL_TIMES * timeout)
    while not condition():
        if not deadline.left:
            raise FlashError(failure)
        time.sleep(POLL_SECONDS)
