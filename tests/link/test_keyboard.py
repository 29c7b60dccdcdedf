"""A board learns its owner's words as they are typed: `edgelora demo keyboard`, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fresh import FULL
from processes import result
from typed import drawn_text, language_base

from edgelora.cli import demo_keyboard as demo
from edgelora.learn.training import words

NEEDS_MINUTES = pytest.mark.skipif(not FULL, reason="takes minutes: make test-all")


def test_a_board_learns_what_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a desktop board: adapters and suggestions equal the twin's, also after a reset, and the page shows them."""
    owners = {"ronald_reagan": 7, "john_f_kennedy": 8}
    monkeypatch.setattr(words, "language_base", language_base)
    monkeypatch.setattr(demo, "author_text", lambda name: (drawn_text(16384, 2, owners[name]), drawn_text(4000, 3, 7)))
    report, page = demo.demo_keyboard("unix", *owners, 16384, tmp_path, quiet=True)
    assert report.host_twin_identical and report.kept_over_reset and report.activated
    assert [amount.characters for amount in report.amounts] == [0, 2048, 4096, 8192, 16384]
    assert report.after.own["bits"] < report.before.own["bits"]
    assert report.after.float_lora["bits"] < report.before.float_lora["bits"]
    assert any(one.owner != one.other for one in report.switched)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report.as_json()))
    shown = page.read_text()
    assert f"{report.after.own['bits']:.3f}" in shown and "Kept over a reset: yes" in shown
    assert (tmp_path / "adapter.ela").read_bytes()


@NEEDS_MINUTES
def test_the_demo_on_the_emulated_pico(tmp_path: Path) -> None:
    told = result("demo", "keyboard", "-o", tmp_path)
    assert told["host_twin_identical"] and told["kept_over_reset"] and told["activated"]
    assert told["amounts"][-1]["own"]["bits"] < told["amounts"][0]["own"]["bits"]
