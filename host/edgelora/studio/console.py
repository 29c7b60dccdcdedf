"""What a board's programs print, and what is typed there: its REPL. No pages in here.

While it is open nobody else has the board's port; it gives way to whatever else the board is asked. What a board prints
is untrusted: it is kept as text that shows as itself, of a bounded size.
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
MOST_WAITING = 100  # lines that were typed and not sent yet
LOOK_SECONDS = 0.05
CTRL_C, CTRL_D = b"\x03", b"\x04"


class Console:
    """The console of a device. Any thread may call it; its job's thread has the port."""

    def __init__(self) -> None:
        self.version = 0  # rises when something was printed
        self.job: Job | None = None
        self._lines: deque[str] = deque([""], maxlen=MOST_LINES)
        self._typed: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()

    def open(self, device: Device, submit: Callable[[str, Callable[[str, Job], object]], Job]) -> None:
        """Begins to listen. submit: has work done that gets the port and its job. InputError where there is none."""
        if device.board and load_board(device.board).port == "unix":
            raise InputError("this virtual board has no console", remedy="take a virtual Pico, or a real board")
        self.close()
        self._typed.clear()
        self.job = submit("console", self.serve)

    def close(self) -> None:
        """Lets go of the port."""
        if self.job:
            self.job.cancel()

    @property
    def is_open(self) -> bool:
        return self.job is not None and not self.job.ended

    @property
    def text(self) -> str:
        """What came last, line by line."""
        with self._lock:
            return "\n".join(self._lines)

    def type(self, line: str) -> None:
        """Sends a line. InputError for one that is too long, or has other characters than one can type."""
        if len(line) > MOST_TYPED or not line.isprintable():
            raise InputError(f"give at most {MOST_TYPED} characters that can be seen, on one line")
        self._typed.append(line.encode() + b"\r")

    def interrupt(self) -> None:
        """Ctrl-C: ends what runs."""
        self._typed.append(CTRL_C)

    def restart(self) -> None:
        """Ctrl-C, then Ctrl-D: MicroPython begins anew, with main.py."""
        self._typed.append(b"\r" + CTRL_C + CTRL_C + CTRL_D)

    # --- on the thread that has the port

    def serve(self, port: str, job: Job) -> None:
        """Reads and writes until somebody closes it, or wants the board."""
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
