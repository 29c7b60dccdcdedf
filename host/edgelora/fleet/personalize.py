"""After a federation: a board personalizes from the global adapter or, where that is clearly better, from the base.

The same as `edgelora.fleet.personalize` on a board, to the last byte.
"""

from __future__ import annotations

from dataclasses import replace

from edgelora.base.errors import InputError
from edgelora.learn.training.base import Base
from edgelora.learn.training.early_stopping import Guard, Score, prepared
from edgelora.learn.training.loop import train
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.twin_learner import TwinLearner
from edgelora.learn.training.warm_start import restarted

from .client_training import fleet_recipe, fresh_adapter, learner_of
from .plan import Plan


def personalized(base: Base, plan: Plan, adapter: bytes | None, samples: Samples, seed: int) -> bytes:
    """A run from each start learns three quarters of the samples and is judged by the last quarter of each class, by
    its best epoch. The one from the base has to name two more right than the other. If the run is better than the bare
    base (more named right, then less loss: SPEC.md, 13), its start then learns all samples; else nothing is learned.

    adapter: the global `.ela` with training state; None: from the base alone. InputError where too few samples could
    judge.
    """
    learner = learner_of(base.elm, plan.rank, plan.mode)
    recipe = replace(fleet_recipe(plan.rank, plan.mode), epochs=0, seed=seed)
    course = prepared(samples, recipe)
    if course.held is None:
        raise InputError(f"{len(samples)} samples are too few to judge what is better", remedy="record more")
    learner.begin(seed)
    bare, most = learner.save(False), learner.judge(course.held)
    found: list[tuple[bytes | None, Score]] = []
    for start in [None] if adapter is None else [adapter, None]:
        _begin(learner, start, seed)
        guard = Guard(course.held, course.recipe.epochs, most)
        train(learner, course.samples, course.recipe, guard=guard)
        if guard.outcome.kept > most:
            found.append((start, guard.outcome.kept))
    if not found:
        return bare
    if len(found) == 2 and clearly_better(found[1][1], found[0][1]):
        found.reverse()
    _begin(learner, found[0][0], seed)
    return train(learner, samples, recipe).adapter


def clearly_better(one: Score, other: Score) -> bool:
    """Of so few samples, one more that is right is chance. Of those with targets none is: then losses decide."""
    if not one.right + other.right:
        return one > other
    return one.right > other.right + 1


def _begin(learner: TwinLearner, start: bytes | None, seed: int) -> None:
    if start is None:
        learner.begin(seed)
    else:
        learner.load(restarted(start, seed))


def bare_start(base: Base, plan: Plan, seed: int) -> bytes:
    """A fresh adapter with training state, which is the bare base: what training without a fleet starts with."""
    return fresh_adapter(base.elm, plan.rank, plan.mode, seed)
