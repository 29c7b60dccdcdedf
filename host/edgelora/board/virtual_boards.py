"""The registry of running virtual boards, and their clocks. Empty on systems other than Unix.

The registry is a folder that only its owner may enter. Files of other users are not trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.files import is_private

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
SUPPORTED = fcntl is not None  # whether this system supports virtual boards
STOP_SECONDS = 5.0
HOLD_SECONDS = 1.0  # for readers of an entry to finish
CLOCK = "clock"  # in a board's state folder: f64, seconds on the board's clock


class SimError(EdgeloraError, RuntimeError):
    """A virtual board could not be started, or does not exist."""


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
        return is_held(entry_of(Path(self.state_dir)))

    def belongs_to(self, folder: Path) -> bool:
        """Whether its state is in `folder`, or somewhere below."""
        return Path(self.state_dir).is_relative_to(folder.resolve())

    def stop(self) -> None:
        """Unplugs the board; its process can clean up."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Cuts the power: unfinished flash commands are lost."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while self.running:
            with contextlib.suppress(ProcessLookupError):
                send(self.pid, how if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.01)
        _forget(entry_of(Path(self.state_dir)))


def send(pid: int, how: signal.Signals) -> None:
    """Signals a board's process; SIGKILL also its children, as they are in its process group."""
    if how == signal.SIGKILL and os.getpgid(pid) == pid:
        os.killpg(pid, how)
    else:
        os.kill(pid, how)


def registry() -> Path:
    """The folder with an entry for each running board. Raises `SimError` unless it is private to this user."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and _is_safe_parent(Path(base)):
        path = Path(base) / "edgelora"
    else:
        path = Path(tempfile.gettempdir()) / f"edgelora-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not is_private(path):
        raise SimError(
            f"{path} lists virtual boards, but is not a private folder of yours: remove it, or "
            f"`chmod 700` it if it is yours, or set XDG_RUNTIME_DIR to a folder of your own"
        )
    return path


def _is_safe_parent(folder: Path) -> bool:
    """Whether no other user can replace a folder in `folder`."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def entry_of(state_dir: Path) -> Path:
    return registry() / f"{hashlib.sha256(str(state_dir).encode()).hexdigest()[:16]}.json"


def open_entry(path: Path, flags: int) -> int:
    """A descriptor of an entry. Raises OSError unless it is a regular file of this user."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(f"{path} is not a regular file of yours: remove it")
    return descriptor


def hold(entry: Path) -> int:
    """Locks an entry for this process and clears a dead board's text; returns its descriptor, which holds the lock.

    Only the owner of the lock removes an entry, and only the current file: two boards never own one entry,
    and no board loses its own. Raises BlockingIOError if another board has it, OSError as `open_entry`.
    """
    deadline = time.monotonic() + HOLD_SECONDS
    while True:
        descriptor = open_entry(entry, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, entry):
                os.ftruncate(descriptor, 0)
                return descriptor
            os.close(descriptor)  # it was removed meanwhile
        except BlockingIOError:  # a reader, or another board, has it
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _forget(entry: Path) -> None:
    """Removes a dead board's entry, unless another board has it by now, and the link to its port.

    Another board may get the same pseudo-terminal: the old link must not lead to it.
    """
    with contextlib.suppress(OSError), open(open_entry(entry, os.O_RDONLY)) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(file.fileno(), entry):
            handle = _handle(file.read())
            if handle and os.path.islink(handle.port):
                os.unlink(handle.port)
            entry.unlink()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether this open file is the one at that path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def is_held(entry: Path) -> bool:
    """Whether a live process has the entry locked."""
    try:
        return _read(entry) is not None
    except OSError:
        return False


def _read(entry: Path) -> str | None:
    """The entry of a running board, "" while it starts; None if the board is gone. OSError: see `open_entry`."""
    with open(open_entry(entry, os.O_RDONLY)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


def running() -> list[SimHandle]:
    """All virtual boards of this user; entries of boards that died are removed."""
    if not SUPPORTED:
        return []
    found = []
    for entry in sorted(registry().glob("*.json")):
        try:
            text = _read(entry)
        except OSError:
            continue  # not ours, or already gone
        if text is None:
            _forget(entry)
        elif handle := _handle(text):
            found.append(handle)
    return found


def _handle(text: str) -> SimHandle | None:
    """The board described by an entry; None while it starts, or if the entry is invalid."""
    with contextlib.suppress(ValueError, TypeError):
        handle = SimHandle(**json.loads(text))
        texts = (handle.board, handle.port, handle.drive, handle.state_dir)
        return handle if isinstance(handle.pid, int) and all(isinstance(one, str) for one in texts) else None
    return None


def find(port: str | Path) -> SimHandle | None:
    """The virtual board whose port or drive this is."""
    if not SUPPORTED or "://" in str(port):
        return None
    path = os.path.realpath(port)
    return next((b for b in running() if path in (os.path.realpath(b.port), os.path.realpath(b.drive))), None)


class BoardClock:
    """A virtual board's clock in seconds, written by its process. Never goes back, also over restarts."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / CLOCK
        self._last, self._moved = 0.0, time.monotonic()

    def __call__(self) -> float:
        try:
            (now,) = struct.unpack("<d", self._path.read_bytes())
        except (OSError, struct.error):
            now = self._last  # the board has not started, or its folder was removed
        if now > self._last:
            self._last, self._moved = now, time.monotonic()
        return self._last

    @property
    def stood(self) -> float:
        """Real seconds since it last advanced."""
        return time.monotonic() - self._moved


def clock_of(port: str | Path) -> BoardClock | None:
    """The clock of the virtual board at a port; None for others."""
    try:
        board = find(port)
    except SimError:
        return None  # the registry is not private, so it is not trusted
    return BoardClock(Path(board.state_dir)) if board else None
