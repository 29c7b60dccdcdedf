"""After a federation: a board personalizes from the global adapter and from the base, and keeps the better."""

from __future__ import annotations

from dataclasses import replace

from ..datasets import held_out
from ..training import Base, Recipe, Samples, TwinLearner, restarted, train
from .local import fleet_recipe, fresh_adapter, learner_of
from .plan import Plan


def personalized(base: Base, plan: Plan, starts: list[bytes], samples: Samples, seed: int) -> bytes:
    """The adapter of the best start: each learns three quarters of the samples and is judged by the last quarter of
    each class, which it did not see; then the best learns all. starts: `.ela` with training state, the first preferred.
    """
    learner, recipe = learner_of(base.elm, plan.rank, plan.mode), fleet_recipe(plan.rank, plan.mode)
    recipe = replace(recipe, epochs=0, seed=seed)
    held = held_out(samples.y)
    best = starts[0]
    if len(starts) > 1 and held.any():
        kept, judging = samples.part(~held), samples.part(held)
        judged = []
        for start in starts:
            learner.use(_learned(learner, start, kept, recipe))
            judged.append(learner.judge(judging))
        best = starts[max(range(len(starts)), key=lambda i: (judged[i], -i))]
    return _learned(learner, best, samples, recipe)


def bare_start(base: Base, plan: Plan, seed: int) -> bytes:
    """What personalizing from the base alone starts with."""
    return fresh_adapter(base.elm, plan.rank, plan.mode, seed)


def _learned(learner: TwinLearner, start: bytes, samples: Samples, recipe: Recipe) -> bytes:
    learner.load(restarted(start, recipe.seed))
    return train(learner, samples, recipe).adapter
