"""The session of a virtual board's process: terminal, registry entry, owner, clock."""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import tty
from dataclasses import asdict
from pathlib import Path

from edgelora.board.virtual_boards import CLOCK, SimError, SimHandle, entry_of, hold

SETTLE_SECONDS = 0.2  # a MicroPython that lives this long has started


class Ended(Exception):
    """The board was asked to stop, or its owner is gone."""


class Session:
    """A virtual board's terminal, registry entry and owner."""

    def __init__(self, board: str, state_dir: Path, parent: int | None) -> None:
        self._parent = parent
        self._stop_asked = False
        self._announced = False
        self._path = entry_of(state_dir)
        try:  # open, and locked, while the process lives
            self._entry = os.fdopen(hold(self._path), "a+")
        except BlockingIOError:
            raise SimError(f"a virtual board already runs on {state_dir}; stop it, or use another folder") from None
        except OSError as error:
            raise SimError(f"cannot register the board: {error}") from None
        self.terminal = Terminal(state_dir / "port")
        self._handle = SimHandle(board, str(state_dir / "port"), str(state_dir / "drive"), os.getpid(), str(state_dir))
        self._clock = os.open(state_dir / CLOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        kept = os.pread(self._clock, 8, 0)
        self._time = struct.unpack("<d", kept)[0] if len(kept) == 8 else 0.0
        signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self._stop_asked = True

    def announce(self) -> None:
        """Announces, once, that the board is up."""
        if self._announced:
            return
        self._announced = True
        line = json.dumps(asdict(self._handle))
        self._entry.write(line)
        self._entry.flush()
        if self._parent is None or os.getppid() == self._parent:
            print(line, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def check(self, passed: float) -> None:
        """Publishes the board's time, `passed` seconds. Raises `Ended` if the board must stop."""
        self._time += passed
        os.pwrite(self._clock, struct.pack("<d", self._time), 0)
        if self._stop_asked or self._parent is not None and os.getppid() != self._parent:
            raise Ended

    def close(self) -> None:
        """Removes everything except the state that a board keeps without power."""
        Path(self._handle.port).unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


class Terminal:
    """The board's end of its serial port. Both ends stay open, so clients come and go without a hangup."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self.fd, self._client = pty.openpty()
        self._publish()

    def attach(self, name: str) -> None:
        """Uses an emulator's pseudo-terminal instead of its own."""
        self._client = os.open(name, os.O_RDWR | os.O_NOCTTY)
        self._publish()

    def put_back(self, data: bytes) -> None:
        """Returns data to the input, behind newer data."""
        os.write(self._client, data)

    def _publish(self) -> None:
        tty.setraw(self._client)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(os.ttyname(self._client))
