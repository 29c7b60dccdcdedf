"""Several owners of one wake word: one adapter learns them all, and each of them is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelora.base.progress import Progress, no_progress
from edgelora.learn.training.recipe import Recipe

from .guard import Heard, Recall
from .learning import RECIPE, Learned, learn, owner_parts
from .replay import FOLDS, Replay
from .teaching import Owner, Recorded
from .word import Rule, WakeWord


@dataclass(frozen=True)
class Member:
    """An owner's name, and how often the word is heard in recordings that did not teach: by the base with its author's
    rule, and by the adapters with the chosen one."""

    name: str
    base: Recall
    adapted: Recall


@dataclass(frozen=True)
class Household:
    """What was learned, and how each owner is heard.

    reason: why it is not better, empty if it is: nobody may be heard less often than by the base.
    """

    learned: Learned
    members: list[Member]

    @property
    def reason(self) -> str:
        worse = [one for one in self.members if one.adapted.heard < one.base.heard]
        if self.learned.judgement.reason or not worse or len(self.members) == 1:
            return self.learned.judgement.reason
        one = worse[0]
        return f"it hears {one.name} {one.adapted.heard} of {one.adapted.of} times, the base {one.base.heard}"

    @property
    def better(self) -> bool:
        return not self.reason


def learn_all(
    word: WakeWord,
    owners: dict[str, Owner],
    replay: Replay,
    speech: Sequence[Recorded] = (),
    recipe: Recipe = RECIPE,
    progress: Progress = no_progress,
) -> Household:
    """`learn` of the recordings of all owners, by name, together."""
    all_of = list(owners.values())
    every = Owner(
        [one for owner in all_of for one in owner.enrolments],
        [one for owner in all_of for one in owner.misses],
        [one for owner in all_of for one in owner.talk],
    )
    learned = learn(word, every, replay, speech, recipe, progress)
    whose = {id(one): name for name, owner in owners.items() for one in owner.enrolments}
    order = [whose[id(one)] for fold in range(FOLDS) for one in owner_parts(every, fold)[1].enrolments]
    rules = (word.rule, learned.word.rule)

    def recalls(name: str) -> list[Recall]:
        return [_recall(heard, rule, order, name) for heard, rule in zip(learned.heard, rules, strict=True)]

    return Household(learned, [Member(name, *recalls(name)) for name in owners])


def _recall(heard: Heard, rule: Rule, order: Sequence[str], name: str) -> Recall:
    mine = [outputs for outputs, whose in zip(heard.own, order, strict=True) if whose == name]
    return Recall(sum(bool(rule.wakes(outputs)) for outputs in mine), len(mine))
