"""A virtual board's place in the world: what every kind of board needs, and how others find it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import signal
import sys
import tempfile
import time
import tty
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import EdgeloraError

POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.2  # a MicroPython that lives this long has started
STOP_SECONDS = 5.0


class SimError(EdgeloraError, RuntimeError):
    """A virtual board could not be started, or is not there."""


@dataclass(frozen=True)
class SimHandle:
    """A running virtual board: its serial port, the folder firmware is copied to, and its process."""

    board: str
    port: str
    drive: str
    pid: int
    state_dir: str

    @property
    def running(self) -> bool:
        """True while the board's process lives."""
        entry = entry_of(Path(self.state_dir))
        return entry.exists() and is_held(entry)

    def stop(self) -> None:
        """Unplugs the board, giving its process the chance to clean up."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Cuts the power: whatever a flash command had not finished is lost."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while self.running:
            with contextlib.suppress(ProcessLookupError):
                send(self.pid, how if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.01)
        entry_of(Path(self.state_dir)).unlink(missing_ok=True)


def send(pid: int, how: signal.Signals) -> None:
    """Signals a board's process; SIGKILL also what it has started, which is all in its process group."""
    if how == signal.SIGKILL and os.getpgid(pid) == pid:
        os.killpg(pid, how)
    else:
        os.kill(pid, how)


def registry() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "edgelora" if base else Path(tempfile.gettempdir()) / f"edgelora-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def entry_of(state_dir: Path) -> Path:
    return registry() / f"{hashlib.sha256(str(state_dir).encode()).hexdigest()[:16]}.json"


def is_held(entry: Path) -> bool:
    """A board's process keeps its entry locked for as long as it lives."""
    try:
        with open(entry) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


# ---- the board's own process ----


class Ended(Exception):
    """The board was asked to stop, or its owner is gone."""


class Session:
    """The board's place in the world: terminal, registry entry, owner."""

    def __init__(self, board: str, state_dir: Path, parent: int | None) -> None:
        self._parent = parent
        self._stop_asked = False
        self._announced = False
        self._path = entry_of(state_dir)
        self._entry = open(self._path, "a+")  # noqa: SIM115  stays open, and locked, for as long as the process lives
        try:
            fcntl.flock(self._entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SimError(f"a virtual board already runs on {state_dir}; stop it, or use another folder") from None
        self.terminal = Terminal(state_dir / "port")
        self._handle = SimHandle(board, str(state_dir / "port"), str(state_dir / "drive"), os.getpid(), str(state_dir))
        signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_terminate(self, _signal: int, _frame: object) -> None:
        self._stop_asked = True

    def announce(self) -> None:
        """Tells the world, once, that the board is up."""
        if self._announced:
            return
        self._announced = True
        line = json.dumps(asdict(self._handle))
        self._entry.truncate(0)
        self._entry.write(line)
        self._entry.flush()
        if self._parent is None or os.getppid() == self._parent:
            print(line, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def check(self) -> None:
        """Raises `Ended` when the board has to stop."""
        if self._stop_asked or self._parent is not None and os.getppid() != self._parent:
            raise Ended

    def close(self) -> None:
        """Leaves nothing behind but the state that a board keeps without power."""
        Path(self._handle.port).unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)


class Terminal:
    """The board's end of its serial port. Both ends stay open, so clients come and go without a hangup."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self.fd, self._client = pty.openpty()
        self._publish()

    def attach(self, name: str) -> None:
        """Takes a pseudo-terminal that an emulator has made, instead of its own."""
        self._client = os.open(name, os.O_RDWR | os.O_NOCTTY)
        self._publish()

    def _publish(self) -> None:
        tty.setraw(self._client)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(os.ttyname(self._client))


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
