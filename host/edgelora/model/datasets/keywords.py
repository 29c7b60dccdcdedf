"""Spoken words from speech synthesizers: the data of keyword spotting, made offline and the same from the same seed.

Ten keywords, other words ("unknown") and mere noise ("silence"), as in P. Warden, "Speech Commands", 2018,
arXiv:1804.03209, but spoken by espeak-ng and flite with varied speed and pitch, in clips of 1 s at 16 kHz with random
position, level and noise. Features are those of the board's own sound front end (SPEC.md, section 15): 98 rows of 40
mel bands, one every 10 ms. Half a second of the clip's noise precedes it, as with a listening microphone.

A base is pretrained on many voices of espeak-ng, native and non-native speakers of English, and
on one recorded speaker of flite. The voices that it is personalized to, `VOICES`, are never among them: other recorded
speakers, a whisperer, and non-native speakers with other first languages.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.signal import Normal
from edgelora.core.front_ends import AUDIO_UNIT, AudioFrontEnd, audio_signal

from .dataset import Dataset, load_dataset, save_dataset
from .speech import CACHE, RATE, SPEECH_VERSION, Voice, Wave, colored_noise, speak

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHER_WORDS = (
    "zero one two three four five six seven eight nine bed bird cat dog happy house tree follow learn visual "
    "forward backward water music table"
)
LABELS = [*KEYWORDS, "unknown", "silence"]
BEFORE = RATE // 2  # samples of noise before a clip, from which the front end learns it
ROWS = 98  # of a clip
# Silence is 0, which is what convolutions pad with; values reach 26, their deviation in pretraining clips is 6.
SIGNAL = audio_signal(ROWS, 25, Normal(AUDIO_UNIT, 0.0, 6.0))
VOICES = {
    "awb": Voice("flite", "awb", 130),  # a Scot
    "kal": Voice("flite", "kal16", 105),
    "slt": Voice("flite", "slt", 170),
    "whisper": Voice("espeak-ng", "en-029+whisper"),
    "german": Voice("espeak-ng", "de+Annie"),
    "polish": Voice("espeak-ng", "pl+f4"),
    "spanish": Voice("espeak-ng", "es+Gene"),
}
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-us-nyc", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
SPEAKERS = (
    "m1 f1 m2 f2 m3 f3 m4 m5 f5 m6 m7 m8 croak Alex Alicia Andrea Andy Denis Hugo Jacky Lee Marco Mario Michael Mike "
    "Reed adam anika antonio aunty belinda boris david ed grandma grandpa gustave ian john klatt linda max miguel "
    "pablo paul quincy rob shelby steph travis victor zac"
)
FOREIGN = ("fr-fr", "it", "nl", "pt-br", "ru", "sv", "tr")  # languages of no voice in `VOICES`


def _speaking(who: list[str], accents: Sequence[str]) -> list[Voice]:
    """espeak-ng's speakers, each with one of the accents in turn."""
    return [Voice("espeak-ng", f"{accent}+{name}") for accent, name in zip(cycle(accents), who, strict=False)]


PRETRAINING = [
    *_speaking(SPEAKERS.split(), ACCENTS),
    *(Voice("flite", "rms", pitch) for pitch in (80, 110, 150, 200)),
    *_speaking(SPEAKERS.split()[1::2], FOREIGN),
]


@dataclass(frozen=True)
class Recording:
    """How a part of the data is made. Ranges are drawn from uniformly, per clip."""

    keyword_clips: int  # of each keyword and voice
    other_clips: int  # of any other words, of each voice
    silent_clips: int  # of each voice
    seed: int
    speed: tuple[float, float] = (0.8, 1.25)  # relative to the voice's default
    pitch: tuple[float, float] = (-3.0, 3.0)  # semitones from the voice's default
    stretch: tuple[float, float] = (1.0, 1.0)  # resampling, which changes the vocal tract
    snr_db: tuple[float, float] = (5.0, 30.0)  # of the word
    level_db: tuple[float, float] = (-30.0, -15.0)  # rms of the word, of full scale


PARTS = {
    "pretrain": Recording(10, 25, 10, 1, stretch=(0.8, 1.2), snr_db=(0, 35)),
    "known": Recording(1, 2, 1, 2),  # more of the pretraining voices, to test on
    "train": Recording(10, 10, 10, 3),
    "test": Recording(25, 40, 25, 4),
}


