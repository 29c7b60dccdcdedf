"""Code blocks in README.md and docs/, and the marks before them that tell tests how to use them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgelora.base.resources import ROOT

_BLOCK = re.compile(r"(?:^<!-- (tested.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its mark and language ("" if it has none), and its text."""

    mark: str
    language: str
    text: str


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path | str, language: str | None = None, mark: str | None = None) -> list[str]:
    """The texts of a page's blocks, optionally of one language or mark. page: relative to the project's folder."""
    return [
        block.text
        for block in all_blocks(ROOT / page)
        if language in (None, block.language) and mark in (None, block.mark)
    ]


def all_blocks(page: Path) -> list[Block]:
    return [Block(mark, language, text) for mark, language, text in _BLOCK.findall(page.read_text())]
