"""Error messages for the page. No pages in here."""

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
    """An error and its remedy, which may be ""."""

    what: str
    remedy: str


def trouble_of(error: BaseException) -> Trouble:
    """The message for any error."""
    if isinstance(error, OSError) and error.errno in FULL:
        return Trouble("the disk is full: nothing was written", "free some space, then try again")
    if isinstance(error, EdgeloraError):
        return Trouble(printable_lines(error), printable_lines(error.remedy))
    if isinstance(error, OSError):
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        return Trouble(f"{where}{printable_lines(error.strerror or error)}", "")
    return Trouble(
        printable_lines(f"this is a bug in edgelora: {type(error).__name__}: {error}"),
        "please report it with the output of the studio's terminal",
    )


def is_bug(error: BaseException | None) -> bool:
    """Whether the error is a bug of EdgeLoRA, whose traceback goes to the terminal."""
    return not isinstance(error, EdgeloraError | OSError)


class OnlyBugs(logging.Filter):
    """A log filter that drops user errors, which the page shows."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.exc_info or is_bug(record.exc_info[1])
