"""What went wrong, in words for a person who looks at a page. No pages in here."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass

from edgelora.base.errors import EdgeloraError
from edgelora.base.text import printable, printable_lines

log = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Trouble:
    """What is wrong, and what to do, or ""."""

    what: str
    remedy: str


def trouble_of(error: BaseException) -> Trouble:
    """Words for any error."""
    if isinstance(error, OSError) and error.errno in FULL:
        return Trouble("the disk is full: nothing was written", "make room on it, then do it again")
    if isinstance(error, EdgeloraError):
        return Trouble(printable_lines(error), printable_lines(error.remedy))
    if isinstance(error, OSError):
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        return Trouble(f"{where}{printable_lines(error.strerror or error)}", "")
    return Trouble(
        printable_lines(f"this is a bug in edgelora: {type(error).__name__}: {error}"),
        "please report it with what the terminal of the studio says",
    )


def is_bug(error: BaseException | None) -> bool:
    """Whether only a change of EdgeLoRA can fix it: the terminal shows where it happened."""
    return not isinstance(error, EdgeloraError | OSError)


class OnlyBugs(logging.Filter):
    """Keeps errors that a person can fix, which the page shows, out of the terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.exc_info or is_bug(record.exc_info[1])
