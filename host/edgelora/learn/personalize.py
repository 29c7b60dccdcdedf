"""Personalize: a run on a board or on this computer, compared with the twin, validated, and reported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgelora.board.link.client import Link
from edgelora.core.formats.files import write_atomic
from edgelora.model.datasets.dataset import Dataset, held_out
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.lora import train_float_lora

from .report.builder import make_report
from .report.record import Report
from .training.board.board_run import RunOptions
from .training.data.base import Base, WorkflowError
from .training.data.data_checks import Remarks, remarks
from .training.heads.confidence import confidence
from .training.judge.early_stopping import Verdict
from .training.judge.metrics import Measure, measured
from .training.recipe import Recipe
from .training.run.board_personalization import BoardRun, Task, TwinRun, personalize_board
from .training.run.host_run import Trained, train_adapter


@dataclass(frozen=True)
class Personalization:
    """A run's result. remarks: warnings to read before trusting its figures; board_report: of a run on a board."""

    base: Base
    task: Task
    run: BoardRun | Trained
    remarks: Remarks
    board_report: Report | None

    @property
    def adapter(self) -> bytes:
        return self.run.run.adapter

    @property
    def before(self) -> Measure:
        return measured(self.base, self.run.before, self.task.test)

    @property
    def after(self) -> Measure:
        return measured(self.base, self.run.after, self.task.test)

    @property
    def board_run(self) -> BoardRun:
        """WorkflowError for a run without a board."""
        if not isinstance(self.run, BoardRun):
            raise WorkflowError("no board did this run: give personalize() a link")
        return self.run

    @property
    def twin(self) -> TwinRun:
        """The host twin's repetition of a board's run."""
        return self.board_run.twin

    @property
    def verdict(self) -> Verdict | None:
        return self.run.verdict

    @property
    def report(self) -> Report:
        """WorkflowError for a run without a board."""
        if self.board_report is None:
            raise WorkflowError("this run has no report: give personalize() a link")
        return self.board_report

    def differing(self) -> Personalization:
        """The result for a board whose adapter was later found to differ from the twin's."""
        twin = replace(self.twin, identical=False)
        run = replace(self.board_run, verdict=Verdict.DIFFERS, activated=False, twin=twin)
        return replace(self, run=run, board_report=_report(self.base, self.task, run, self.remarks))

    def add_float_lora(self, net: FloatNet, train: Dataset, test: Dataset) -> None:
        """Adds float LoRA on this computer to the report, with the same ranks, samples, epochs and mode.

        It doesn't train on the held-out samples either.
        """
        course = self.board_run.course
        if course.held:
            learned = ~held_out(train.y)
            train = Dataset(train.x[learned], train.y[learned], train.labels)
        settings = course.settings
        found = train_float_lora(
            net,
            train,
            test,
            epochs=settings.epochs,
            seed=settings.seed,
            train_a=settings.session.mode == "trainable_a",
            batch=settings.session.micro_batch,
            ranks=settings.session.ranks,
        )
        report = self.report
        report.float_base_accuracy, report.float_lora_accuracy = found.base_accuracy, found.accuracy
        report.float_lora_losses = found.losses


def personalize(
    base: Base,
    task: Task,
    recipe: Recipe,
    link: Link | None,
    options: RunOptions,
    folder: Path | None = None,
) -> Personalization:
    """Trains on the board behind a link while the twin repeats the run; without a link, on this computer alone.

    folder: where adapter.ela is written. Raises what `personalize_board` and `train_adapter` do.
    """
    run: BoardRun | Trained
    if link:
        run = personalize_board(link, base, task, recipe, options)
    else:
        run = train_adapter(base, task.samples, task.test, recipe, progress=options.progress)
    if folder:
        write_atomic(folder / "adapter.ela", run.run.adapter)
    remarked = remarks(base, run.run.adapter, task.test, task.samples)
    report = _report(base, task, run, remarked) if isinstance(run, BoardRun) else None
    return Personalization(base, task, run, remarked, report)


def _report(base: Base, task: Task, run: BoardRun, remarked: Remarks) -> Report:
    """The record of a run, with the confidence of what is in use after it."""
    in_use = Verdict.BETTER if run.activated else Verdict.NOT_BETTER
    sure = confidence(base, run.course, replace(run.run, verdict=in_use), task.test)
    return make_report(base, task, run, remarked, sure)
