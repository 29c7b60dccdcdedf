"""Learning on the page: a user's gestures, a fourth one, a paused run, a closed page and a pulled cable."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import in_full_runs, slow, some
from playwright.sync_api import Page, expect
from processes import metric_lines, read_report
from sensing import motion_base
from studio_pages import choose, go
from studio_projects import BOARD, collect, project
from studio_user import Visitor, visit

from edgelora.board import virtual_boards
from edgelora.board.link.client import Link
from edgelora.board.link.replies import StoreState
from edgelora.board.sim import virtual_board
from edgelora.core.formats.ela import unpack_adapter
from edgelora.learn.report.metrics import Update
from edgelora.learn.training.board.board_run import RunOptions
from edgelora.learn.training.data.base import load_base
from edgelora.learn.training.judge.metrics import Measure
from edgelora.model.datasets.dataset import Dataset, save_dataset
from edgelora.studio.job import Job
from edgelora.studio.project import Project
from edgelora.studio.run import Head, StudioRun, _Paused
from edgelora.studio.runs import ProjectRuns
from edgelora.studio.samples import ProjectSamples

GESTURES = {"circle": 8, "wave": 8, "shake": 8}
Studios, Pages = Callable[..., Any], Callable[..., Page]  # as conftest.py has them


def learn_view(page: Page) -> Page:
    """Opens the view once the board is connected."""
    expect(page.get_by_role("combobox", name="Board")).to_have_value(re.compile(BOARD))
    go(page, "Learn")
    return page


def begin(page: Page, how_long: str) -> None:
    choose(page, "Length", re.compile(f"^{how_long}"))
    page.get_by_role("button", name="Learn", exact=True).click()


def test_two_pages_at_once(tmp_path: Path) -> None:
    """Each page shows the other's changes, and an open drop-down stays open meanwhile."""

    async def story(page: Visitor, other: Visitor) -> None:
        await page.open("/learn")
        length = await page.control("Length")
        page.tell(length, "popup-show")
        await other.open("/collect")
        await other.press("Remove wave")
        await other.see("Undo: ")
        await asyncio.sleep(1)  # in which the view would be redrawn
        assert not length.is_deleted
        page.tell(length, "popup-hide")
        await page.choose("Length", "thorough")
        await page.see("all samples are of one class")
        await other.press("Undo: class wave")
        await page.has("Length", "thorough")
        await page.see("all samples are of one class", 0)

    collect(tmp_path, {"circle": 4, "wave": 4})
    visit(tmp_path, story, visitors=2)


def test_choices_survive_a_reload(tmp_path: Path) -> None:
    """Settings of a run, a source and files before they are used; another page has them, too."""

    async def story(page: Visitor, other: Visitor) -> None:
        await page.open("/learn")
        await page.choose("Length", "thorough")
        await page.press("with this computer")
        await page.press("Choose layers by a memory budget")
        await page.see("expected gain")
        await page.open("/live")
        await page.choose("Source", "analog pins")
        await page.has("Pins", "26")  # the default
        await page.fill("Pins", "27, 28")
        await page.choose("Network", "none, show")
        await page.open("/collect")
        await page.choose("Their class", "wave")
        for seen in (page, other):
            await seen.open("/collect")
            await seen.has("Their class", "wave")
            await seen.open("/live")
            await seen.has("Source", "analog pins")
            await seen.has("Pins", "27, 28")
            await seen.has("Network", "none, show")
            await seen.open("/learn")
            await seen.has("Length", "thorough")
            await seen.has("with this computer", "with this computer")
            await seen.see("expected gain")

    visit(project(tmp_path / "project", {"circle": 4, "wave": 4}), story, visitors=2)


