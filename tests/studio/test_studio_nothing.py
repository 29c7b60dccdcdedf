"""A window unlike any sample is "nothing" on the page as on a board; a held button records in the live view."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fresh import slow
from playwright.sync_api import Page, expect
from sensing import motion_base, put_board, session_of, waves
from studio_pages import sense
from studio_projects import PERSON, collect
from waiting import until

from edgelora.base.errors import InputError
from edgelora.learn.training.heads.known import NOTHING
from edgelora.model.datasets.har import har_takes
from edgelora.studio.actions import Acts
from edgelora.studio.board_session import BoardSession
from edgelora.studio.capture import Taker
from edgelora.studio.live import Live, Tape
from edgelora.studio.novelty import judge_of, packaged_rule
from edgelora.studio.project import Project
from edgelora.studio.samples import ENOUGH, ProjectSamples

STILL = np.tile(np.array([400, 800, 3900, 3, -2, 1], np.int16), (1000, 1))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[BoardSession]:
    with session_of(put_board(tmp_path / "desk")) as session:
        yield session


@slow
def test_a_still_sensor_is_nothing_in_the_live_view(session: BoardSession, tmp_path: Path) -> None:
    """With the user's samples, and with the base's training data; if switched off, it is a class."""
    base, live = motion_base(), session.of(Live)
    moving = np.concatenate([counts for counts, label in har_takes(PERSON, "train") if label == 0])
    collect(tmp_path / "own", dict.fromkeys(base.model.labels[:4], 99), 0)
    for folder in ("own", "empty"):
        project = Project(tmp_path / folder)
        live.judge_of = lambda base, adapter, project=project: judge_of(project, base, adapter)
        for counts, is_nothing in ((STILL, True), (moving, False)):
            name = f"{folder}, {is_nothing}"
            live.start(Tape(name, counts), base, "")
            until(lambda name=name: live.metadata.source == name and live.latest and live.latest.end >= 300)
            assert live.metadata.labels[: len(base.model.labels) + 1] == (*base.model.labels, NOTHING)
            said = [one.seen == len(base.model.labels) for one in live._said]
            assert all(said) if is_nothing else not all(said), (folder, said)
            assert all(one.p == () for one in live._said if one.seen == len(base.model.labels))
    project.of(Acts).set_nothing(False)
    until(lambda: live.metadata.labels == tuple(base.model.labels))
    until(lambda: live.latest and live.latest.seen < len(base.model.labels))
    live.stop()


def test_an_included_base_has_its_own_rule(tmp_path: Path) -> None:
    base = motion_base()
    rule = packaged_rule(base)
    assert rule and rule.classes == tuple(range(7))
    assert packaged_rule(base.renamed("motion.elm", ["a", "b"])) is None
    judge = judge_of(Project(tmp_path), base, None)
    assert judge and judge.is_nothing(STILL[:100]) and judge.labels() == (NOTHING,)
    assert judge.words.startswith("The base's training data decides what counts as nothing")
    collect(tmp_path / "own", dict.fromkeys(base.model.labels[:4], 99), 0)
    mine = judge_of(Project(tmp_path / "own"), base, None)
    assert mine and mine.labels() and re.fullmatch(r"On held-out samples: \d+ of \d+ .*\.", mine.words)
    takes = [counts for counts, _ in har_takes(PERSON, "test")]
    assert sum(judge.is_nothing(counts) for counts in takes) < len(takes) / 3


def test_a_held_button_records_consecutive_windows(tmp_path: Path) -> None:
    """A short press takes the window that ends with it, a long one takes consecutive windows; one undo removes them
    all."""
    base = motion_base()
    live, collection = Live(SimpleNamespace()), ProjectSamples(SimpleNamespace(folder=tmp_path))
    taker = Taker(live, collection)
    with pytest.raises(InputError, match="the live view is not running"):
        taker.hold()
    live._base, live._job = base, SimpleNamespace(ended=False)
    live._clear(6, 50.0, 100)
    live._tell(rate=50.0, window=100)
    samples = waves(700)
    with pytest.raises(InputError, match="no class"):
        taker.hold()
    taker.label = "wave"
    live._feed(samples[:150], 0, [])
    taker.hold()
    live._feed(samples[150:190], 0, [])
    assert taker.is_held
    taker.release()
    assert not taker.is_held and not taker.problem
    assert [collection.window(one).counts.tolist() for one in collection.samples] == [samples[90:190].tolist()]
    taker.hold()
    live._feed(samples[190:440], 0, [])
    taker.release()
    taken = [collection.window(one).counts.tolist() for one in collection.samples[1:]]
    assert taken == [samples[240:340].tolist(), samples[340:440].tolist()]
    taker.release()
    assert len(collection) == 3
    assert collection.undo() == "2 samples" and len(collection) == 1
    taker.hold()
    live._clear(6, 50.0, 100)
    with pytest.raises(InputError, match="restarted"):
        taker.release()


@slow
def test_the_page_records_while_it_classifies(
    studios: Callable[..., Any], pages: Callable[..., Page], tmp_path: Path
) -> None:
    """By mouse and by space; one click adds a class for "nothing"."""
    project = tmp_path / "project"
    put_board(project)
    ProjectSamples(SimpleNamespace(folder=project)).name_class("wave")
    page = pages(studios("project"))
    sense(page, "Live")
    button = page.get_by_role("button", name="Hold while you do it")
    page.locator(".headline-name").wait_for()
    count_of = lambda label: len(ProjectSamples(SimpleNamespace(folder=project)).of(label))  # noqa: E731
    button.hover()
    page.mouse.down()
    page.get_by_text("wave: now").wait_for()
    page.mouse.up()
    page.get_by_text("Recorded: wave: 1").wait_for()
    button.focus()
    page.keyboard.down(" ")
    page.get_by_text("wave: now").wait_for()
    page.keyboard.up(" ")
    page.get_by_text("Recorded: wave: 2").wait_for()
    assert count_of("wave") == 2
    assert page.get_by_role("checkbox", name="Say “nothing”").is_checked()
    page.get_by_role("button", name="Record “nothing”").click()
    expect(page.get_by_text(f"Recorded: nothing: {ENOUGH}")).to_be_visible(timeout=120_000)
    assert count_of(NOTHING) == ENOUGH
