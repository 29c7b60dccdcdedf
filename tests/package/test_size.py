"""Lines that bear tokens, as tools/size.py counts them against tools/budget.toml."""

import sys

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import size  # noqa: E402

PYTHON = '''"""Docstring.

Its second line.
"""

def f(x):  # a comment behind code
    """Docstring."""
    # comment
    return """a
    string""" + x
'''
C = """/* two
   lines */
int f(void) { // behind code

    return '"' + "/*"[0]; /* behind code */
}
"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [("a.py", PYTHON, 3), ("a.c", C, 3), ("a.sh", "# no\n\nyes # no\n", 1), ("README.md", "# Title\n\ntext\n", 2)],
)
def test_blanks_comments_and_docstrings_bear_none(name: str, text: str, lines: int) -> None:
    assert size.bearing(name, text) == lines


def test_a_room_above_its_budget_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(size, "sizes", lambda rooms: (size.Counter(dict.fromkeys(rooms, 0) | {"host": 10**6}),) * 2)
    assert size.main() == 1
    [above] = [line for line in capsys.readouterr().out.splitlines() if "above" in line]
    assert above.startswith("host ")