def test_own_gestures(studios: Studios, pages: Pages, tmp_path: Path) -> None:
    """Three within a budget, kept over a restart of board and studio; then a fourth, and all of them relearned."""
    folder = project(tmp_path / "project", GESTURES)
    studio = studios("project")
    page = learn_view(pages(studio))
    expect(page.get_by_text("its outputs get your class names")).to_be_visible()
    page.get_by_role("button", name="Advanced").click()
    page.get_by_role("checkbox", name="Choose layers by a memory budget").click()
    slider = page.get_by_role("slider", name="Training memory")
    most = page.get_by_text("100 % of the maximum")
    expect(most).to_be_visible()
    slider.press("Home")
    expect(page.get_by_role("alert")).to_contain_text("no adapter fits")
    slider.press("End")
    expect(most).to_be_visible()
    slider = page.get_by_role("slider", name="Adapter size")
    slider.press("Home")
    for _ in range(8):
        slider.press("ArrowRight")
    expect(most).not_to_be_visible()
    expect(page.get_by_text("% of the maximum")).to_be_visible()
    slider.press("End")
    expect(most).to_be_visible()

    begin(page, "quick")
    expect(page.get_by_text("Better on held-out samples only")).to_be_visible()
    expect(page.get_by_text("accuracy on new samples may be lower")).to_be_visible()  # held-out samples chose the epoch
    assert page.get_by_role("table").count() == 2  # confusion matrices before and after
    report = read_report(folder / "reports" / "001")
    assert report["host_twin_identical"] and report["activated"] and report["labels"][:3] == list(GESTURES)
    assert report["adapted_accuracy"] > report["base_accuracy"]
    shown = page.get_by_role("img", name="Test accuracy").get_attribute("aria-label")
    assert shown and shown.endswith(f"{report['epoch_accuracies'][-1]:.0%} now")
    page.get_by_label("Name on the board").fill("no name/")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("give 1 to 24 of")).to_be_visible()
    page.get_by_label("Name on the board").fill("mine")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("The board uses it as mine, also after a reset.")).to_be_visible()
    expect(page.get_by_role("button", name="Next: see it recognize them")).to_be_visible()
    page.get_by_role("link", name="Adapters").click()
    card = page.get_by_role("region", name="mine", exact=True)
    expect(card.get_by_text("circle, wave, shake", exact=True)).to_be_visible()
    expect(card.get_by_text(f"{report['adapted_accuracy']:.1%} accuracy on 6 test samples")).to_be_visible()
    card.get_by_role("button", name="Rename mine").click()
    page.get_by_label("New name").fill("gestures")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    card = page.get_by_role("region", name="gestures", exact=True)
    expect(card.get_by_text("circle, wave, shake", exact=True)).to_be_visible()  # the run's name is kept
    studio.stop()

    collect(folder, GESTURES | {"knock": 8})
    studio = studios("project")
    page = learn_view(pages(studio))
    expect(page.get_by_text("The board uses it as gestures")).to_be_visible()
    page.get_by_role("button", name="Add knock").click()
    expect(page.get_by_text("Added: knock")).to_be_visible()
    expect(page.get_by_role("button", name="Add knock again")).to_be_visible()
    page.get_by_role("button", name="Relearn everything").click()
    expect(page.get_by_text("Retrained on all samples")).to_be_visible()
    store, adapter = stored(studio, "gestures")
    assert store.active == "gestures" and [one.name for one in store.adapters] == ["gestures"]
    assert "knock" in [row.name for row in unpack_adapter(adapter).classes]
    assert store.adapters[0].base_id == load_base(folder / "bases" / "own-motion.elm").base_id


@in_full_runs("test_own_gestures adds a class and learns again")
def test_learning_again_after_a_class_was_added(studios: Studios, pages: Pages, tmp_path: Path) -> None:
    """The class is added again with the chosen length and leader; discarding it restores the previous adapter."""
    folder = project(tmp_path / "project", dict.fromkeys(("circle", "wave"), 8))
    studio = studios("project")
    page = learn_view(pages(studio))
    begin(page, "quick")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("also after a reset.")).to_be_visible()
    studio.stop()
    collect(folder, {"circle": 8, "wave": 8, "knock": 8})
    studio = studios("project")
    page = learn_view(pages(studio))
    page.get_by_role("button", name="Add knock").click()
    expect(page.get_by_role("button", name="Add knock again")).to_be_visible()
    added, _ = stored(studio)
    studio = studios("project")
    page = learn_view(pages(studio))
    page.get_by_text("Learn again").first.click()  # expands it
    page.get_by_role("radio", name="with this computer", exact=True).click()
    choose(page, "Length", re.compile("^usual"))
    page.get_by_role("button", name="Learn again", exact=True).click()
    expect(page.get_by_role("button", name="Discard")).to_be_visible(timeout=120_000)
    said = json.loads((folder / "reports" / "002" / "lesson.json").read_text())
    recipe = said["recipe"]
    assert (recipe["on_board"], recipe["base_name"], said["again"]) == (False, "own-motion.elm", ["knock"])
    assert recipe["epochs"] > 16
    if read_report(folder / "reports" / "002")["activated"]:
        assert said["added"] == ["knock"]
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("Discarded: the previous adapter was restored.").first).to_be_visible()
    store, adapter = stored(studio, added.active)
    assert store.active == added.active and "knock" in [row.name for row in unpack_adapter(adapter).classes]


def stored(studio: Any, name: str = "") -> tuple[StoreState, bytes]:
    """The content of the board's store, and one adapter or b"": stops the studio, and starts the board for this."""
    studio.stop()
    board = virtual_board.start("unix", None, studio.folder / "boards" / BOARD)
    try:
        with Link.connect(board.port) as link:
            return link.store_list(), link.store_get(name) if name else b""
    finally:
        board.stop()


