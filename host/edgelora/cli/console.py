"""What a person sees: progress on standard error, results on standard output.

Commands print through here, so that no character of what they say acts on the terminal.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..progress import Progress, untold
from ..streams import note, say
from ..text import plain, printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINE_SECONDS = 10.0  # without a terminal: one line as often as this


@contextlib.contextmanager
def progress(title: str, quiet: bool = False) -> Iterator[Progress]:
    """Gives a callback (done, total, what): a bar with rate and time left on a terminal, else a line now and then."""
    if quiet:
        yield untold
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(title, total=None, what="")
            last = 0

            def show(done: int, total: int, what: str) -> None:
                nonlocal last
                if done < last:  # a new phase: its own rate
                    bar.reset(task)
                last = done
                bar.update(task, completed=done, total=total, what=printable(what))

            yield show
    else:
        yield _lines(title)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    return Bar(*columns, console=Console(stderr=True))


def _lines(title: str) -> Progress:
    started = said = time.monotonic()
    last = 0

    def say(done: int, total: int, what: str) -> None:
        nonlocal started, said, last
        now = time.monotonic()
        if done < last:  # a new phase: its own rate
            started = said
        last = done
        if done == total or now - said >= LINE_SECONDS:
            said = now
            left = (now - started) * (total - done) / max(done, 1)
            note(f"{title}: {done}/{total} {what} ({now - started:.0f} s, {left:.0f} s left)")

    return say


def emit(value: Any) -> None:
    """A result for programs."""
    say(json.dumps(plain(value), indent=1, allow_nan=False))


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Aligned columns on standard output; numbers to the right."""
    cells = [head, *[tuple(map(printable, row)) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        say(
            "  ".join(
                cell.rjust(width) if _is_number(cell) else cell.ljust(width)
                for cell, width in zip(row, widths, strict=True)
            ).rstrip()
        )


def _is_number(text: str) -> bool:
    return text[:1].isdigit() and text.replace(".", "").replace("%", "").strip().isdigit()


def size(count: float) -> str:
    """Bytes for people."""
    return (
        f"{count:.0f} B"
        if count < 10_000
        else f"{count / 1024:.1f} KB"
        if count < 10 << 20
        else f"{count / (1 << 20):.1f} MB"
    )
