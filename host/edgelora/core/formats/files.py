"""Writing files atomically, and reading them within limits."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

from edgelora.base.errors import FileError

SECRET = 0o600  # mode of private files
# Limits in bytes of a file's unpacked content, checked before unpacking, whatever the file's own size.
MAX_ARRAYS_BYTES = 1 << 30  # of all arrays of a `.npz`
MAX_RECORDING_BYTES = 1 << 28  # of a recording of any kind, and of files dropped into the studio


def write_atomic(path: str | os.PathLike[str], data: bytes, mode: int | None = None) -> None:
    """Writes a file atomically: the old content stays until the new one is on the disk. Raises OSError.

    A new file's mode follows the umask, a replaced file keeps its mode; mode: either gets this mode
    from the start. A symbolic link is replaced itself, its target is unchanged. Anything but a regular file (a
    device, a folder) is refused.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    create = 0o666 if mode is None else mode
    with contextlib.suppress(FileNotFoundError):
        there = os.lstat(path)
        if stat.S_ISREG(there.st_mode):
            mode = mode if mode is not None else stat.S_IMODE(there.st_mode) & 0o777
        elif not stat.S_ISLNK(there.st_mode):
            raise FileError(f"{path} is not a regular file", remedy="give the name of a file")
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(8)}"
    try:
        _create(temporary, data, create, mode)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(path), None  # no other process knows the temporary file
        raise
    _sync_folder(path.parent)


def private_folder(path: Path) -> Path:
    """Makes a folder, or an existing one, private to this user; its path. FileError if others can still enter it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        path.chmod(0o700)
    if not is_private(path):
        raise FileError(
            f"other users of this computer can enter {path}, which will hold secrets",
            remedy="take a folder of your own, on a file system with permissions",
        )
    return path


def is_private(folder: Path) -> bool:
    """Whether a path is a folder of this user, and no other user can enter it. Not checked on Windows."""
    status = folder.lstat()
    if sys.platform == "win32":
        return stat.S_ISDIR(status.st_mode)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def read_bounded(path: str | os.PathLike[str], limit: int, follow: bool = True) -> bytes:
    """Reads a regular file of at most `limit` bytes. follow: follow symbolic links. Raises OSError."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not block
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileError(f"{path} is not a regular file", remedy="give the name of a file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FileError(f"{path} has more than {limit} bytes, too many for this kind of file")
    return data


def write_new(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes a file atomically that must not exist yet; mode: limited by the umask. Raises OSError."""
    _create(path, data, mode)
    _sync_folder(path.parent)


def _create(path: Path, data: bytes, create: int, mode: int | None = None) -> None:
    """Creates a file with `data` on the disk. create: its mode, limited by the umask; mode: exact, if given."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), create)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                os.chmod(path, mode)
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # errors of a write do not name the file
        raise


def _sync_folder(folder: Path) -> None:
    """Flushes the folder's entry to the disk, if the system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
