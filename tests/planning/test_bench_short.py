"""Every `edgelora bench` runs, in its short form, and measures something."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import result
from fresh import in_full_runs

from benchmarks import attention, silicon
from edgelora.board.profiles import load_board
from edgelora.board.romfs import make_romfs
from edgelora.cli.parser import make_parser

GROUPS = make_parser(["bench"]).commands
assert GROUPS and (COMMANDS := GROUPS.choices["bench"].commands)
USUAL = ("silicon", "swap", "host", "link")  # in seconds
later = in_full_runs("benchmarks that train, or take many seconds")
BENCHES = [pytest.param(name, marks=() if name in USUAL else later) for name in COMMANDS.choices]


@pytest.mark.parametrize("name", BENCHES)
def test_bench_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where results of an earlier run are kept."""
    monkeypatch.setattr(attention, "CACHE", tmp_path)
    assert result("bench", name, "--short")


def test_networks_fill_as_many_flashes_as_they_need() -> None:
    """Those of one seed, and the program, were once larger than a Pico's flash."""
    flash = load_board(silicon.BOARD).flash
    assert flash
    sizes = {"a": 0.6, "b": 0.3, "c": 0.3, "d": 0.9, "e": 0.05}
    networks = {name: {f"{name}.elm": bytes(int(share * flash.romfs_bytes))} for name, share in sizes.items()}
    found = list(silicon._flashfuls(networks))
    assert [list(files) for files in found] == [["a.elm", "b.elm"], ["c.elm"], ["d.elm", "e.elm"]]
    assert all(len(make_romfs(files)) <= flash.romfs_bytes for files in found)
