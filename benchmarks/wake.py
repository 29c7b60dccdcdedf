"""`edgelora bench wake`: wake words that learn owners whom they do not hear.

Owners are synthetic people of `wake_speech.OWNERS`, who had no part in any choice; for each word, the first ones whom
the base hears less than half of the time. Everything else is new as well: their utterances, the other voices, the
phrases close to the word, and the prompts, which judge by the rule that was chosen in learning.

Words take turns, so that what was done before a stop has as many owners of each. A folder keeps what is done.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.wake_manifest import load_manifest
from edgelora.core.front_ends import AudioFrontEnd
from edgelora.core.twin.session import Session
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.data.base import Base
from edgelora.learn.wake.guard import Streams, StreamScore, scored
from edgelora.learn.wake.learning import RECIPE, learn
from edgelora.learn.wake.replay import FILE as REPLAY
from edgelora.learn.wake.replay import shipped
from edgelora.learn.wake.teaching import Owner, Recorded
from edgelora.learn.wake.word import Frames, WakeWord, imported
from edgelora.model.datasets.prompts import NARROW, load_prompts
from edgelora.model.datasets.wake_speech import (
    DEVELOPMENT,
    OTHER_TALK,
    OTHERS,
    OWNERS,
    PHRASES,
    TALK,
    Person,
    say_all,
)
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.merge import find_source, merge_tflite

from .wakewords import manifest_of, network_of

JUDGING = ("es", "fr", "it", *NARROW)  # prompts that no choice was made on
CHOOSING = ("en", "ru")
UNHEARD = 0.5  # the base's recall of an owner is below it
TRIED, NEW = 10, 40  # utterances: that choose owners, that judge
STEP_WORD = "okay_nabu"
SEEDS = {"chosen": 9, "taught": 1, "new": 2}  # of utterances


@dataclass(frozen=True)
class Told:
    """One owner and word: shares and false accepts an hour, by the base and with the adapter; rule: the chosen one.

    merged: recall of the merged network; talk: the owner's other phrases that were accepted.
    """

    word: str
    owner: str
    enrolments: int
    better: bool
    cutoff: float
    window: int
    recall: tuple[float, float]
    others: tuple[float, float]
    confusables: tuple[float, float]
    talk: tuple[float, float]
    false_accepts_per_hour: tuple[float, float]
    hours: float
    merged: float


@dataclass(frozen=True)
class WakeBench:
    """rows: of all owners; cycles_step, arena: of a training step on a board, and its bytes; None: not measured."""

    rows: list[Told]
    cycles_step: int | None = None
    arena: int | None = None

    def as_json(self) -> dict[str, Any]:
        words: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(row.word for row in self.rows):
            rows = [row for row in self.rows if row.word == name]
            words[name] = {"owners": len(rows)}
            words[name] |= {
                key: {
                    "base": round(float(np.mean([getattr(row, key)[0] for row in rows])), 4),
                    "adapted": round(float(np.mean([getattr(row, key)[1] for row in rows])), 4),
                }
                for key in ("recall", "others", "false_accepts_per_hour", "confusables", "talk")
            }
            words[name]["merged"] = round(float(np.mean([row.merged for row in rows])), 4)
        details = [asdict(row) for row in self.rows]
        return {"words": words, "cycles_step": self.cycles_step, "arena": self.arena, "rows": details}


@functools.cache
def word_of(name: str) -> WakeWord:
    """A wake word as `edgelora import` of its manifest makes it."""
    return imported(network_of(name), load_manifest(manifest_of(name)))


def bench_wake(
    words: Sequence[str] = tuple(PHRASES),
    owners: int = 8,
    enrolments: int = 10,
    choosing: bool = False,
    after: int = 0,
    keep: Path | None = None,
    progress: Progress = no_progress,
    prompts: Sequence[str] | None = None,
) -> WakeBench:
    """Teaches each word so many owners, beyond the first `after`.

    choosing: those that settings were chosen on, with other prompts; keep: a folder in which results are kept, and
    taken by the same bench of the same sources; prompts: some of their languages, all by default.
    """
    rows: list[Told] = []
    able = CHOOSING if choosing else JUDGING
    languages = tuple(one for one in able if prompts is None or one in prompts)
    if not languages:
        raise InputError(f"prompts in {', '.join(prompts or ())}: choose from {', '.join(able)}")
    people = {name: _unheard(word_of(name), DEVELOPMENT if choosing else OWNERS, after, owners) for name in words}
    for number in range(owners):
        for name in words:
            person = people[name][number]
            made = functools.partial(_teach_and_score, name, person, enrolments, languages)
            row = _kept(keep, f"{name}-{person.name}-{enrolments}-{'-'.join(languages)}", made) if keep else made()
            rows.append(row)
            progress(len(rows), len(words) * owners, f"{name} {person.name} {row.recall[1]:.2f}")
    return WakeBench(sorted(rows, key=lambda row: words.index(row.word)))


def _kept(folder: Path, name: str, make: Callable[[], Told]) -> Told:
    """The result of this name that is kept in the folder; it is made first if there is none of these sources."""
    path = folder / f"{name}-{_sources()}.json"
    if not path.exists():
        write_atomic(path, json.dumps(asdict(make())).encode())
    told: dict[str, Any] = json.loads(path.read_text())
    for key, value in told.items():
        told[key] = tuple(value) if isinstance(value, list) else value
    return Told(**told)


@functools.cache
def _sources() -> str:
    """A digest of what learns, with its replay set, and of what measures."""
    files = [*sorted(path for path in REPLAY.parent.iterdir() if path.is_file()), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _unheard(word: WakeWord, people: Sequence[Person], after: int, count: int) -> list[Person]:
    """The first people whom the base does not hear, beyond `after`. InputError if there are too few."""
    said = _phrase(word)

    def unheard(person: Person) -> bool:
        streams = _heard(word, [(person, said, i) for i in range(TRIED)], "chosen")
        return scored(word, None, Streams(streams, [], [], [])).own.share < UNHEARD

    found = list(islice(filter(unheard, people), after + count))
    if len(found) < after + count:
        raise InputError(f"only {len(found)} people are not heard by {word.base.name}: give fewer --owners")
    return found[after:]


def _phrase(word: WakeWord) -> str:
    return PHRASES[Path(word.base.name).stem].said


def _heard(word: WakeWord, lines: Sequence[tuple[Person, str, int]], seed: str) -> list[Frames]:
    return [word.heard(sound) for sound, _ in say_all(lines, SEEDS[seed])]


@functools.cache
def _prompt_rows(language: str) -> NDArray[np.int16]:
    """The front end's rows of all prompts of a language, as one stream."""
    return AudioFrontEnd().feed(np.concatenate([sound for _, sound in load_prompts(language)]))


