"""Few labels in the live view: answers that are not sure, corrections that teach at once, windows asked for."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fresh import slow
from playwright.sync_api import Page, expect
from sensing import motion_base, put_board, waves
from studio_pages import sense
from studio_projects import PERSON, collect

from edgelora.base.errors import InputError
from edgelora.core.twin.session import Session
from edgelora.learn.streaming.correcting import taught
from edgelora.learn.streaming.sample_windows import alone
from edgelora.learn.training.heads.confidence import ONE, UNSURE, least_of
from edgelora.model.datasets.har import har_takes
from edgelora.studio.corrections import ADAPTER, MOST_KEPT, Correctors
from edgelora.studio.live import Live, Said
from edgelora.studio.novelty import judge_of
from edgelora.studio.project import Project
from edgelora.studio.samples import ProjectSamples

BASE = motion_base()
NAMES = BASE.model.labels


def collected(folder: Path, swapped: bool = False) -> ProjectSamples:
    """Some samples of five of the base's classes. swapped: their owner calls two of them the other way round."""
    names = [*NAMES[:3], NAMES[4], NAMES[3]]
    return collect(folder, dict.fromkeys(names if swapped else NAMES[:5], 4), 0)


class Board:
    """In a board session's place: a live view of `waves`, and the jobs that it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.live = Live(self)
        self.live._base, self.live._job = BASE, SimpleNamespace(ended=False, cancel=lambda: None)
        self.live._clear(6, 50.0, 100)
        self.live._tell(rate=50.0, window=100, labels=tuple(NAMES))

    def of(self, kind: type) -> Live:
        return self.live

    def submit(self, name: str, work: object) -> None:
        self.names.append(name)

    def hear(self, counts: np.ndarray, seen: int = 0) -> None:
        self.live._feed(counts, 0, [])
        said = Said(self.live.end, seen, (0.5,) * 7, 1.0, self.live.metadata.adapter)
        self.live._feed(counts[:0], 0, [said])
        self.live.on_said(said)


def test_an_answer_below_what_the_samples_say_is_unsure(tmp_path: Path) -> None:
    collection = collected(tmp_path / "own", swapped=True)
    judge = judge_of(Project(tmp_path / "own"), BASE, None)
    assert judge
    samples, held = collection.samples_of(BASE)
    session = Session(BASE.elm, bytes(len(BASE.model.ops)), "infer")
    right, chance = [], []
    for x, y in zip(samples.x, samples.y, strict=True):
        right.append(session.infer(x) == y)
        chance.append(int(session.probabilities().max()))
    assert 0 < sum(right) < len(right)
    least = least_of(BASE, None, samples, held)
    if least is None:
        assert UNSURE not in judge.labels(), "no answer would be left"
    else:
        answered = [ok for ok, p in zip(right, chance, strict=True) if p >= least]
        assert sum(not ok for ok in answered) * 20 <= len(answered), "at most one in 20 is wrong"
        assert judge.labels()[-1] == UNSURE and judge.least == least
        assert judge.named(waves(100), [least / ONE - 0.01] * 7) in (UNSURE, "nothing")
    empty = judge_of(Project(tmp_path / "empty"), BASE, None)
    assert empty and UNSURE not in empty.labels()


def test_corrections_make_what_the_teacher_makes(tmp_path: Path) -> None:
    """With what was called wrong; "no" goes into a collection of its own; a trained adapter stays in use."""
    collection, board = collected(tmp_path, swapped=True), Board()
    corrector = Correctors(Project(tmp_path)).of(board)
    with pytest.raises(InputError, match="said nothing yet"):
        corrector.correct(NAMES[0])
    board.hear(waves(150), seen=2)
    before = len(collection)
    corrector.correct(NAMES[1])
    collection.reload()
    assert len(collection) == before + 1 and collection.samples[-1].label == NAMES[1]
    assert collection.window(collection.samples[-1]).counts.tolist() == waves(150)[50:].tolist()
    assert corrector.words == f"Learned from {before + 1} samples." and board.names == ["teach"]
    assert board.live._adapter == ADAPTER and taught(BASE, collection.samples_of(BASE)[0]).adapter
    corrector.correct(None)
    denied = ProjectSamples(SimpleNamespace(folder=tmp_path / "denied"))
    assert [sample.label for sample in denied.samples] == [NAMES[2]] and len(collection) == before + 1
    board.live._tell(adapter="mine")
    corrector.correct(NAMES[0])
    assert "mine was trained: Learn again" in corrector.words and board.names == ["teach"] * 2


def test_windows_that_would_help_are_asked_for_once(tmp_path: Path) -> None:
    board = Board()
    corrector = Correctors(Project(tmp_path)).of(board)
    with pytest.raises(InputError, match="no window was heard"):
        corrector.ask()
    takes = [counts for counts, _ in har_takes(PERSON, "train")]
    for counts in takes[: MOST_KEPT + 5]:
        board.hear(counts[:50])
        board.hear(counts[50:])
    assert corrector.kept == MOST_KEPT, "none that overlap, and no more"
    corrector.ask()
    first, second, third = corrector.asked
    assert all(one.predicted in NAMES and 0 <= one.margin <= 1 for one in corrector.asked)
    x = BASE.model.input.quantize(np.array([alone(first.counts, BASE.model.signal, BASE.model.input.shape)]))
    session = Session(BASE.elm, bytes(len(BASE.model.ops)), "infer")
    assert NAMES[session.infer(x[0])] == first.predicted
    with wave.open(io.BytesIO(corrector.sound(first.number) or b"")) as file:
        assert file.readframes(100) == first.counts.astype("<i2").tobytes()
    corrector.answer(first, NAMES[3])
    assert corrector.sound(first.number) is None
    corrector.answer(second, None)
    collection = ProjectSamples(SimpleNamespace(folder=tmp_path))
    assert [sample.label for sample in collection.samples] == [NAMES[3]] and corrector.asked == [third]
    corrector.ask()
    assert not {id(one.counts) for one in corrector.asked} & {id(first.counts), id(second.counts)}
    assert "The network alone is as good so far" in corrector.words


@slow
def test_the_page_takes_corrections(studios: Callable[..., Any], pages: Callable[..., Page], tmp_path: Path) -> None:
    """They teach at once: the board then uses what they made, without a pause of the page."""
    project = tmp_path / "project"
    put_board(project)
    before = len(collected(project, swapped=True))
    page = pages(studios("project"))
    sense(page, "Live")
    page.get_by_role("checkbox", name="Say “nothing”").click()  # the source is unlike any sample
    page.locator(".headline-name").wait_for()
    panel = page.get_by_role("region", name="Corrections")
    panel.get_by_role("button", name=f"It was {NAMES[1]}").click()
    expect(panel.get_by_text(f"Learned from {before + 1} samples")).to_be_visible()
    row = page.get_by_role("cell", name=ADAPTER, exact=True)
    row.wait_for()
    panel.get_by_text(re.compile("^[1-9][0-9]* windows heard")).wait_for()
    panel.get_by_role("button", name="Ask").click()
    panel.get_by_role("button", name=f"Window 1 was {NAMES[0]}").click()
    expect(panel.get_by_text(f"Learned from {before + 2} samples")).to_be_visible()
    page.wait_for_timeout(4000)  # the board has answered again
    panel.get_by_role("button", name="No, it was not that").click()
    for _ in range(50):
        if list((project / "denied/samples").glob("*.npz")):
            break
        page.wait_for_timeout(200)
    assert len(list((project / "denied/samples").glob("*.npz"))) == 1
    assert len(ProjectSamples(SimpleNamespace(folder=project))) == before + 2