@pytest.mark.parametrize(
    ("leads", "how_long", "updates"),
    some([("board", "thorough", 10), ("with this computer", "usual", 20)]),
)
@slow
def test_a_run_outlives_its_page_and_its_cable(
    studios: Studios, pages: Pages, tmp_path: Path, leads: str, how_long: str, updates: int
) -> None:
    """Paused and resumed, then without a page, then without a board: the result has the bytes of an undisturbed run."""
    folder = project(tmp_path / "project", dict.fromkeys(GESTURES, 40))  # enough to interrupt a fast board
    run = folder / "reports" / "001"
    studio = studios("project")
    page = learn_view(pages(studio))
    page.get_by_role("radio", name=leads, exact=True).click()
    begin(page, how_long)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused.")).to_be_visible()
    paused = len(metric_lines(run))
    page.get_by_role("button", name="Resume").click()
    page.close()
    [board] = [one for one in virtual_boards.running() if one.belongs_to(folder)]
    while len(metric_lines(run)) < paused + updates:
        time.sleep(0.01)
    board.kill()
    page = learn_view(pages(studio))
    expect(page.get_by_text("Interrupted.")).to_be_visible()
    virtual_board.start("unix", None, folder / "boards" / BOARD)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Better than before")).to_be_visible()
    report = read_report(run)
    assert report["host_twin_identical"] and report["activated"]
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("Discarded: the previous adapter was restored.")).to_be_visible()
    store, _ = stored(studio)
    assert not store.adapters and store.active is None


def test_invalid_files_in_a_project_end_nothing(tmp_path: Path) -> None:
    """Invalid state, runs, samples and bases: the project opens with what is left."""
    whole = {"title": "t", "port": "p", "board": "b", "recipe": {}, "tested_on": "", "learned": [], "total": 1}
    lies = ["[]", "7", '"x"', "{", json.dumps(whole | {"status": "won"}), json.dumps(whole | {"total": "many"})]
    lies += [json.dumps(whole | {"recipe": said}) for said in ([], {"mode": "none"})]
    for number, said in enumerate(lies):
        (tmp_path / "reports" / f"{number:03d}").mkdir(parents=True)
        (tmp_path / "reports" / f"{number:03d}" / "lesson.json").write_text(said)
    (tmp_path / "studio.json").write_text('{"boards": [{"port": 1}, 7], "on": {"../up": "unix", "a": 5}, "theme": 3}')
    for name in ("samples/wave.000001.npz", "samples/<b>.0.npz", "bases/bad.elm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"PK\x03\x04none")
    project = Project(tmp_path)
    runs = project.of(ProjectRuns)
    assert project.theme == "auto" and not runs.runs and "bad.elm" not in runs.bases()
    assert project.of(ProjectSamples).dataset(None) is None


def test_a_file_that_is_no_base_is_told(tmp_path: Path) -> None:
    """Until it is removed or replaced by a valid one."""
    runs = Project(tmp_path).of(ProjectRuns)
    bad = tmp_path / "bases" / "bad.elm"
    bad.write_bytes(b"PK\x03\x04none")
    bad.with_name("folder.elm").mkdir()
    refused = runs.refused()
    assert refused.keys() == {"bad.elm", "folder.elm"} and "bad.elm" in refused["bad.elm"], refused
    bad.with_name("folder.elm").rmdir()
    bad.write_bytes(motion_base().elm)
    assert not runs.refused() and "bad.elm" in runs.bases()


def test_a_paused_run_counts_no_epoch_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paused part's host twin runs for a while, but reports nothing for the resumed run."""
    base = motion_base()
    data = Dataset(np.zeros((2, *base.model.input.shape), np.float32), np.arange(2), base.model.labels[:2])
    (tmp_path / "base.elm").write_bytes(base.elm)
    for name in ("samples.npz", "test.npz"):
        save_dataset(data, tmp_path / name)
    run = StudioRun(tmp_path, Head("t", "p", "b", {"base_name": base.name, "epochs": 9}, "", (), 9, again=("x",)))
    run.updates = [Update(9, 9, 0.0, 1, 1, 1.0)]
    twins: list[Callable[[Measure], None]] = []
    jobs: list[Job] = []

    def trained(*given: Any) -> None:
        twins.extend(one.tested for one in given if isinstance(one, RunOptions))
        raise _Paused

    monkeypatch.setattr("edgelora.studio.run.personalize", trained)
    monkeypatch.setattr(StudioRun, "_prepared", lambda *told: True)
    for _ in range(2):
        jobs.append(Job("learn"))
        run.run(None, jobs[-1])  # type: ignore[arg-type]
    for tested in (*twins, *twins):
        tested(Measure("accuracy", 0.5))
    assert len(run.accuracies) == 3, "before, and two epochs"
    jobs[0].end("done")
    with pytest.raises(_Paused):
        twins[0](Measure("accuracy", 0.5))
