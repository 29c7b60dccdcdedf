"""Learning an owner's voice: cross-validation on streams, then training on everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner

from .guard import Heard, Judgement, Streams, judged
from .replay import FOLDS, Replay
from .teaching import Owner, Recorded, joined, lessons
from .word import WakeWord

LEAST = 3  # enrolments: fewer can't be learned and judged
USUAL = 10  # enrolments: fewer are learned several times in an epoch, to count as much among the other voices
RECIPE = Recipe(rank=6, mode="frozen_a", placement="pointwise", epochs=4)


@dataclass(frozen=True)
class Learned:
    """An adapter for an owner, the word with the rule chosen for it, and the judgement on it.

    The judgement is by cross-validation: each recording, voice and piece of speech is heard by an adapter that did not
    learn from it. The adapter learned from all.
    """

    adapter: bytes
    word: WakeWord
    judgement: Judgement
    windows: int  # samples of an epoch
    losses: list[float]  # of each epoch, nats
    heard: tuple[Heard, Heard]  # what the judgement is of: the base's outputs, and those of the adapters


def learn(
    word: WakeWord,
    owner: Owner,
    replay: Replay,
    speech: Sequence[Recorded] = (),
    recipe: Recipe = RECIPE,
    progress: Progress = no_progress,
) -> Learned:
    """Learns an owner. speech: hours of other sounds that only judge. InputError for too few enrolments, and for one
    recording given twice."""
    if len(owner.enrolments) < LEAST:
        raise InputError(f"{len(owner.enrolments)} enrolments: give {LEAST} or more, 5 to 10 are better")
    _check_apart(owner, speech)
    base = adapted = Heard([], [], [], [], 0.0)
    for fold in range(FOLDS):
        known, held = owner_parts(owner, fold)
        replayed, judging = replay.split(fold)
        run = _trained(word, _samples(word, known, replayed), recipe, _stage(progress, fold))
        streams = _streams(word, held, judging)
        base += Heard.of(word, None, streams)
        adapted += Heard.of(word, run.adapter, streams)
    samples = _samples(word, owner, replay)
    run = _trained(word, samples, recipe, _stage(progress, FOLDS))
    if speech:  # which no adapter learned from
        streams = Streams([], [], [], [word.heard(one.sound) for one in speech])
        base += Heard.of(word, None, streams)
        adapted += Heard.of(word, run.adapter, streams)
    judgement = judged(word.rule, base, adapted)
    learned = word.with_rule(judgement.adapted.rule)
    return Learned(run.adapter, learned, judgement, len(samples), run.epoch_losses, (base, adapted))


def _check_apart(owner: Owner, speech: Sequence[Recorded]) -> None:
    """InputError if a recording is given twice: one would judge what the other taught."""
    names: dict[bytes, str] = {}
    for one in (*owner.enrolments, *owner.misses, *owner.talk, *speech):
        sound = one.sound.tobytes()
        if sound in names:
            raise InputError(f"{one.name}: is the same recording as {names[sound]}: give each once")
        names[sound] = one.name


def owner_parts(owner: Owner, fold: int) -> tuple[Owner, Owner]:
    """(to learn, to judge): one in `FOLDS` recordings of a kind judges in each fold."""

    def part(recordings: Sequence[Recorded], held: bool) -> list[Recorded]:
        return [one for i, one in enumerate(recordings) if (i % FOLDS == fold) == held]

    kinds = (owner.enrolments, owner.misses, owner.talk)
    known, judging = (Owner(*(part(kind, held) for kind in kinds)) for held in (False, True))
    return known, judging


def _streams(word: WakeWord, owner: Owner, replay: Replay) -> Streams:
    """What judges."""
    return Streams(
        [word.heard(one.sound) for one in owner.enrolments],
        [word.inputs(rows) for rows in replay.sayings],
        [word.heard(one.sound) for one in owner.misses],
        [word.heard(one.sound) for one in owner.talk],
    )


def _samples(word: WakeWord, owner: Owner, replay: Replay) -> Samples:
    replayed = replay.samples(word)
    own = [lessons(word, owner)] * max(1, round(USUAL / max(1, len(owner.enrolments))))
    return joined(own if replayed is None else [*own, replayed])


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
    """The progress of one of the trainings."""

    def report(done: int, total: int, what: str) -> None:
        name = "on everything" if stage == FOLDS else f"fold {stage + 1}/{FOLDS}"
        progress(stage * total + done, (FOLDS + 1) * total, f"{name}, {what}")

    return report
