"""A board learns its owner's words as they are typed: `edgelora demo keyboard`, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fresh import FULL, slow
from processes import result
from typed import drawn_text, language_base, misleading_text

from edgelora.board.link.client import Link
from edgelora.board.link.replies import WordsReply
from edgelora.board.sim import virtual_board
from edgelora.cli import demo_keyboard as demo
from edgelora.cli.exit_codes import ExitCode
from edgelora.cli.main import main
from edgelora.learn.training import words

NEEDS_MINUTES = pytest.mark.skipif(not FULL, reason="takes minutes: make test-all")


OWNERS = {"ronald_reagan": 7, "john_f_kennedy": 8}


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small base, and drawn texts in place of the authors'."""
    monkeypatch.setattr(words, "language_base", language_base)
    monkeypatch.setattr(demo, "author_text", lambda name: (drawn_text(16384, 2, OWNERS[name]), drawn_text(4000, 3, 7)))


@slow
def test_a_board_learns_what_is_typed(tmp_path: Path) -> None:
    """On a desktop board: adapters and suggestions equal the twin's, also after a reset, and the page shows them."""
    report, page = demo.demo_keyboard("unix", *OWNERS, 16384, tmp_path, quiet=True)
    assert report.host_twin_identical and report.kept_over_reset and report.activated
    assert [amount.characters for amount in report.amounts] == [0, 2048, 4096, 8192, 16384]
    assert report.after.own["bits"] < report.before.own["bits"]
    assert report.after.float_lora["bits"] < report.before.float_lora["bits"]
    assert any(one.owner != one.other for one in report.switched)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report.as_json()))
    shown = page.read_text()
    assert f"{report.after.own['bits']:.3f}" in shown and "Kept over a reset: yes" in shown
    assert (tmp_path / "adapter.ela").read_bytes()


@pytest.mark.parametrize(
    ("method", "changed", "difference"),
    [
        ("words_type", {"suggested": []}, "suggestions after 512 characters"),
        ("words_go", {"losses": [9999]}, "the training loss after 192 characters"),
    ],
)
def test_a_board_that_differs_from_its_twin(
    method: str,
    changed: dict[str, list[int]],
    difference: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is said what differs first, also before any adapter is in use; figures are said to be the twin's."""
    ask: Callable[..., WordsReply] = getattr(Link, method)

    def differing(link: Link, *args: object, **settings: object) -> WordsReply:
        reply = ask(link, *args, **settings)
        return replace(reply, **{key: value for key, value in changed.items() if getattr(reply, key)})

    monkeypatch.setattr(Link, method, differing)
    command = ["demo", "keyboard", "--board", "unix", "--characters", "4096", "-o", str(tmp_path)]
    assert main(command) == ExitCode.DIFFERS
    out, err = capsys.readouterr()
    assert f"host twin identical: NO: they differ in {difference}\n" in out
    assert "the host twin's: install this version's firmware" in err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["difference"] == difference and not report["host_twin_identical"] and not report["activated"]
    shown = (tmp_path / "report.html").read_text()
    assert "characters, host twin" in shown and "characters, board" not in shown


def test_an_owner_without_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a text that teaches nothing: nothing is said to be kept, and no adapter of an earlier run is left."""
    (tmp_path / "adapter.ela").write_bytes(b"of an earlier run")
    command = ["demo", "keyboard", "--board", "unix", "--characters", "4096", "-o", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "author_text", lambda name: (misleading_text(16384, 0), drawn_text(4000, 3, 0)))
        assert main(command) == ExitCode.NOT_ACTIVATED
    out, err = capsys.readouterr()
    assert "adapter kept over a reset: there is none\n" in out and "host twin identical: yes\n" in out
    assert "give more text with --characters" in err
    report, shown = json.loads((tmp_path / "report.json").read_text()), (tmp_path / "report.html").read_text()
    assert report["kept_over_reset"] is None and not report["adapter_bytes"] and not report["other_learned"]
    assert "Kept over a reset" not in shown and "Words of the later text" not in shown
    assert "John F Kennedy (the base alone)" in shown
    assert not (tmp_path / "adapter.ela").exists()


def test_two_authors_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["demo", "keyboard", "--board", "unix", "--owner", "john_f_kennedy", "-o", str(tmp_path / "out")]
    assert main(command) == ExitCode.FAILED
    assert "both john_f_kennedy: give two authors" in capsys.readouterr().err and not (tmp_path / "out").exists()


@slow
def test_a_board_that_has_an_earlier_run(tmp_path: Path) -> None:
    """It begins with the base alone. A board without the base gets it."""
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        base = language_base()[1]
        with Link.connect(board.port) as link:
            assert demo._put(link, base, True) == base.paths[1] and link.holds(base.paths[1], base.elm)
            assert demo._put(link, base, True) == base.paths[1]
        for run in ("first", "second"):
            report, _ = demo.demo_keyboard("unix", *OWNERS, 8192, tmp_path / run, board.port, quiet=True)
            assert report.activated and report.host_twin_identical and report.kept_over_reset, run
    finally:
        board.stop()


@NEEDS_MINUTES
def test_the_demo_on_the_emulated_pico(tmp_path: Path) -> None:
    told = result("demo", "keyboard", "-o", tmp_path)
    assert told["host_twin_identical"] and told["kept_over_reset"] and told["activated"]
    assert told["amounts"][-1]["own"]["bits"] < told["amounts"][0]["own"]["bits"]
