"""What every way of flashing shares: its error, its progress, and waiting for a board that restarts."""

from __future__ import annotations

import time
from collections.abc import Callable

import serial

from .errors import EdgeloraError

POLL_SECONDS = 0.1
RESTART_SECONDS = 20.0

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


class FlashError(EdgeloraError, RuntimeError):
    """The firmware is not on the board; the message says what to do."""


def wait_for_repl(port: str, failure: str) -> None:
    """Returns when MicroPython's prompt answers on `port`; raises `FlashError(failure)` if it does not."""

    def answers() -> bool:
        try:
            with serial.serial_for_url(port, 115200, timeout=0.5, write_timeout=0.5) as line:
                line.write(b"\r\x03\x02")  # leaves a raw REPL that was left open
                return b">>>" in line.read_until(b">>>")
        except (OSError, serial.SerialException):
            return False

    wait_until(answers, RESTART_SECONDS, failure)


def wait_until(condition: Callable[[], bool], timeout: float, failure: str) -> None:
    """Polls until the condition holds; raises `FlashError(failure)` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise FlashError(failure)
        time.sleep(POLL_SECONDS)
