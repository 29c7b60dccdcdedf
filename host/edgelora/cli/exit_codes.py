"""What the command's exit codes mean: all of them, here alone."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of `edgelora`, as a shell sees it."""

    OK = 0
    FAILED = 1  # what was asked for can't be done: one line says why, and what to do
    USAGE = 2  # the command line is wrong
    NOT_ACTIVATED = 3  # it learned, but what it learned is not better than what was in use, which stays
    DIFFERS = 4  # the board made another adapter than its host twin: nothing that either says of it can be relied on
    LOST = 5  # an adapter was brought over and written, but much of its accuracy was lost
    BUG = 70  # something that nobody foresaw: a bug of edgelora (EX_SOFTWARE)
    INTERRUPTED = 130  # Ctrl-C, 128 + SIGINT; SIGTERM and a closed terminal, too
    OUTPUT_CLOSED = 141  # nobody reads standard output any more, 128 + SIGPIPE; nothing is printed


MEANINGS = (
    "exit codes: 0 done; 1 can't be done, and why; 2 wrong command line; 3 learned, but no better and "
    "so not activated; 4 the board's adapter differs from the host twin's; "
    "5 brought over, but much of its accuracy was lost; 70 a bug of edgelora; 130 Ctrl-C; "
    "141 standard output was closed"
)
