"""A person's own rows for the base's classes, which compete with trained layers under one judge.

    samples --> rows; each sample is judged by rows made without it
                  | few samples, a board's own run, and rows are better: done, nothing is trained
                  v
                layers are trained --> used if held-out samples, or few samples in turn, show them clearly better than
                                       what was in use, and better than rows; else rows or what was in use

The rule is the device's (`rows.py`). Only true labels judge. Samples whose labels look wrong to rows that were made
without them do not teach rows, and if they are many, layers neither. A board's own run learns all samples; its layers
then have to be better by far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.judge.early_stopping import Course, Outcome, Score, Verdict, prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.loop import Run
from edgelora.learn.training.twin.on_twin import board_model

_rows = device.module("rows")
DOUBTS: tuple[int, ...] = _rows.DOUBTS
PART: float = device.module("learner").PART  # of layers, if many labels look wrong
MOST_NAMED = 10  # of the samples whose labels look wrong


@dataclass(frozen=True)
class OwnRows:
    """Rows and their judgement. adapter: with rows of this doubt, None if they are no better (doubt 0).

    before, after: scores, with bounded losses, of what was in use and of rows made without the sample that they judge.
    losses: int [N], those of `after`. doubtful: bool [N], samples whose labels look wrong and did not teach.
    """

    adapter: bytes | None
    doubt: int
    before: Score
    after: Score
    losses: NDArray[np.int64]
    doubtful: NDArray[np.bool_]

    @property
    def outcome(self) -> Outcome:
        return Outcome(0, 0, self.before, self.after)

    @property
    def said(self) -> str:
        """A sentence that says how they were judged, and the result."""
        count = len(self.doubtful)
        right = f"{self.before.right} of {count} samples were correct before, {self.after.right} with them"
        judge = "own rows of the classes were judged by leaving each sample out in turn"
        if not self.doubt:
            return f"{judge}, and are no better than what was in use"
        if not self.doubtful.any():
            return f"{judge}: {right}"
        return f"{judge}: {right}; {_named(self.doubtful)}"

    def run(self) -> Run:
        """A run that trained nothing and leaves these rows."""
        assert self.adapter is not None
        return Run(self.adapter, b"", verdict=Verdict.BETTER, said=self.said, own_rows=True)


def _named(wrong: NDArray[np.bool_]) -> str:
    """Which labels look wrong, half a sentence."""
    numbers = np.flatnonzero(wrong) + 1
    some = ", ".join(map(str, numbers[:MOST_NAMED])) + (" and more" if len(numbers) > MOST_NAMED else "")
    return f"the labels of {len(numbers)} look wrong, so these did not teach (number {some})"


def own_rows(elm: bytes, course: Course, samples: Samples, before: bytes | None = None) -> OwnRows:
    """Makes and judges rows as a board does, on the twin. before: the adapter that they have to beat."""
    model = board_model(elm, course.settings.session)
    with device.refusals():
        rows = _rows.OwnRows(model, Source(samples), before)
        for _ in rows.judge():
            pass
        made = rows.adapter()
    was, now = (Score(right, -loss) for right, loss in (rows.before, rows.after))
    losses, doubtful = np.array(rows.losses, np.int64), np.frombuffer(bytes(rows.doubtful), np.bool_)
    return OwnRows(bytes(made.buffer) if made else None, rows.doubt, was, now, losses, doubtful)


def rows_of(elm: bytes, samples: Samples, doubt: int = DOUBTS[-1]) -> bytes:
    """An adapter with rows of this doubt, whatever their judgement."""
    rows = _rows.OwnRows(device.module().Model(elm, bytes(len(unpack_model(elm).ops)), "infer"), Source(samples))
    rows.collect()
    return bytes(rows.adapter(doubt).buffer)


class Winner(Enum):
    """What is used after a contest; NOBODY: what was in use before."""

    ROWS, LAYERS, NOBODY = range(3)


@dataclass(frozen=True)
class Contest:
    """Rows and trained layers for the same samples. course: of all samples."""

    elm: bytes
    course: Course
    recipe: Recipe
    before: bytes | None = None

    @cached_property
    def rows(self) -> OwnRows:
        return own_rows(self.elm, self.course, self.course.everything, self.before)

    @cached_property
    def left_out(self) -> NDArray[np.bool_]:
        """Which samples layers do not learn, as many labels look wrong; bool [N].

        Of a class half of which or more looks wrong, all samples teach: it is another one than the base's. A board's
        own run learns all samples.
        """
        wrong = bytearray(self.rows.doubtful.tolist())
        _rows.spare(wrong, self.course.everything.y.tolist())
        return np.frombuffer(wrong, np.bool_) & (_rows.many(wrong) and not self.recipe.on_board)

    @cached_property
    def of_layers(self) -> Course:
        """The course of layers. Where samples are left out, a part of the adapter is used, as others are wrong, too."""
        if not self.left_out.any():
            return self.course
        course = prepared(self.elm, self.course.everything.part(~self.left_out), self.recipe)
        return replace(course, part=PART, remark=f"{_named(self.left_out)}, and {PART:.0%} of the adapter are used")

    @property
    def is_decided(self) -> bool:
        """Whether rows win without layers: nothing could judge these."""
        return self.of_layers.held is None and not self.of_layers.folds and self.rows.doubt > 0

    def winner(self, outcome: Outcome | None, layers: bytes) -> Winner:
        """Who is used after layers were trained. outcome: their judgement, None: nothing judged them."""
        rows, course = Winner.ROWS if self.rows.doubt else Winner.NOBODY, self.of_layers
        if outcome is None or outcome.verdict is not Verdict.BETTER:
            return rows
        kept = outcome.kept.losses
        if course.held is None:
            was = outcome.before.losses
            if was is None or kept is None or not _rows.fell(was.tolist(), kept.tolist(), _rows.LEAST_GAIN_FOLDS):
                return rows
            lost = np.minimum(kept, _rows.MOST_LOSS).sum()
            return rows if self.rows.doubt and self.rows.losses[~self.left_out].sum() <= lost else Winner.LAYERS
        doubtful = self.rows.doubtful.tolist()
        errors = _rows.errors_of(len(course.held), self.rows.doubt, doubtful, not self.left_out.any())
        losses = self._losses(layers) if kept is None else kept.tolist()
        if not _rows.fell(self._losses(self.before), losses, errors):
            return rows
        found = own_rows(self.elm, course, course.samples, self.before)
        if found.adapter is None or _rows.fell(self._losses(found.adapter), losses, 0):
            return Winner.LAYERS
        return rows

    def _losses(self, adapter: bytes | None) -> list[int]:
        """Losses of the held-out samples."""
        held = self.of_layers.held
        assert held
        session = Session(self.elm, *self.course.settings.session)
        session.use(adapter)
        losses: list[int] = session.evaluate_all(held.x, held.targets)[1].tolist()
        return losses


def contest(elm: bytes, course: Course, recipe: Recipe, before: bytes | None = None) -> Contest | None:
    """A contest, if rows can take part: labelled samples of two classes or more, a base with class statistics."""
    able = recipe.rows and course.everything.given_targets is None and course.everything.frames == 1
    if not able or len(np.unique(course.everything.y)) < 2 or unpack_model(elm).class_stats is None:
        return None
    return Contest(elm, course, recipe, before)


def rival(base: Base, previous: bytes | None) -> bytes | None:
    """The adapter that new rows have to beat: the previous one, or None, the base alone, if that has own rows, too."""
    made_of_rows = previous and any(row.doubt for row in base.adapter(previous).classes)
    return None if made_of_rows else previous


def settled(run: Run, rivals: Contest | None) -> Run:
    """The run after the contest: its layers with their verdict, or the rows."""
    if rivals is None:
        return run
    winner = rivals.winner(run.outcome, run.adapter)
    if winner is Winner.ROWS:
        return rivals.rows.run()
    if winner is Winner.LAYERS:
        return run
    return replace(run, verdict=Verdict.UNJUDGED if run.outcome is None else Verdict.NOT_BETTER)
