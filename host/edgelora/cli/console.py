"""Terminal output: progress on standard error, results on standard output.

Commands print through this module, which removes control characters.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgelora.base.progress import Progress, TimeLeft, no_progress
from edgelora.base.streams import note, say
from edgelora.base.text import plain, printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LEAST_WIDTH = 12  # characters; no column is cut below this to fit a terminal
LINE_SECONDS = 5.0  # seconds between lines without a terminal


@contextlib.contextmanager
def progress(title: str, quiet: bool = False) -> Iterator[Progress]:
    """Yields a callback (done, total, what) that shows a progress bar on a terminal, otherwise a line now and then."""
    if quiet:
        yield no_progress
    elif sys.stderr.isatty():
        with _bar() as bar:
            left = TimeLeft()
            task = bar.add_task(title, total=None, what="", left=left)

            def show(done: int, total: int, what: str) -> None:
                left.report(done, total)
                bar.update(task, completed=done, total=total, what=printable(what))

            yield show
    else:
        with _Lines(title) as lines:
            yield lines


@contextlib.contextmanager
def step(title: str, quiet: bool = False) -> Iterator[None]:
    """Shows a step without progress of its own: on a terminal while it lasts, otherwise only if it takes long."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        with _bar(transient=True) as bar:
            bar.add_task(title, total=None, what="", left="")
            yield
    else:
        with _Lines(title):
            yield


def _bar(transient: bool = False) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[what]}", markup=False),
    )
    return Bar(*columns, console=Console(stderr=True), transient=transient)


class _Lines:
    """Prints the progress of a step every `LINE_SECONDS` and at its end, from a thread if the step reports none."""

    def __init__(self, title: str) -> None:
        self._title, self._where = title, ""
        self._left = TimeLeft()
        self._said = self._started = time.monotonic()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __call__(self, done: int, total: int, what: str) -> None:
        with self._lock:
            self._left.report(done, total)
            self._where = f" {done}/{total} {what}"
            if done == total or time.monotonic() - self._said >= LINE_SECONDS:
                self._tell()

    def _tell(self) -> None:
        self._said = time.monotonic()
        left = f", {self._left}" if str(self._left) else ""
        note(f"{self._title}:{self._where}{left} ({self._said - self._started:.0f} s)")

    def _beat(self) -> None:
        while not self._over.wait(1):
            with self._lock:
                if time.monotonic() - self._said >= LINE_SECONDS:
                    self._tell()

    def __enter__(self) -> _Lines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def emit(value: Any) -> None:
    """Prints a result as JSON."""
    say(json.dumps(plain(value), indent=1, allow_nan=False))


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Prints aligned columns, numbers to the right; on a terminal, columns are cut to its width."""
    cells = [head, *[tuple(map(printable, row)) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    if sys.stdout.isatty():
        widths = _fitting(widths, shutil.get_terminal_size().columns)
    for row in cells:
        shown = [_cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        say(
            "  ".join(
                cell.rjust(width) if _is_number(cell) else cell.ljust(width)
                for cell, width in zip(shown, widths, strict=True)
            ).rstrip()
        )


def _fitting(widths: list[int], columns: int) -> list[int]:
    """Column widths that fit a terminal: the widest are cut first, down to `LEAST_WIDTH`."""
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > columns and max(widths) > LEAST_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return widths


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _is_number(text: str) -> bool:
    return text[:1].isdigit() and text.replace(".", "").replace("%", "").strip().isdigit()


def size(count: float) -> str:
    """A number of bytes, human-readable."""
    return (
        f"{count:.0f} B"
        if count < 10_000
        else f"{count / 1024:.1f} KB"
        if count < 10 << 20
        else f"{count / (1 << 20):.1f} MB"
    )
