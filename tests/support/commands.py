"""The command line in this process, and code at a board's REPL."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from edgelora.board.link.raw_repl import RawRepl
from edgelora.board.link.serial_line import SerialLine
from edgelora.board.link.transport import LineLost
from edgelora.cli.main import main


def edgelora(*args: object, code: int = 0) -> str:
    """Runs the command and asserts its exit code; its standard output or, if `code` is not 0, its standard error."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        ended = main([str(arg) for arg in args])
    assert ended == code, error.getvalue()
    return error.getvalue() if code else out.getvalue()


def result(*args: object) -> Any:
    """The command's output with --json."""
    return json.loads(edgelora(*args, "--json"))


def execute(port: str, code: str) -> str:
    """Runs code at the board's REPL; its output, stripped. The code may reset the board."""
    line = SerialLine(port)
    try:
        repl = RawRepl(line, port)
        repl.enter()
        said = repl.run(code).decode().strip()
        with contextlib.suppress(LineLost):
            repl.leave()
        return said
    finally:
        line.close()
