"""Blocks of code in README.md and docs/, and the marks before them that say what tests do with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgelora.base.resources import ROOT

_BLOCK = re.compile(r"(?:^<!-- (tested.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its mark ("" if it has none), its language ("" if it is none), its text."""

    mark: str
    language: str
    text: str


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path | str, language: str | None = None, mark: str | None = None) -> list[str]:
    """The texts of a page's blocks (a path from the project's folder), of a language or with a mark."""
    return [
        block.text
        for block in all_blocks(ROOT / page)
        if language in (None, block.language) and mark in (None, block.mark)
    ]


def all_blocks(page: Path) -> list[Block]:
    return [Block(mark, language, text) for mark, language, text in _BLOCK.findall(page.read_text())]
