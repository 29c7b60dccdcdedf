"""Data on which nothing of the product was chosen: other axes of the smartwatches, other words by other voices."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace

from edgelora.learn.training.data.base import pretrained
from edgelora.model.datasets.dataset import Dataset, load_dataset, save_dataset
from edgelora.model.datasets.har import load_har
from edgelora.model.datasets.keywords import FORMULA, PARTS, PRETRAINING, Recording, record
from edgelora.model.datasets.speech import CACHE, Voice
from edgelora.model.floatnet.layers import FloatNet

AXES = {"acceleration": slice(0, 3), "rotation": slice(3, 6)}  # channels of the watches' windows
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NO_DIGITS = (
    "yes no up down left right on off stop go bed bird cat dog happy house tree follow learn visual forward backward "
    "water music table"
)
# espeak-ng's readers of other languages, which read English with an accent; none is in `keywords`.
SPEAKERS = ("sk+m2", "lt+f1", "sq+m4", "ca+f5", "et+Mario", "sl+steph", "id+f2", "cy+m6", "bg+m1", "lv+f4")


@dataclass(frozen=True)
class Divided:
    """The pretraining data without a subject, and the subject's own."""

    pretrain: Dataset
    train: Dataset
    test: Dataset


def axes(subject: str, which: str) -> Divided:
    """Windows of one sensor of the watch, [N, 1, 100, 3], with a subject (1 to 6) held out."""
    whole, chosen = load_har(int(subject)), AXES[which]
    parts = (replace(part, x=part.x[..., chosen], signal=None) for part in (whole.pretrain, whole.train, whole.test))
    return Divided(*parts)


def pretrained_axes(subject: str, seed: int, which: str) -> FloatNet:
    """A base for one sensor, of all subjects but one, not augmented."""
    return pretrained(f"har-{which}-{subject}", lambda: axes(subject, which).pretrain, seed)


@dataclass(frozen=True)
class Digits:
    """Spoken digits of a speaker, `clips` of each to train on; the parts are made on first use."""

    speaker: str
    clips: int

    @property
    def pretrain(self) -> Dataset:
        return _spoken(PRETRAINING, replace(PARTS["pretrain"], keyword_clips=6, other_clips=15, silent_clips=6))

    @property
    def train(self) -> Dataset:
        n = self.clips
        how = replace(PARTS["train"], keyword_clips=n, other_clips=n, silent_clips=n)
        return _spoken([Voice("espeak-ng", self.speaker)], how)

    @property
    def test(self) -> Dataset:
        how = replace(PARTS["test"], keyword_clips=20, other_clips=30, silent_clips=15)
        return _spoken([Voice("espeak-ng", self.speaker)], how)


def pretrained_digits(seed: int) -> FloatNet:
    """A base for digits, of the keyword base's voices."""
    return pretrained(f"digits-{_key(PRETRAINING, PARTS['pretrain'])}", lambda: Digits("", 0).pretrain, seed)


def _key(voices: list[Voice], how: Recording) -> str:
    made_by = repr((voices, asdict(how), DIGITS, NO_DIGITS, FORMULA))
    return hashlib.sha256(made_by.encode()).hexdigest()[:12]


def _spoken(voices: list[Voice], how: Recording) -> Dataset:
    path = CACHE / f"digits-{_key(voices, how)}.npz"
    if not path.exists():
        save_dataset(record(voices, how, DIGITS, NO_DIGITS), path)
    return load_dataset(path)
