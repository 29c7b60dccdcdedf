"""`edgelora bench wakewords`: deployed wake words on hours of other speech.

The networks are those of the package pymicro-wakeword; front end and kernels are the board's own, on the host twin.
With `oracle`, outputs are compared with TensorFlow Lite Micro and decisions with pymicro-wakeword; both must be equal.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import MissingPackage
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.formats.wake_manifest import load_manifest, model_beside
from edgelora.core.front_ends import AUDIO_HOP, AUDIO_SIZE, AUDIO_SPAN, AudioFrontEnd
from edgelora.core.twin.session import Session
from edgelora.model.datasets import speech
from edgelora.model.datasets.prompts import PROMPTS, load_prompts
from edgelora.model.datasets.speech import RATE, Voice
from edgelora.model.importers.tflite.convert import import_tflite

from .oracles import as_firmware, micro_frontend, micro_outputs, wakeword_decisions

WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
# Of espeak-ng, none of them breathy: those draw anew each time.
SPEAKERS = ("en-us", "en-gb", "en-gb-scotland", "en-us+f4", "en-gb+m4", "en-us-nyc", "en-gb-x-gbclan", "en-us+m7")
SPOKEN = "spoken"  # in place of a language: the wake words themselves
PAUSE = 8000  # samples after each of them


@dataclass(frozen=True)
class WakeWord:
    """A network with its author's decision rule: the mean of `window` probabilities above `cutoff`."""

    name: str
    phrase: str
    file: bytes
    cutoff: float
    window: int


@dataclass(frozen=True)
class Heard:
    """A wake word on a language's prompts, or on the wake words as `SPEAKERS` speak them.

    accepts: how often it was taken to be said; recordings: how many there were, and accepted: in how many it was.
    frames: inferences; different: those whose output is not TensorFlow Lite Micro's; disagreed: recordings on which
    pymicro-wakeword decides otherwise. None: not asked.
    """

    word: str
    language: str
    hours: float
    accepts: int
    recordings: int
    accepted: int
    frames: int
    different: int | None = None
    disagreed: int | None = None

    @property
    def per_hour(self) -> float:
        return round(self.accepts / self.hours, 3)


@dataclass(frozen=True)
class WakeWordsBench:
    """All rows. Those of prompts add up to `totals`, a row for each word."""

    rows: list[Heard]

    @property
    def totals(self) -> list[Heard]:
        return [_sum(word, [r for r in self.rows if r.word == word and r.language != SPOKEN]) for word in WAKE_WORDS]

    def as_json(self) -> dict[str, Any]:
        spoken = [row for row in self.rows if row.language == SPOKEN]
        return {
            "prompts": [asdict(row) | {"per_hour": row.per_hour} for row in self.totals],
            "languages": [asdict(row) for row in self.rows if row.language != SPOKEN],
            "spoken": list(map(asdict, spoken)),
        }


def _sum(word: str, rows: Sequence[Heard]) -> Heard:
    values: dict[str, Any] = {"word": word, "language": " ".join(row.language for row in rows)}
    for field in fields(Heard)[2:]:
        parts = [getattr(row, field.name) for row in rows]
        values[field.name] = None if None in parts else sum(parts)
    return Heard(**values)


def manifest_of(name: str) -> Path:
    """The manifest of one of `WAKE_WORDS`. MissingPackage without pymicro-wakeword."""
    found = find_spec("pymicro_wakeword")
    if found is None or found.origin is None:
        raise MissingPackage("the wake words are in the package pymicro-wakeword: pip install pymicro-wakeword")
    return Path(found.origin).parent / "models" / f"{name}.json"


def wake_word(name: str) -> WakeWord:
    """One of `WAKE_WORDS`."""
    return of_manifest(manifest_of(name))


def of_manifest(path: Path) -> WakeWord:
    """The wake word of a manifest."""
    manifest = load_manifest(path)
    file = model_beside(path, manifest).read_bytes()
    return WakeWord(path.stem, manifest.wake_word, file, manifest.cutoff, manifest.window)


