#!/usr/bin/env python3
"""Counts the lines of each room that bear tokens, against tools/budget.toml; exits with 1 where one is above: size.py

A line bears a token if anything is on it besides blanks, comments and, in Python, docstrings; in prose and data, any
line that is not blank does. A file counts for the room with the longest path that it lies in. Files of bytes count
nothing.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import token
import tokenize
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUDGET = "tools/budget.toml"
OTHERS = "."  # the room of files outside all others
SLASHES = {".c", ".h", ".S", ".cpp", ".ino", ".js", ".mjs", ".css", ".ld"}
PROSE = {".md", ".txt", ".svg", ".json", ".tsv", ".diff", ".lock", ".html"}
REMARK = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|/\*.*?\*/|//[^\n]*""", re.DOTALL)
BLANK = {token.COMMENT, token.NL, token.NEWLINE, token.INDENT, token.DEDENT, token.ENDMARKER}


def bearing(name: str, text: str) -> int:
    """The lines of a file that bear tokens."""
    suffix = Path(name).suffix
    if suffix in (".py", ".pyi"):
        return _of_python(text)
    if suffix in SLASHES:
        text = REMARK.sub(lambda found: found[1] or "\n" * found[0].count("\n"), text)
    elif suffix not in PROSE:
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return sum(1 for line in text.splitlines() if line.strip())


def _of_python(text: str) -> int:
    lines: set[int] = set()
    begins = True  # whether a statement begins here; a string that is one is a docstring
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type != token.NL]
    for one, after in zip(tokens, tokens[1:], strict=False):
        alone = begins and one.type == token.STRING and after.type == token.NEWLINE
        if one.type not in BLANK and not alone:
            lines.update(range(one.start[0], one.end[0] + 1))
        if one.type != token.COMMENT:
            begins = one.type in (token.NEWLINE, token.INDENT, token.DEDENT)
    return len(lines)


def sizes(rooms: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Token-bearing and all lines of each room, of the files that git knows."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    bear, whole = Counter[str](), Counter[str]()
    for name in names:
        room = max((one for one in rooms if name.startswith(f"{one}/")), key=len, default=OTHERS)
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content:
            text = content.decode()
            bear[room] += bearing(name, text)
            whole[room] += len(text.splitlines())
    return bear, whole


def main() -> int:
    budget: dict[str, int] = tomllib.loads((ROOT / BUDGET).read_text())["lines"]
    bear, whole = sizes([*budget])
    print(f"{'room':28}{'tokens on':>10}{'budget':>9}{'lines':>9}")
    for room, most in budget.items():
        above = f"  {bear[room] - most} above: delete some, or raise it in {BUDGET}" if bear[room] > most else ""
        print(f"{room:28}{bear[room]:10,}{most:9,}{whole[room]:9,}{above}")
    print(f"{'all':28}{bear.total():10,}{sum(budget.values()):9,}{whole.total():9,}")
    return any(bear[room] > most for room, most in budget.items())


if __name__ == "__main__":
    sys.exit(main())
