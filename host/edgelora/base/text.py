"""Sanitizing text from boards, files and servers."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Converts a value to JSON types: NumPy scalars, paths and tuples to theirs, NaN and infinities to null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if type(value).__module__ == "numpy":  # NumPy is not imported for this: commands must start fast
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def notebook_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A small HTML table of names and values for a notebook; all values are escaped."""
    lines = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption><tbody>{lines}</tbody></table>"


def printable(text: object) -> str:
    """`text` on one line, with an escape such as \\x1b or \\u202e for each unprintable character.

    So it can't move the cursor, change colors, end the line or reverse what follows it.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def printable_lines(text: object) -> str:
    """The same, but keeps line ends: for messages that quote untrusted text."""
    return "\n".join(map(printable, str(text).split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