def bench_wakewords(
    languages: Sequence[str] | None = None,
    oracle: bool = False,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> WakeWordsBench:
    """Runs each wake word on prompts in these languages, or all, and on itself, in parallel processes."""
    chosen = [*(languages or PROMPTS), SPOKEN]
    rows: list[Heard] = []
    for done, heard in enumerate(in_parallel(listen, [(language, oracle) for language in chosen], workers), 1):
        rows += heard
        progress(done, len(chosen), heard[0].language)
    return WakeWordsBench(rows)


@dataclass(frozen=True)
class Stream:
    """Recordings one after another, int16; and what front ends make of them, once for all words."""

    sounds: Sequence[NDArray[np.int16]]

    @functools.cached_property
    def samples(self) -> NDArray[np.int16]:
        return np.concatenate(self.sounds)

    @functools.cached_property
    def ends(self) -> NDArray[np.int64]:
        """Of each recording, in samples."""
        return np.cumsum([len(sound) for sound in self.sounds])

    @functools.cached_property
    def firmware(self) -> NDArray[np.int8]:
        """Our features, int8 as in deployed firmware."""
        return AudioFrontEnd("firmware").feed(self.samples)

    @functools.cached_property
    def theirs(self) -> NDArray[np.int16]:
        """Those of pymicro-features."""
        return micro_frontend(self.samples)


def listen(language: str, oracle: bool) -> list[Heard]:
    """Runs every wake word on a language's recordings, or on itself, as one stream."""
    words = [wake_word(name) for name in WAKE_WORDS]
    if language == SPOKEN:
        return [_heard(word, language, Stream(_spoken(word)), oracle) for word in words]
    stream = Stream([sound for _, sound in load_prompts(language)])
    return [_heard(word, language, stream, oracle) for word in words]


def _spoken(word: WakeWord) -> list[NDArray[np.int16]]:
    """Its phrase by all speakers, and after each a pause."""
    found = []
    for speaker in SPEAKERS:
        sound = speech.speak(Voice("espeak-ng", speaker), word.phrase, 1.0, 0.0)
        loud = np.round(sound * 20000 / np.abs(sound).max()).astype(np.int16)
        found.append(np.concatenate([loud, np.zeros(PAUSE, np.int16)]))
    return found


def _heard(word: WakeWord, language: str, stream: Stream, oracle: bool) -> Heard:
    model, ends = import_tflite(word.file), stream.ends
    outputs = run(model, frames(model, stream.firmware))
    accepts = begins(decide(word, probabilities(model, outputs)))
    accepted = by_recording(model, accepts, ends)
    hours = round(len(stream.samples) / RATE / 3600, 4)
    counts = (hours, int(accepts.sum()), len(ends), int(accepted.sum()), len(outputs))
    if not oracle:
        return Heard(word.name, language, *counts)
    different = np.any(outputs != micro_outputs(word.file, frames(model, as_firmware(stream.theirs))), axis=1)
    own = decisions(word, stream.samples)
    theirs = wakeword_decisions(manifest_of(word.name), stream.theirs)
    disagreed = by_recording(model, begins(own), ends) != by_recording(model, begins(theirs), ends)
    return Heard(word.name, language, *counts, int(different.sum()), int(disagreed.sum()))


def decisions(word: WakeWord, samples: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Whether the word is accepted at every frame of a sound, as the Python package computes features."""
    model = import_tflite(word.file)
    return decide(word, probabilities(model, run(model, frames(model, AudioFrontEnd(model.input).feed(samples)))))


def frames(model: QuantModel, rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """Rows of features, int8 [n, 40], as inputs of a network, as many as it takes each time."""
    each = model.input.size // AUDIO_SIZE
    return rows[: len(rows) // each * each].reshape(-1, model.input.size)


def run(model: QuantModel, inputs: NDArray[np.int8]) -> NDArray[np.int8]:
    """A streaming network's outputs [frames, outputs] for its inputs [frames, values]."""
    session = Session(pack_model(model), bytes(len(model.ops)), "infer", 1)
    found = np.zeros((len(inputs), model.output.size), np.int8)
    for i, frame in enumerate(inputs):
        session.infer(frame)
        found[i] = session.logits
    return found


def probabilities(model: QuantModel, outputs: NDArray[np.int8]) -> NDArray[np.float64]:
    """Of each frame, from its output."""
    return (outputs[:, 0].astype(np.float64) - model.output.zero_point) * model.output.scale


def decide(word: WakeWord, p: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the decision rule accepts the word, at every frame."""
    sums = np.cumsum(np.concatenate([[0.0], p]))
    said = np.zeros(len(p), bool)
    said[word.window - 1 :] = (sums[word.window :] - sums[: -word.window]) / word.window > word.cutoff
    return said


def begins(said: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The frames at which the decision becomes true."""
    first = said.copy()
    first[1:] &= ~said[:-1]
    return first


def by_recording(model: QuantModel, said: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether it was said in each recording; ends: their samples, from the stream's beginning."""
    each = model.input.size // AUDIO_SIZE
    frame_ends = AUDIO_SPAN + (each * (np.arange(len(said)) + 1) - 1) * AUDIO_HOP
    found = np.zeros(len(ends), bool)
    found[np.minimum(np.searchsorted(ends, frame_ends[said]), len(ends) - 1)] = True
    return found
