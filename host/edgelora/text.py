"""Text from boards, files and servers, made fit for a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """`text` on one line, with an escape such as \\x1b or \\u202e for each character that would not show as itself.

    So it can't move the cursor, change colours, end the line or reverse what follows it.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def printable_lines(text: object) -> str:
    """The same, but lines stay lines: for texts of this program that hold others'."""
    return "\n".join(map(printable, str(text).split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
