"""A board's REPL: output of its programs, and input. No pages in here.

An open console owns the board's port and yields to any job. A board's output
is untrusted: it is kept as printable text of a bounded size.
"""

from __future__ import annotations

import codecs
import threading
from collections import deque
from collections.abc import Callable

from edgelora.base.errors import InputError
from edgelora.base.text import printable
from edgelora.board.devices import Device
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.profiles import load_board

from .job import Job

MOST_LINES = 300
MOST_LINE = 400  # characters
MOST_TYPED = 1000
MOST_WAITING = 100  # typed lines that are not sent yet
LOOK_SECONDS = 0.05
CTRL_C, CTRL_D = b"\x03", b"\x04"


class Console:
    """The console of a device. Any thread may call it; its job's thread owns the port."""

    def __init__(self) -> None:
        self.version = 0  # rises with new output
        self.job: Job | None = None
        self._lines: deque[str] = deque([""], maxlen=MOST_LINES)
        self._typed: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()

    def open(self, device: Device, submit: Callable[[str, Callable[[str, Job], object]], Job]) -> None:
        """Opens the console. submit: queues work that gets port and job. InputError if the device has no console."""
        if device.board and load_board(device.board).port == "unix":
            raise InputError("this virtual board has no console", remedy="use a virtual Pico or a real board")
        self.close()
        self._typed.clear()
        self.job = submit("console", self.serve)

    def close(self) -> None:
        """Releases the port."""
        if self.job:
            self.job.cancel()

    @property
    def is_open(self) -> bool:
        return self.job is not None and not self.job.ended

    @property
    def text(self) -> str:
        """The latest output, line by line."""
        with self._lock:
            return "\n".join(self._lines)

    def type(self, line: str) -> None:
        """Sends a line. InputError if it is too long or has unprintable characters."""
        if len(line) > MOST_TYPED or not line.isprintable():
            raise InputError(f"give at most {MOST_TYPED} printable characters on one line")
        self._typed.append(line.encode() + b"\r")

    def interrupt(self) -> None:
        """Sends Ctrl-C, which interrupts the running program."""
        self._typed.append(CTRL_C)

    def restart(self) -> None:
        """Sends Ctrl-C, then Ctrl-D: a soft reset, which runs main.py."""
        self._typed.append(b"\r" + CTRL_C + CTRL_C + CTRL_D)

    # --- on the thread that owns the port

    def serve(self, port: str, job: Job) -> None:
        """Reads and writes until the console is closed, or another job needs the board."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        line = SerialLine(port)
        try:
            while not job.cancelled and not job.wanted:
                if came := line.read(4096, LOOK_SECONDS):
                    self._print(decoder.decode(came))
                while self._typed:
                    line.write(self._typed.popleft())
        finally:
            line.close()

    def _print(self, text: str) -> None:
        parts = text.replace("\r\n", "\n").replace("\r", "").split("\n")
        with self._lock:
            self._lines[-1] = (self._lines[-1] + printable(parts[0]))[:MOST_LINE]
            self._lines.extend(printable(part)[:MOST_LINE] for part in parts[1:])
            self.version += 1
