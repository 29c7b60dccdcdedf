"""Code, commands and documents use no word that docs/glossary.md lists under *not*."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
HELD = ("README.md", "SPEC.md", "DESIGN.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs", "host", "micropython_module")
HELD += ("benchmarks", "c_package", "tools", "firmware", "Makefile")
KINDS = (".py", ".c", ".h", ".md", ".toml", ".sh", ".html", ".js", "")


def banned() -> dict[str, str]:
    """Words of the columns *not*, with their replacements."""
    rows = [line.strip("|").split("|") for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
    return {word: row[0].strip() for row in rows for word in re.findall(r"`([^`]+)`", row[-1]) if len(row) == 3}


def found(text: str, words: dict[str, str]) -> list[str]:
    """Occurrences with their lines. Plurals and parts of identifiers count; lines of one comment are joined."""
    any_of = "|".join(re.escape(word).replace(r"\ ", r"(?:[ _]|\s*\n\s*(?://|#|\*)?\s*)") for word in words)
    pattern = rf"(?<![A-Za-z])({any_of})(?:e?s)?(?![A-Za-z])"
    return [f"{text.count(chr(10), 0, match.start()) + 1}: {match[1]!r}" for match in re.finditer(pattern, text, re.I)]


def held() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *HELD], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.splitlines()]
    return [path for path in paths if path != GLOSSARY and path.suffix in KINDS and path.is_file()]


def test_no_synonyms_of_glossary_terms() -> None:
    words = banned()
    assert len(words) > 25
    wrong = {path.relative_to(ROOT): found(path.read_text(), words) for path in held()}
    said = [f"{path}:{one}" for path, all_of in wrong.items() for one in all_of]
    assert not said, "\n".join(said)


@pytest.mark.parametrize(
    "text",
    ["a snapshot", "_SNAPSHOTS = 1", "// what it has\n// named right", '"named\n    right"', "mini-batches"],
)
def test_synonyms_are_found(text: str) -> None:
    assert found(text, banned())


def test_other_words_are_allowed() -> None:
    """Parts of words do not count, and the glossary's own words are allowed."""
    assert not found("recommended amendments snapshotting", banned())
    assert not found(" ".join(banned().values()), banned())