@dataclass(frozen=True)
class _Judges:
    """What judges all owners of a word, and what the base makes of it."""

    others: list[Frames]
    prompts: list[Frames]
    base: StreamScore

    @classmethod
    @functools.cache
    def of(cls, name: str, languages: tuple[str, ...]) -> _Judges:
        word = word_of(name)
        others = _heard(word, [(person, _phrase(word), 0) for person in OTHERS], "new")
        prompts = [word.inputs(_prompt_rows(one)) for one in languages]
        return cls(others, prompts, scored(word, None, Streams([], others, [], prompts)))


def taught(person: Person, name: str, enrolments: int) -> Owner:
    """What an owner records: the word, close phrases once, and a minute of talking."""
    phrase = PHRASES[name]
    kinds = (
        [(person, phrase.said, i) for i in range(enrolments)],
        [(person, text, 0) for text in phrase.misses],
        [(person, text, 0) for text in TALK],
    )
    return Owner(
        *(
            [Recorded(line[1], sound) for line, (sound, _) in zip(lines, say_all(lines, SEEDS["taught"]), strict=True)]
            for lines in kinds
        )
    )


def _teach_and_score(name: str, person: Person, enrolments: int, languages: tuple[str, ...]) -> Told:
    word, judges = word_of(name), _Judges.of(name, languages)
    found = learn(word, taught(person, name, enrolments), shipped(name))
    own = _heard(word, [(person, _phrase(word), 100 + i) for i in range(NEW)], "new")
    close = _heard(word, [(person, text, i) for text in PHRASES[name].confusables for i in range(5)], "new")
    talk = _heard(word, [(person, text, i) for text in OTHER_TALK for i in range(2)], "new")
    streams = Streams(own, judges.others, close, judges.prompts)
    base = scored(word, None, Streams(own, [], close, []))
    used = found.adapter if found.judgement.better else None  # what is in use afterwards
    rule = found.word if found.judgement.better else word
    now = scored(rule, used, streams)
    said = [scored(one, adapter, Streams(talk, [], [], [])).own.share for one, adapter in ((word, None), (rule, used))]
    return Told(
        name,
        person.name,
        enrolments,
        found.judgement.better,
        rule.rule.cutoff,
        rule.rule.window,
        (base.own.share, now.own.share),
        (judges.base.others.share, now.others.share),
        (base.misses.share, now.misses.share),
        (said[0], said[1]),
        (judges.base.speech.per_hour, now.speech.per_hour),
        now.speech.hours,
        _merged(rule, used, own),
    )


def _merged(word: WakeWord, adapter: bytes | None, own: Sequence[Frames]) -> float:
    """The recall of the merged and refitted `.tflite`, imported again."""
    if adapter is None:
        return scored(word, None, Streams(own, [], [], [])).own.share
    name = Path(word.base.name).stem
    source = find_source(network_of(name), bytes.fromhex(word.base.base_id), name, word.base.elm)
    merged = import_tflite(merge_tflite(source, adapter, refit=True).file(f"{name}.tflite"))
    merged.signal = word.base.model.signal
    return scored(
        WakeWord(Base(f"{name}.elm", pack_model(merged, name), merged), word.rule), None, Streams(own, [], [], [])
    ).own.share


def step_on_board(link: Link, clock_hz: int | None) -> tuple[int | None, int]:
    """(cycles of a training step of `STEP_WORD`, bytes of its arena) on a board, by the recipe of `wake learn`: the
    mean of a micro-batch.

    clock_hz: the board's; None if unknown, and so are the cycles.
    """
    word = word_of(STEP_WORD)
    settings = RECIPE.settings(word.base.elm)
    learner = BoardLearner(link, word.base, settings, frames=word.frames)
    learner.begin(0)
    rng = np.random.default_rng(0)
    shape = (RECIPE.micro_batch, word.frames, *word.base.model.input.shape)
    x = rng.integers(-128, 127, shape).astype(np.int8)
    learner.train(x, np.arange(len(x), dtype=np.int8)[:, None] % 2, RECIPE.initial_rate)
    arena = Session(word.base.elm, *settings, frames=word.frames).arena_bytes
    return clock_hz and round(learner.train_us / learner.trained * clock_hz / 1e6), arena
