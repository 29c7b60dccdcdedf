"""Learning an owner's voice: train, judge on streams, and learn once more with what judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.learn.training.loop import train
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.twin_learner import TwinLearner

from .guard import Judgement, Streams, judged
from .replay import Replay
from .teaching import Owner, Recorded, joined, lessons
from .word import WakeWord

LEAST = 3  # enrolments: fewer can't be learned and judged
JUDGING = 3  # one in so many enrolments, close misses and other recordings judges
RECIPE = Recipe(rank=4, mode="trainable_a", placement="pointwise", epochs=6)


@dataclass(frozen=True)
class Learned:
    """An adapter for an owner, the word with the rule chosen for it, and the judgement on it.

    The judgement is on an adapter that learned without the held-out recordings; if it is better, this one learned from
    all, else it is that one.
    """

    adapter: bytes
    word: WakeWord
    judgement: Judgement
    windows: int  # samples that the adapter learned from
    losses: list[float]  # of each epoch, nats


def learn(
    word: WakeWord,
    owner: Owner,
    replay: Replay,
    speech: Sequence[Recorded] = (),
    recipe: Recipe = RECIPE,
    progress: Progress = no_progress,
) -> Learned:
    """Learns an owner. speech: hours of other sounds that only judge. InputError for too few enrolments."""
    if len(owner.enrolments) < LEAST:
        raise InputError(f"{len(owner.enrolments)} enrolments: give {LEAST} or more, 5 to 10 are better")
    known, held = owner_parts(owner)
    replayed, judging = replay.split()
    samples = _samples(word, known, replayed)
    run = _trained(word, samples, recipe, _stage(progress, 0))
    judgement = judged(word, run.adapter, streams(word, held, judging, speech))
    if judgement.better:
        samples = _samples(word, owner, replay)
        run = _trained(word, samples, recipe, _stage(progress, 1))
    return Learned(run.adapter, word.with_rule(judgement.adapted.rule), judgement, len(samples), run.epoch_losses)


def owner_parts(owner: Owner) -> tuple[Owner, Owner]:
    """(to learn, to judge): the last of every `JUDGING` recordings of a kind judges."""

    def part(recordings: Sequence[Recorded], held: bool) -> list[Recorded]:
        return [one for i, one in enumerate(recordings) if (i % JUDGING == JUDGING - 1) == held]

    kinds = (owner.enrolments, owner.misses, owner.talk)
    return Owner(*(part(kind, False) for kind in kinds)), Owner(*(part(kind, True) for kind in kinds))


def streams(word: WakeWord, owner: Owner, replay: Replay, speech: Sequence[Recorded]) -> Streams:
    """What judges."""
    return Streams(
        [word.heard(one.sound) for one in owner.enrolments],
        [word.inputs(rows) for rows in replay.sayings],
        [word.heard(one.sound) for one in owner.misses],
        [word.heard(one.sound) for one in (*owner.talk, *speech)] + [word.inputs(rows) for rows in replay.speech],
    )


def _samples(word: WakeWord, owner: Owner, replay: Replay) -> Samples:
    replayed = replay.samples(word)
    own = lessons(word, owner)
    return own if replayed is None else joined([own, replayed])


@dataclass(frozen=True)
class _Run:
    adapter: bytes
    epoch_losses: list[float]


def _trained(word: WakeWord, samples: Samples, recipe: Recipe, progress: Progress) -> _Run:
    settings = recipe.resolved(word.base.elm, len(samples.of_epoch))
    learner = TwinLearner(word.base.elm, settings.session, word.frames)
    learner.begin(settings.seed)
    run = train(learner, samples, settings, progress)
    return _Run(run.adapter, run.epoch_losses)


def _stage(progress: Progress, stage: int) -> Progress:
    """The progress of one of two trainings."""

    def report(done: int, total: int, what: str) -> None:
        progress(stage * total + done, 2 * total, f"{('judged run', 'final run')[stage]}, {what}")

    return report
