"""The parts of `make test-all`: every folder is one, and those run whose files are not what they passed with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import parts  # noqa: E402

OWN_COMMANDS = {"release"}  # `make release-check`


def test_every_folder_of_tests_is_a_part() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert {*parts.PARTS} == folders - OWN_COMMANDS
    named = {file for part in parts.PARTS.values() for file in part.files}
    assert not [file for file in named if not (ROOT / file).exists()]


def test_what_changed_and_fits_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in ("a", "b", "c"):
        (tmp_path / "tests" / name).mkdir(parents=True)
        (tmp_path / "tests" / name / "test_it.py").write_text("")
    (tmp_path / "shared.py").write_text("")
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    monkeypatch.setattr(parts, "PARTS", {"a": parts.Part(()), "b": parts.Part(("shared.py",)), "c": parts.Part(())})
    passed = {name: {"files": parts.hash_of(name), "seconds": 90} for name in ("a", "b", "c")}
    assert parts.changed(passed, 5) == []
    (tmp_path / "shared.py").write_text("changed")
    assert parts.changed(passed, 5) == ["b"]
    (tmp_path / "tests" / "a" / "new.py").write_text("")  # not added yet
    assert parts.changed(passed, 2) == ["a"]
    assert "b: changed since it passed, but takes 90 s: not run" in capsys.readouterr().out
    assert parts.changed({}, 10) == []
    assert "c: never passed" in capsys.readouterr().out
