"""All exit codes of the command and their meaning."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of `edgelora`, as a shell sees it."""

    OK = 0
    FAILED = 1  # an error: one line gives the reason and a remedy
    USAGE = 2  # the command line is wrong
    NOT_ACTIVATED = 3  # training succeeded, but the new adapter is not better than the active one, which stays
    DIFFERS = 4  # the board's adapter differs from the host twin's: no figure of it can be trusted
    LOST = 5  # an adapter was converted and written, but lost much accuracy
    BUG = 70  # a bug in edgelora (EX_SOFTWARE)
    INTERRUPTED = 130  # Ctrl-C, 128 + SIGINT; SIGTERM and a closed terminal, too
    OUTPUT_CLOSED = 141  # standard output was closed, 128 + SIGPIPE; nothing is printed


MEANINGS = (
    "exit codes: 0 done; 1 error; 2 wrong command line; 3 trained, but not better and therefore not "
    "activated; 4 the board's adapter differs from the host twin's; 5 converted, but much accuracy "
    "was lost; 70 a bug in edgelora; 130 Ctrl-C; 141 standard output was closed"
)
