#!/usr/bin/env python3
"""Checks a release's tag, and prints what CHANGELOG.md says about its version, as the text of the release.

release.py notes TAG    fails unless TAG is v and the version of pyproject.toml, and CHANGELOG.md has its section
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Refused(Exception):
    """The tag can't be released; the message says why and what to do."""


def version(root: Path = ROOT) -> str:
    """The version in pyproject.toml, its one home."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def notes(tag: str, root: Path = ROOT) -> str:
    """The section of CHANGELOG.md for a tag such as v1.2.3. Raises Refused."""
    own = version(root)
    if tag != f"v{own}":
        raise Refused(f"the tag is {tag}, and pyproject.toml has version {own}: tag v{own}, or change it there first")
    text = (root / "CHANGELOG.md").read_text()
    found = re.search(rf"^## {re.escape(own)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not found or not found[1].strip():
        raise Refused(f"CHANGELOG.md says nothing about {own}: rename its section Unreleased to {own}")
    return found[1].strip() + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "notes":
        sys.exit(__doc__)
    try:
        print(notes(sys.argv[2]), end="")
    except Refused as refused:
        sys.exit(f"release.py: {refused}")
