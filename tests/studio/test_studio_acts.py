"""The maker's path ends with a board that acts on its own after a reset, with only its sensor connected."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import LEARN_MS
from fresh import in_full_runs
from playwright.sync_api import Page, expect
from studio_pages import card, choose, go
from studio_projects import FIRST, PERSON, collect

from edgelora.base.errors import InputError
from edgelora.board import virtual_boards
from edgelora.board.sim import virtual_board
from edgelora.board.sim.world import driven_pins, set_world
from edgelora.learn.streaming.main_program import Act
from edgelora.model.datasets import har
from edgelora.studio.actions import Acts
from edgelora.studio.project import Project

GESTURES = ("circle", "wave", "shake")
BOARD, PIN = "virtual-pico-1", 15
STILL_SECONDS = 20  # on the board's clock, by which a class must have been recognized


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Motion of a person after the recorded samples, in g and rad/s; and of a sensor that lies still."""
    folder = tmp_path_factory.mktemp("motion")
    data = har._load_watch(har.HAR_SUBJECTS)[0]
    for label, name in enumerate(GESTURES, FIRST):
        units = max((r.samples for r in data if (r.subject, r.label) == (PERSON, label)), key=len) * har.HAR_UNITS
        np.savetxt(folder / f"{name}.csv", units[len(units) * 2 // 5 :], "%.5f", ",")
    np.savetxt(folder / "still.csv", np.tile([0.1, 0.2, 0.97, 0, 0, 0], (50, 1)), "%.5f", ",")
    return folder


def became(state: Path, level: int, steady: bool = False) -> bool:
    """Whether the pin reaches a level within STILL_SECONDS on the board's clock; steady: and has it at the end."""
    clock = virtual_boards.BoardClock(state)
    begin, seen = clock(), False
    while clock() < begin + STILL_SECONDS:
        seen = driven_pins(state).get(PIN) == level
        if seen and not steady:
            return True
        assert clock.stood < 60, "the board stands still"
        time.sleep(0.05)
    return seen


@pytest.mark.parametrize("damaged", ["", "[]", '{"acts": 3, "vote": [], "nothing": 0}', '{"acts": [[], {"label": 1}]}'])
def test_actions_are_kept_in_the_project(tmp_path: Path, damaged: str) -> None:
    """Choices survive a restart; a damaged file is ignored."""
    project = Project(tmp_path)
    (tmp_path / "actions.json").write_text(damaged)
    assert Acts(project).acts == () and Acts(project).vote == "2/3"
    acts = Acts(project)
    acts.add(Act("wave", "hold", "15"))
    acts.add(Act("nothing", "print", "", "still"))
    acts.set_vote("1/1")
    acts.set_nothing(False)
    again = Acts(project)
    assert again.acts == acts.acts and again.vote == "1/1" and not again.nothing
    for act in (Act("", "hold", "15"), Act("wave", "hold", "x"), Act("wave", "fly")):
        with pytest.raises(InputError):
            again.add(act)
    again.remove(Act("wave", "hold", "15"))
    assert [act.label for act in Acts(project).acts] == ["nothing"]
    edited = (tmp_path / "actions.json").read_text().replace('"print"', '"exec"')
    (tmp_path / "actions.json").write_text(edited)
    assert Acts(project).acts == ()


def test_a_virtual_board_is_no_keyboard(tmp_path: Path) -> None:
    """The emulator has no USB keyboard, so nothing is saved."""
    acts = Acts(Project(tmp_path))
    acts.add(Act("wave", "key", "space"))
    with pytest.raises(InputError, match="can't be a keyboard"):
        acts.start(SimpleNamespace(state=SimpleNamespace(is_virtual=True)))


@in_full_runs("minutes; test_put_on_board.py and test_board_acts.py have boards that act")
def test_from_samples_to_a_board_that_acts(
    studios: Callable[..., Any], pages: Callable[..., Page], motion: Path, tmp_path: Path
) -> None:
    collect(tmp_path / "project", dict.fromkeys(GESTURES, 12))
    studio = studios("project")
    page = pages(studio)
    press = lambda name: page.get_by_role("button", name=name, exact=True).click()  # noqa: E731
    press("Start a virtual board")
    card(page, BOARD).get_by_text("ready").wait_for()
    state = tmp_path / "project/boards" / BOARD
    go(page, "Learn")
    press("Learn")
    page.get_by_role("button", name="Keep", exact=True).click(timeout=LEARN_MS)
    page.get_by_text("Kept.").wait_for()

    go(page, "Act")
    choose(page, "When it sees", "wave")
    press("Add action")
    page.get_by_role("button", name="Remove: wave, pin 15 high while it is seen").wait_for()
    set_world(state, motion / "still.csv", [])
    press("Save to the board and start")
    alone = card(page, "Runs on its own")
    alone.wait_for()
    expect(alone.get_by_role("status", name="Pins")).to_have_text("pin 15 low")
    told = page.get_by_text(re.compile(r"at rest: 0 of \d+"))
    assert told.is_visible()
    page.get_by_text("The program").click()
    page.get_by_text("'wave': [Hold(15)],").wait_for()

    assert became(state, 0, steady=True), "a sensor that lies still is nothing"
    set_world(state, motion / "wave.csv", [])
    assert became(state, 1)
    expect(alone.get_by_role("status", name="Pins")).to_have_text("pin 15 high")
    set_world(state, motion / "circle.csv", [])
    assert became(state, 0)
    assert studio.stop() == 130

    board = virtual_board.start("virtual-pico", None, state, die_with_parent=True)  # powered, without a host
    try:
        set_world(state, motion / "wave.csv", [])
        assert became(state, 1)
        set_world(state, motion / "still.csv", [])
        assert became(state, 0)
    finally:
        board.stop()
