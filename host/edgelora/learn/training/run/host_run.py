"""`edgelora train-adapter`: an adapter trained on the host, by the bit-exact twin.

It trains as a board would, to the same bytes, or quantization-aware (`qat`), for which a board has no room. With
several tries, each holds out a part of the samples and is validated on it; the best try's settings then train on all
samples. Test data choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.heads.own_rows import contest, settled
from edgelora.learn.training.judge.early_stopping import Verdict, prepared
from edgelora.learn.training.judge.metrics import answers, measured
from edgelora.learn.training.recipe import LIMITS, Recipe
from edgelora.learn.training.twin.adapter_sum import part_of
from edgelora.learn.training.twin.loop import Run, cross_judged, guarded
from edgelora.learn.training.twin.on_twin import board_training
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import HELD_OUT, held_out

RATE_FACTORS = (1.0, 0.5, 2.0)  # of the recipe's rate, in turn, unless the rate is given
Trainer = Callable[[bytes, Samples, Recipe, Progress], Run]  # trains a `.elm`; module-level, for other processes


@dataclass(frozen=True)
class Try:
    """Settings tried, and the validation accuracy (0 to 1) or error."""

    seed: int
    learning_rate: int
    validation_accuracy: float | None
    validation_error: float | None = None

    @property
    def merit(self) -> float:
        """Larger is better."""
        return self.validation_accuracy if self.validation_accuracy is not None else -(self.validation_error or 0.0)


@dataclass(frozen=True)
class Trained:
    """A run on the host, with its recipe. before, after: `answers` for the test samples."""

    recipe: Recipe
    run: Run
    before: NDArray[Any]
    after: NDArray[Any]
    tries: list[Try]

    @property
    def verdict(self) -> Verdict | None:
        return self.run.verdict


def as_board(elm: bytes, samples: Samples, recipe: Recipe, progress: Progress = no_progress) -> Run:
    """Trains on the samples as a board does."""
    course = prepared(elm, samples, recipe)
    learner = TwinLearner(elm, course.settings.session, samples.frames)
    rivals = contest(elm, course, recipe)
    course = rivals.of_layers if rivals else course
    if rivals and rivals.is_decided:
        return _with_state(rivals.rows.run(), learner)
    if recipe.on_board:
        return _with_state(settled(board_training(elm, course, progress=progress), rivals), learner)
    guard, across = course.guard(learner), cross_judged(learner, course, progress)
    learner.begin(recipe.seed)
    run = guarded(learner, course, guard, progress, finishing=progress)
    run = replace(run, adapter=part_of(elm, run.adapter, course.part))
    outcome = guard.outcome if guard else across
    run = replace(run, verdict=course.verdict(outcome), said=course.said, outcome=outcome)
    return _with_state(settled(run, rivals), learner)


def _with_state(run: Run, learner: TwinLearner) -> Run:
    """The run with its adapter's training state, to go on from."""
    learner.load(run.adapter)
    return replace(run, state=learner.save(True))


def train_adapter(
    base: Base,
    samples: Samples,
    test: Samples,
    recipe: Recipe,
    tries: int = 1,
    progress: Progress = no_progress,
    trainer: Trainer = as_board,
) -> Trained:
    """Trains by the recipe; with several `tries`, by the best of its `variants`: other seeds and, as boards, rates."""
    if tries < 1:
        raise InputError(f"{tries} tries: give 1 or more")
    tried: list[Try] = []
    if tries > 1:
        recipes = variants(recipe, tries, RATE_FACTORS if trainer is as_board else (1.0,))
        tried = _try_all(base, samples, recipes, trainer, progress)
        recipe = recipes[max(range(tries), key=lambda i: tried[i].merit)]
    learner = _learner(base, recipe, samples)
    before = answers(base, learner.session, test)
    run = trainer(base.elm, samples, recipe, progress)
    learner.use(run.adapter)
    after = answers(base, learner.session, test)
    if run.verdict and measured(base, after, test).merit < measured(base, before, test).merit:
        run = replace(run, verdict=Verdict.WORSE)
    return Trained(recipe, run, before, after, tried)


def variants(recipe: Recipe, count: int, factors: Sequence[float] = RATE_FACTORS) -> list[Recipe]:
    """The recipe and variants: seeds count up, the rate is multiplied by these factors in turn unless it is given."""
    low, high = LIMITS["learning_rate"]
    factors = factors if recipe.learning_rate is None else (1.0,)
    seeds = LIMITS["seed"][1] + 1
    return [
        replace(
            recipe,
            seed=(recipe.seed + i) % seeds,
            learning_rate=min(max(round(recipe.initial_rate * factors[i % len(factors)]), low), high),
        )
        for i in range(count)
    ]


def split(samples: Samples) -> tuple[Samples, Samples]:
    """(training, validation) samples; the latter are the last 1 / `HELD_OUT` of each class.

    Raises WorkflowError if no class has `HELD_OUT` samples.
    """
    held = held_out(samples.y)
    if not held.any():
        raise WorkflowError(f"too few samples to choose among tries: give {HELD_OUT} or more of a class, or --tries 1")
    return samples.part(~held), samples.part(held)


def _try_all(
    base: Base, samples: Samples, recipes: Sequence[Recipe], trainer: Trainer, progress: Progress
) -> list[Try]:
    """Validates every recipe, in parallel."""
    kept, held = split(samples)
    tried: list[Try] = []
    for one in in_parallel(_try, [(base, kept, held, recipe, trainer) for recipe in recipes]):
        tried.append(one)
        what = f"rate {one.learning_rate} seed {one.seed}: {abs(one.merit):.3g}"
        progress(len(tried), len(recipes), what)
    return tried


def _try(base: Base, kept: Samples, held: Samples, recipe: Recipe, trainer: Trainer) -> Try:
    learner = _learner(base, recipe, kept)
    learner.use(trainer(base.elm, kept, recipe, no_progress).adapter)
    found = measured(base, answers(base, learner.session, held), held)
    by_name = {f"validation_{found.name}": found.rounded}
    return Try(recipe.seed, recipe.initial_rate, **{"validation_accuracy": None, **by_name})


def _learner(base: Base, recipe: Recipe, samples: Samples) -> TwinLearner:
    return TwinLearner(base.elm, recipe.settings(base.elm), samples.frames)