@dataclass(frozen=True)
class KwsData:
    """Keyword spotting with one voice held out; the parts are generated on first use.

    pretrain, known: the pretraining voices', to train and to test on; train, test: the held-out voice's.
    """

    voice: str

    @property
    def pretrain(self) -> Dataset:
        return spoken(PRETRAINING, "pretrain")

    @property
    def known(self) -> Dataset:
        return spoken(PRETRAINING, "known")

    @property
    def train(self) -> Dataset:
        return spoken([VOICES[self.voice]], "train")

    @property
    def test(self) -> Dataset:
        return spoken([VOICES[self.voice]], "test")

    def takes(self, part: str) -> list[tuple[NDArray[np.int16], int]]:
        """Microphone signals of the held-out voice, int16 [24000, 1], with labels: of `train` or `test`."""
        voice, how = VOICES[self.voice], PARTS[part]
        lines = _script(voice, how)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            heard = pool.map(lambda line: clip(voice, line[1], line[2], how)[:, None], lines)
            return list(zip(heard, (line[0] for line in lines), strict=True))


def load_kws(voice: str) -> KwsData:
    """Words [N, 49, 10, 1] of a voice in `VOICES`, by its name, and of the pretraining voices."""
    if voice not in VOICES:
        raise InputError(f"voice {voice!r}: choose one of {', '.join(VOICES)}")
    return KwsData(voice)


def part_key(voices: list[Voice], part: str) -> str:
    """A cache key of a part of the data with these voices, which changes with any setting."""
    made_by = repr((voices, asdict(PARTS[part]), LABELS, OTHER_WORDS, FORMULA))
    return hashlib.sha256(made_by.encode()).hexdigest()[:12]


def spoken(voices: list[Voice], part: str, cache: Path = CACHE) -> Dataset:
    """A part of the data with these voices, from the cache if possible."""
    path = cache / f"{part}-{part_key(voices, part)}.npz"
    if not path.exists():
        save_dataset(record(voices, PARTS[part]), path)
    return load_dataset(path)


def record(
    voices: Sequence[Voice], how: Recording, words: Sequence[str] = KEYWORDS, others: str = OTHER_WORDS
) -> Dataset:
    """Synthesizes, distorts and analyses every clip of a part. words: the keywords; others: those of "unknown"."""
    plan = [(voice, *line) for voice in voices for line in _script(voice, how, words, others)]

    def analysed(line: tuple[Voice, int, str, int]) -> NDArray[np.int16]:
        voice, _, word, repetition = line
        return features(clip(voice, word, repetition, how))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = np.array(list(pool.map(analysed, plan)), np.float32)
    (normal,) = SIGNAL.normals
    x = (rows * np.float32(normal.scale) - np.float32(normal.mean)) / np.float32(normal.std)
    return Dataset(x[..., None], np.array([line[1] for line in plan]), [*words, *LABELS[len(KEYWORDS) :]], SIGNAL)


def features(sound: NDArray[np.int16]) -> NDArray[np.int16]:
    """The front end's rows [98, 40] of the last second of a sound."""
    return AudioFrontEnd().feed(sound)[-ROWS:]


def _script(
    voice: Voice, how: Recording, keywords: Sequence[str] = KEYWORDS, other_words: str = OTHER_WORDS
) -> list[tuple[int, str, int]]:
    """The utterances of a voice: label, word (empty for silence) and number of the repetition."""
    others = _rng(voice, "", 0, how).permutation(np.resize(other_words.split(), how.other_clips))
    words = [(word, i) for word in keywords for i in range(how.keyword_clips)]
    words += [(str(word), i) for i, word in enumerate(others)]
    labelled = [(keywords.index(word) if word in keywords else len(keywords), word, i) for word, i in words]
    return labelled + [(len(keywords) + 1, "", i) for i in range(how.silent_clips)]


def _rng(voice: Voice, word: str, repetition: int, how: Recording) -> np.random.Generator:
    """A clip's own generator, so that clips are independent of each other."""
    who = f"{voice.program} {voice.identity} {voice.pitch:g}"
    return np.random.default_rng([how.seed, zlib.crc32(f"{who}: {word}".encode()), repetition])


def clip(voice: Voice, word: str, repetition: int, how: Recording) -> NDArray[np.int16]:
    """A microphone signal: `BEFORE` samples of noise, then a second with the word (or nothing) at a random position."""
    rng = _rng(voice, word, repetition + 1, how)
    level, snr = 10 ** (rng.uniform(*how.level_db) / 20), 10 ** (rng.uniform(*how.snr_db) / 20)
    noise = colored_noise(rng) * level / snr  # a second of noise that loops seamlessly
    second = noise.copy()
    if word:
        speed, pitch = rng.uniform(*how.speed), rng.uniform(*how.pitch)
        spoken = speak(voice, word, speed, pitch, rng.uniform(*how.stretch))[:RATE]
        start = rng.integers(0, RATE - len(spoken) + 1)
        second[start : start + len(spoken)] += spoken * level / np.sqrt(np.mean(spoken**2))
    heard: Wave = np.concatenate([noise[-BEFORE:], second])
    return np.floor(np.clip(heard, -1, 1) * 32767 + 0.5).astype(np.int16)


FORMULA = (BEFORE, ROWS, SIGNAL, SPEECH_VERSION)
