"""The `edgelora` command: arguments and printing over the library.

This module imports next to nothing, so that Ctrl-C and closed streams are handled from the start. SIGTERM and a closed
terminal count as Ctrl-C in every command.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

from edgelora.base import streams
from edgelora.base.errors import EdgeloraError
from edgelora.base.streams import note

from .exit_codes import ExitCode

GC_THRESHOLD = 50_000  # objects: imports make no cycles, and collecting took a tenth of a short command
FULL = ": free some space, then repeat the command; earlier files are unchanged"


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its `ExitCode`; unless it is OK, a line on standard error gives a remedy."""
    streams.open_closed()
    gc.set_threshold(GC_THRESHOLD)
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    args = None
    try:
        with _quick_stop():
            from . import settings
            from .parser import make_parser
        try:
            with _shown_log(argv), _ended_as_interrupted():
                parser = make_parser(None if settings.exist() else argv)
                settings.apply(parser)
                args = parser.parse_args(argv)
                code = args.run(args)
        finally:
            streams.flush()
        return ExitCode.OK if code is None else code
    except KeyboardInterrupt:
        _end_workers()
        note(f"\n{getattr(args, 'stopped', 'stopped')}")
        return ExitCode.INTERRUPTED
    except streams.OutputClosed:
        return ExitCode.OUTPUT_CLOSED
    except Exception as error:
        if "--debug" in argv:
            note(traceback.format_exc().rstrip())
        return _print_error(error, "--json" in argv)


@contextlib.contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Handles SIGTERM and SIGHUP like Ctrl-C, so that jobs are stopped and boards are left usable.

    Further signals are ignored, as a shell whose terminal is closed may send two. Signals that are already ignored
    (`nohup`) stay so.
    """
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            return
        asked.append(number)
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # a shell's background job ignores Ctrl-C
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_IGN if asked else signal.SIG_DFL)


def _end_workers() -> None:
    """Ends worker processes: a terminal sends them Ctrl-C, but nobody forwards SIGTERM."""
    if jobs := sys.modules.get("multiprocessing"):
        for worker in jobs.active_children():
            worker.terminate()


class _Notes(logging.Handler):
    """Prints the package's log to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.name.removeprefix('edgelora.')}: {record.getMessage()}")


@contextlib.contextmanager
def _shown_log(argv: list[str]) -> Iterator[None]:
    """Prints the package's log and libraries' warnings with -v and --debug, and hides both otherwise."""
    level = logging.DEBUG if "--debug" in argv else logging.INFO if {"-v", "--verbose"} & set(argv) else None
    warnings.showwarning = _log_warning
    if level is None:
        yield
        return
    log, handler, before = logging.getLogger("edgelora"), _Notes(), logging.getLogger("edgelora").level
    log.setLevel(level)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Logs a library's warning; commands print what users need to know themselves."""
    where = f"{os.path.basename(filename)}:{lineno}"
    logging.getLogger("edgelora.warnings").info("%s: %s: %s", where, category.__name__, message)


def _print_error(error: Exception, as_json: bool) -> int:
    """Prints an error to standard error, as text or JSON; returns its exit code."""
    usage = getattr(error, "usage", "")
    message, code = _explained(error)
    if as_json:
        said: dict[str, Any] = {"type": type(error).__name__, "message": message}
        if remedy := getattr(error, "remedy", ""):
            said["remedy"] = remedy
        note(json.dumps({"error": said}))
    else:
        note(f"{usage}\nedgelora: {message}" if usage else f"edgelora: {message}")
    return ExitCode.USAGE if usage else code


def _explained(error: Exception) -> tuple[str, ExitCode]:
    """The message and exit code of an error: a user's, or a bug."""
    if isinstance(error, EdgeloraError):
        return str(error), ExitCode.FAILED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        what = where + (error.strerror or str(error) or type(error).__name__)
        return what + (
            FULL if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)) else ""
        ), ExitCode.FAILED
    if isinstance(error, MemoryError):
        return f"this computer doesn't have enough memory for that {error}".rstrip(), ExitCode.FAILED
    at = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(at.filename)}:{at.lineno}"
    what = f"{type(error).__name__} at {place}" + (f", {error}" if str(error) else "")
    from edgelora import __version__

    return (
        f"this is a bug in edgelora {__version__} ({what}): please report it with the command and what it prints "
        "with --debug",
        ExitCode.BUG,
    )


@contextlib.contextmanager
def _quick_stop() -> Iterator[None]:
    """Lets Ctrl-C end the process at once during imports, which need no cleanup."""

    def stop(number: int, frame: FrameType | None) -> None:
        note("\nstopped")
        os._exit(ExitCode.INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # a shell's background job, or not ours to change
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
