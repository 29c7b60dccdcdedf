"""The hook that checks commit messages, with subjects from this repository's history."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

SCRIPT = ROOT / "tools" / "commit_message.py"
BODY = "\n\nA reason that tells why.\n"


def refusal(path: Path, message: str) -> str:
    """The hook's message; "" if it accepts the commit message."""
    path.write_text(message, encoding="utf-8")
    done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True)
    assert done.returncode == bool(done.stderr) and not done.stdout
    return done.stderr


@pytest.mark.parametrize(
    "subject",
    [
        "Format all C by clang-format at 100 columns",
        "Refuse a federation of which no round could have a sum",
        "Keep the C functions out of help(edgelora) again",
        "Don't promise to go on with an action's request that failed",
        "Pass a board's name to the virtual one",
        "Seed the shuffle of a resumed run",
        "fixup! anything, as it becomes another commit's",
    ],
)
def test_takes(subject: str, tmp_path: Path) -> None:
    assert refusal(tmp_path / "message", subject + BODY) == ""
    comments = "\n# Please enter the commit message.\n# ------------------------ >8 ------------------------\n; diff."
    assert refusal(tmp_path / "message", subject + BODY + comments) == ""


@pytest.mark.parametrize(
    ("subject", "fault"),
    [
        ("A line of the changelog", "no verb"),
        ("The demo's test begins before the others", "no verb"),
        ("Figures of fleets with the new noise", "no verb"),
        ("Keyword ranks of the new base", "no verb"),
        ("Fixed the mutator", "no verb"),
        ("Adding a loss", "no verb"),
        ("Mends the mutator", "no verb"),
        ("mend the mutator", "no verb"),
        ("bench fleet others: what fifteen other fleets learn", "no verb"),
        ("", "no verb"),
        ("Find carries without branches; run one path for all secrets", "semicolon"),
        ("Mend the fuzzers' mutator.", "full stop"),
        ("Find carries without branches where a core has none, in all of the secrets", "74 characters"),
    ],
)
def test_refuses(subject: str, fault: str, tmp_path: Path) -> None:
    said = refusal(tmp_path / "message", subject + BODY)
    assert fault in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("", "no body"),
        ("\n\n", "no body"),
        ("\n\n# only a comment\n", "no body"),
        ("\nA reason.\n\nAnother.\n", "second line"),
    ],
)
def test_asks_for_a_body_behind_a_blank_line(rest: str, fault: str, tmp_path: Path) -> None:
    said = refusal(tmp_path / "message", "Mend the fuzzers' mutator" + rest)
    assert fault in said and said.count("\n") == 1


def test_is_installed_by_pre_commit() -> None:
    assert "entry: .venv/bin/python tools/commit_message.py" in (ROOT / ".pre-commit-config.yaml").read_text()
